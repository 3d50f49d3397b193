"""What somebody else may add to fer_augment, through its public API alone."""

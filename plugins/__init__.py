"""The strategies that come with fer_augment, each an ordinary plugin."""

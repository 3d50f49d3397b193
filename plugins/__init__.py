"""The strategies shipped with fer_augment; each module is an ordinary plugin."""

"""The recipes that come with fer_augment, a YAML file each."""

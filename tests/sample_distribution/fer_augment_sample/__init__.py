"""A third-party plugin for fer_augment that uses the public API only."""

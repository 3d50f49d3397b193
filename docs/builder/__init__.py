"""The page about strategies and its pictures: written from what is installed, by `make docs`."""

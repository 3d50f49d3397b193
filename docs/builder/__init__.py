"""Generator of docs/strategies.md and its pictures from the installed strategies, run by `make docs`."""

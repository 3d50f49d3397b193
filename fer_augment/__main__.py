"""Run the command line with `python -m fer_augment`."""

from fer_augment.cli import main

if __name__ == "__main__":
    main()

"""`python -m jobdeck` is the command `jobdeck`."""

from jobdeck.cli import main

if __name__ == "__main__":
    main()

"""`python -m warmstart` is the command `warmstart`."""

from warmstart.cli.main import run

if __name__ == "__main__":
    run()

"""``python -m meanfield``: the command line."""

from meanfield.cli import program

if __name__ == "__main__":
    program()

"""`python -m sockproxy` and the installed `sockproxy`: the command line, which begins at `operating/cli/root.py`."""

from sockproxy.operating.cli.root import main

if __name__ == "__main__":
    main()

"""`python -m fssbench` is `fssbench`."""

from fssbench.cli.app import main

if __name__ == "__main__":
    main()

"""``python -m zodbsh``."""

from zodbsh.cli.main import main

if __name__ == "__main__":
    main()

"""zodbsh: a command-line shell and admin tool for ZODB."""

__version__ = "0.1.0"

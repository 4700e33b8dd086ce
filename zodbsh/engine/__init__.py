"""The bulk pass over a database, what it yields, and the questions asked of that."""

from __future__ import annotations


def engine_name() -> str:
    """Return which engine `zodbsh.engine.chosen` picks, ``native`` or ``python``, without loading it."""
    import os
    from importlib.util import find_spec

    twin = os.environ.get("ZODBSH_ENGINE") == "python"
    return "python" if twin or find_spec("zodbsh.engine._bulk") is None else "native"

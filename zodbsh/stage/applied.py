"""Whether a stage was committed already: a commit names the stage that it applies.

Between a commit and the removal of its stage a process may die. The
transaction's extension holds the stage's id, so what is left over is known for
what it is, and is never applied twice.
"""

from __future__ import annotations

from zodbsh.db.changes import STAGE_KEY
from zodbsh.errors import Unsupported
from zodbsh.record.decode import RecordError, decode_pickle
from zodbsh.record.values import Dict
from zodbsh.source.base import Source
from zodbsh.stage.model import Stage


def applied_by(source: Source, stage: Stage) -> int | None:
    """Return the tid of the transaction that committed this stage, None where none did.

    Looks through the transactions after the stage's base; a storage that cannot
    list them is not asked.
    """
    if not stage.id or source.last_tid <= stage.base_tid:
        return None
    try:
        for transaction in source.transactions(stage.base_tid + 1):
            if stage_id(transaction.extension) == stage.id:
                return transaction.tid
    except Unsupported:
        return None
    return None


def stage_id(extension: bytes) -> str:
    """Return the stage's id that a transaction's extension names, empty where it names none."""
    # The key is looked for first: an extension is a pickle, and mostly somebody else's.
    if STAGE_KEY.encode() not in extension:
        return ""
    try:
        value, _ = decode_pickle(extension)
    except RecordError:
        return ""
    found = value.get(STAGE_KEY) if isinstance(value, Dict) else None
    return found if isinstance(found, str) else ""

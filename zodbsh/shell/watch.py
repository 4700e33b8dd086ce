"""Noticing commits that the user's own code makes (``transaction.commit()``)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from zodbsh.db.writer import CannotSave
from zodbsh.ids import tid_text
from zodbsh.render.sizes import count_text
from zodbsh.shell.review import silent_line

if TYPE_CHECKING:
    from zodbsh.shell.interpreter import Shell


class CommitWatch:
    """A synchronizer of the transaction manager that counts what each commit held."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._before = False
        self._committed = False
        self._told_closed = False
        self.quiet = False
        # The manager keeps synchronizers weakly: the shell holds this one.
        shell.home.transaction.registerSynch(self)

    def beforeCompletion(self, _transaction: Any) -> None:  # noqa: N802 - ISynchronizer's name
        """Note whether the transaction holds anything."""
        self._before = self._shell.home.dirty_count() > 0

    def afterCompletion(self, transaction: Any) -> None:  # noqa: N802 - ISynchronizer's name
        """Note how the user's own code ended the transaction."""
        if self.quiet:
            return
        if transaction.status == "Committed":
            self._committed = self._committed or self._before
        else:
            # An abort forgets everything that a commit would have done.
            self._shell.home.undoing.clear()

    def newTransaction(self, _transaction: Any) -> None:  # noqa: N802 - ISynchronizer's name
        """Nothing happens when a transaction begins."""

    def tell(self) -> None:
        """Say what was committed since the last call, what that commit missed, and what a ``db.close()`` dropped."""
        self._tell_commit()
        db = self._shell.home.db
        if db.closed and not self._told_closed:
            self._told_closed = True
            if db.dropped:
                count = count_text(db.dropped, "uncommitted object")
                self._shell.say(f"warning: dropped, because the database was closed: {count}")

    def _tell_commit(self) -> None:
        committed, self._committed = self._committed, False
        if not committed:
            return
        shell = self._shell
        shell.say(f"committed {tid_text(shell.home.base_tid)}")
        with suppress(CannotSave):
            for entry in shell.dirty().silent:
                shell.say(f"warning: {silent_line(entry)} and not marked changed: it was not saved")

    def close(self) -> None:
        """Stop watching."""
        with suppress(KeyError):
            self._shell.home.transaction.unregisterSynch(self)

"""What folders of backups and databases with a past hold, as values (see states.py)."""

import contextlib
import io
import logging
import os
import shutil
import stat
import tempfile
from contextlib import closing
from pathlib import Path

import ZODB.FileStorage
from fixtures import BACKUPS, DAMAGED, NAME, TIDS, WHOLE_STATE
from states import MISSING, Broken, content_digest, database_state, digest, stage_state
from ZODB.scripts import repozo

from zodbsh.db.spec import parse_spec
from zodbsh.filestorage.repository import BackupNotFound
from zodbsh.ids import MAX_ID
from zodbsh.ops.backups.check import EXTRA, check_backups
from zodbsh.ops.backups.restore import restore
from zodbsh.ops.undoing.putback import find_tail, put_back
from zodbsh.source.file import FileSource
from zodbsh.stage import store
from zodbsh.stage.applied import applied_by


def both(folder):
    """Return the state of the database and of its stage; one that was committed is none."""
    path = folder / NAME
    found = database_state(path)
    if found is MISSING:
        return (MISSING, MISSING)
    stage = store.load(parse_spec(str(path)))
    if stage is not None:
        with closing(FileSource(str(path))) as source:
            if applied_by(source, stage) is not None:
                return (found, MISSING)
    return (found, stage_state(path))


def only_database(folder):
    """Return the state of the database."""
    return (database_state(folder / NAME),)


def copies(folder):
    """Return the source with its blobs, what its backups restore to with zodbsh and with repozo, and noted states."""
    noted = folder / TIDS
    older = [int(line, 16) for line in noted.read_text().split()] if noted.exists() else []
    source = (stat.S_IMODE(os.stat(folder / NAME).st_mode), *_content(folder, NAME))
    with _scratch(folder) as scratch:
        newest = _restored(folder / BACKUPS, scratch / "newest")
        if newest is MISSING:
            return (source, MISSING, _by_repozo(folder / BACKUPS, scratch))
        # What is being removed may lack anything.
        found = check_backups(str(folder / BACKUPS)).findings if older else ()
        wrong = [finding for finding in found if finding.kind != EXTRA]
        lacking = [finding for finding in wrong if "manifest" not in finding.message and ".dat" not in finding.message]
        if lacking:
            raise Broken(f"backup --verify: {lacking[0].message}")
        states = tuple(_restored(folder / BACKUPS, scratch / f"{tid:x}", tid) for tid in older)
        return (source, newest, _by_repozo(folder / BACKUPS, scratch), *states)


def _restored(backups, target, tid=MAX_ID):
    target.mkdir()
    try:
        result = restore(str(backups), str(target / NAME), at=tid)
    except BackupNotFound:
        return MISSING
    # A step that was given its name last has neither a manifest nor a line in the .dat yet, which is said.
    wrong = [finding for finding in result.findings if finding.kind != "step-unchecked"]
    if wrong:
        raise Broken(f"restored without all blobs: {wrong[0]}")
    return _content(target, NAME)


def _by_repozo(backups, scratch):
    """Return the digest of what ZODB's own tool restores, which ZODB opens with the index that comes with it."""
    if not backups.is_dir():
        return MISSING
    target = scratch / "repozo"
    target.mkdir()
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            repozo.main(["-R", "-r", str(backups), "-o", str(target / NAME), "-D", "2999-01-01-00-00-00"])
        except (Exception, SystemExit) as error:
            if str(error).startswith("No files in repository"):
                return MISSING
            raise Broken(f"repozo restores nothing: {type(error).__name__}: {error} {said.getvalue()}") from error
    found = content_digest(target / NAME)
    logging.disable(logging.CRITICAL)
    try:
        storage = ZODB.FileStorage.FileStorage(str(target / NAME), read_only=True)
        storage.load(b"\0" * 8)
        storage.close()
    except Exception as error:
        raise Broken(f"ZODB cannot read what repozo restores: {type(error).__name__}: {error}") from error
    finally:
        logging.disable(logging.NOTSET)
    return found


def replaced(folder):
    """Return the database, and the one that it has replaced, which stays whole with its blobs."""
    found = database_state(folder / NAME)
    if found is MISSING or content_digest(folder / NAME) == (folder / WHOLE_STATE).read_text():
        return (found, MISSING)
    return (found, _content(folder, f"{NAME}.old", f"{NAME}.blobs.old"))


def packed(folder):
    """Return the database, and what it was before: a packed one's old file stays, with each blob it refers to."""
    found = both(folder)
    if content_digest(folder / NAME) == (folder / WHOLE_STATE).read_text():
        return (*found, MISSING)
    with _scratch(folder) as scratch:
        shutil.copyfile(folder / f"{NAME}.old", scratch / NAME)
        for name in (f"{NAME}.blobs", f"{NAME}.blobs.old"):
            if (folder / name).exists():
                shutil.copytree(folder / name, scratch / f"{NAME}.blobs", dirs_exist_ok=True)
        return (*found, database_state(scratch / NAME)[1:])


def recovered(folder):
    """Return the new database, and the damaged one with its blobs."""
    return (database_state(folder / NAME), _content(folder, DAMAGED))


def with_tail(folder):
    """Return the database; where something was taken off it, only if that can be put back."""
    found = database_state(folder / NAME)
    whole = (folder / WHOLE_STATE).read_text()
    if found is MISSING or content_digest(folder / NAME) == whole:
        return (found, "nothing was taken off")
    with _scratch(folder) as scratch:
        copy = scratch / "copy"
        shutil.copytree(folder, copy)
        spec = parse_spec(str(copy / NAME))
        put_back(spec, find_tail(spec, None))
        database_state(copy / NAME)
        if content_digest(copy / NAME) != whole:
            raise Broken("what was taken off is not what is put back")
    return (found, "what was taken off is kept")


def _content(folder, name, blobs=None):
    """Return the digests of a database's bytes and of its blobs."""
    path = folder / name
    top = folder / (blobs or f"{name}.blobs")
    files = sorted(
        (os.path.relpath(os.path.join(where, file), top), digest(Path(where, file).read_bytes()))
        for where, _, names in os.walk(top)
        for file in names
        if file.endswith(".blob")
    )
    return (content_digest(path) if path.exists() else MISSING, tuple(files))


@contextlib.contextmanager
def _scratch(folder):
    """Give a folder on the same disk."""
    made = Path(tempfile.mkdtemp(prefix="scratch", dir=folder.parent))
    try:
        yield made
    finally:
        shutil.rmtree(made)

"""What a disk may hold after a power failure, worked out from the calls that a program made.

A file that was not synced since has, page by page, any of the contents that it had since its last fsync, and any of the
lengths. A folder that was not synced since has seen any of its changes: in order up to some moment, or any subset. A
rename is done or not done. Nothing else is sure: not that a synced file has its name.
"""

import os
import random
import stat

PAGE = 4096
EXCHANGE = 2


class File:
    """A file: what is on the disk, and the contents that it had since."""

    def __init__(self, content=b""):
        self.durable, self.since = content, []

    @property
    def now(self):
        """The content that a reader sees."""
        return self.since[-1] if self.since else self.durable

    def change(self, content):
        """Take a new content."""
        self.since.append(content)

    def sync(self):
        """Have the present content on the disk."""
        self.durable, self.since = self.now, []

    def after(self, rand, mode):
        """Return a content that may be on the disk."""
        versions = [self.durable, *self.since]
        if mode in ("none", "all") or len(versions) == 1:
            return versions[0 if mode == "none" else -1]
        size = len(rand.choice(versions))
        pages = []
        for start in range(0, size, PAGE):
            page = rand.choice(versions)[start : start + PAGE]
            pages.append(page.ljust(min(PAGE, size - start), b"\0")[: size - start])
        return b"".join(pages)


class Folder:
    """A folder: the names on the disk, and the changes since."""

    def __init__(self):
        self.durable, self.since, self.now = {}, [], {}

    def change(self, change):
        """Make a change, now and, later or never, on the disk."""
        self.since.append(change)
        change.make(self, self.now)

    def sync(self):
        """Have all changes on the disk; one that another folder shares, there too, with all before it."""
        changes, self.since = self.since, []
        for change in changes:
            change.make(self, self.durable)
        for change in changes:
            for other in change.folders:
                if change in other.since:
                    until = other.since.index(change) + 1
                    done, other.since = other.since[:until], other.since[until:]
                    for earlier in done:
                        earlier.make(other, other.durable)


class Change:
    """One change of names: each part is a folder, a name, and what it names from then on (None: nothing)."""

    def __init__(self, *parts):
        self.parts = parts
        self.folders = [folder for folder, _, _ in parts]

    def make(self, folder, names):
        """Make the part of the change that is this folder's."""
        for where, name, node in self.parts:
            if where is folder:
                if node is None:
                    names.pop(name, None)
                else:
                    names[name] = node


class Disk:
    """A folder on a disk, followed through the calls of a program."""

    def __init__(self, root):
        self.root_path = os.path.realpath(root)
        self.inodes = {}
        self.root = self._load(self.root_path)

    def _load(self, path):
        folder = Folder()
        for entry in os.scandir(path):
            status = entry.stat(follow_symlinks=False)
            assert stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode), entry.path
            if entry.is_dir(follow_symlinks=False):
                node = self._load(entry.path)
            else:
                with open(entry.path, "rb") as file:
                    node = self.inodes[status.st_ino] = File(file.read())
            folder.durable[entry.name] = folder.now[entry.name] = node
        return folder

    def _find(self, path):
        """Return the folder in which a path is now, and its name there."""
        parts = [part for part in os.path.normpath(path).removeprefix(self.root_path).split(os.sep) if part]
        folder = self.root
        for part in parts[:-1]:
            folder = folder.now[part]
        return folder, parts[-1] if parts else None

    def _named(self, path):
        folder, name = self._find(path)
        return self.root if name is None else folder.now.get(name)

    def follow(self, call):
        """Take one call."""
        action = getattr(self, f"_{call.kind}", None)
        if action is not None:
            action(call)

    def _open(self, call):
        folder, name = self._find(call.name)
        if call.flag == 1:
            self.inodes[call.inode] = File()
            folder.change(Change((folder, name, self.inodes[call.inode])))
        else:
            folder.now[name].change(b"")

    def _write(self, call):
        file = self.inodes[call.inode]
        content = file.now.ljust(call.offset, b"\0")
        file.change(content[: call.offset] + call.data + content[call.offset + len(call.data) :])

    def _truncate(self, call):
        file = self.inodes[call.inode]
        file.change(file.now[: call.offset].ljust(call.offset, b"\0"))

    def _mkdir(self, call):
        folder, name = self._find(call.name)
        folder.change(Change((folder, name, Folder())))

    def _unlink(self, call):
        folder, name = self._find(call.name)
        folder.change(Change((folder, name, None)))

    _rmdir = _unlink

    def _link(self, call):
        node = self._named(call.name)
        folder, name = self._find(os.fsdecode(call.other))
        folder.change(Change((folder, name, node)))

    def _rename(self, call):
        source, old = self._find(call.name)
        target, new = self._find(os.fsdecode(call.other))
        # Two names may change places.
        left = target.now[new] if call.flag == EXCHANGE else None
        change = Change((source, old, left), (target, new, source.now[old]))
        source.change(change)
        if target is not source:
            target.change(change)

    def _fsync(self, call):
        node = self.inodes.get(call.inode)
        if node is None or isinstance(self._named(call.name), Folder):
            node = self._named(call.name)
        if node is not None:
            node.sync()

    def _changes(self):
        """Return all changes of names that may not be on the disk, in the order they were made in."""
        found, waiting = [], [self.root]
        while waiting:
            folder = waiting.pop()
            found += [change for change in folder.since if change not in found]
            inside = list(folder.durable.values()) + [part[2] for change in folder.since for part in change.parts]
            waiting += [node for node in inside if isinstance(node, Folder) and node is not folder]
        return found

    def crash(self, target, seed, mode):
        """Write one state that the disk may be in to an empty folder. Modes: none, all, order, any."""
        rand = random.Random(seed)
        changes = self._changes()
        if mode == "order":
            kept = set(changes[: rand.randint(0, len(changes))])
        elif mode == "any":
            kept = {change for change in changes if rand.random() < 0.5}
        else:
            kept = set(changes if mode == "all" else ())
        # However little is sure, often all of the data but not its name gets there, or the other way about.
        data = rand.choice(("none", "all", "any", "any")) if mode in ("order", "any") else mode
        self._write_out(self.root, target, rand, kept, data)

    def _write_out(self, folder, target, rand, kept, mode):
        names = dict(folder.durable)
        for change in folder.since:
            if change in kept:
                change.make(folder, names)
        for name, node in names.items():
            path = os.path.join(target, name)
            if isinstance(node, Folder):
                os.mkdir(path)
                self._write_out(node, path, rand, kept, mode)
            else:
                with open(path, "wb") as file:
                    file.write(node.after(rand, mode))

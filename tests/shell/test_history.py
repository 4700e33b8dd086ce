"""The history of each database: private, bounded, and without what begins with a space."""

from __future__ import annotations

import os

from prompt_toolkit.history import InMemoryHistory

from zodbsh.shell.history import MAX_BYTES, history_path, open_history


def entries(history):
    return list(history.load_history_strings())


def test_history_is_kept_for_each_database(tmp_path):
    """Two databases have two histories; the name tells nothing of the address."""
    folder = str(tmp_path / "history")
    one = open_history("/data/one.fs", folder=folder)
    one.append_string("root.a")
    one.append_string("root.b")
    open_history("zeo://user:secret@host", folder=folder).append_string("root.c")
    assert entries(open_history("/data/one.fs", folder=folder)) == ["root.b", "root.a"]
    assert "secret" not in history_path("zeo://user:secret@host", folder=folder)
    assert len(os.listdir(folder)) == 2


def test_history_is_private(tmp_path):
    """The file is its owner's alone, also where it was not before."""
    folder = str(tmp_path / "history")
    path = history_path("/data/one.fs", folder=folder)
    open_history("/data/one.fs", folder=folder)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(folder).st_mode & 0o777 == 0o700
    os.chmod(path, 0o644)
    open_history("/data/one.fs", folder=folder)
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_leading_space_keeps_a_line_out(tmp_path):
    """Such a line is neither in the file nor offered again; a repeated line is kept once."""
    history = open_history("db", folder=str(tmp_path))
    history.append_string(" password = 'x'")
    history.append_string("root.a")
    history.append_string("root.a")
    assert history.get_strings() == ["root.a"]
    assert entries(open_history("db", folder=str(tmp_path))) == ["root.a"]


def test_cells_of_several_lines_come_back_whole(tmp_path):
    """Line feeds within an entry are kept."""
    open_history("db", folder=str(tmp_path)).append_string("def f():\n    return 1")
    assert entries(open_history("db", folder=str(tmp_path))) == ["def f():\n    return 1"]


def test_history_can_be_off(tmp_path):
    """Nothing is created then."""
    assert isinstance(open_history("db", keep=False, folder=str(tmp_path / "none")), InMemoryHistory)
    assert not (tmp_path / "none").exists()


def test_link_in_place_of_the_file_is_not_followed(tmp_path):
    """A symbolic link is left alone; the session has its history in memory."""
    target = tmp_path / "target"
    target.write_text("kept")
    os.symlink(target, history_path("db", folder=str(tmp_path)))
    history = open_history("db", folder=str(tmp_path))
    history.append_string("root.a")
    assert isinstance(history, InMemoryHistory)
    assert target.read_text() == "kept"


def test_long_history_loses_its_older_half(tmp_path):
    """A file that has grown too long is cut at an entry."""
    path = history_path("db", folder=str(tmp_path))
    entry = "\n# 2026-01-01 00:00:00\n+{}\n"
    with open(path, "w") as file:
        file.writelines(entry.format(number) for number in range(MAX_BYTES // 30))
        file.write(entry.format("last"))
    kept = entries(open_history("db", folder=str(tmp_path)))
    assert kept[0] == "last"
    assert os.path.getsize(path) <= MAX_BYTES // 2
    assert all(text.isdigit() for text in kept[1:])

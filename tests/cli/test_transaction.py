"""run, status, diff, commit and abort through the front door; plain ZODB reads what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from program import zodbsh

ACCOUNT = """
from persistent import Persistent


class Account(Persistent):
    def __init__(self, balance=0):
        self.balance = balance
"""
ENVIRONMENT = {**os.environ, "NO_COLOR": "1"}
ENVIRONMENT.pop("PYTHONPATH", None)
ROOT = str(Path(__file__).parents[2])


class Shop:
    """A folder with a database, a module, and the program run in it."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "my.fs"
        (folder / "account.py").write_text(ACCOUNT)
        ZODB.DB(ZODB.FileStorage.FileStorage(str(self.path))).close()
        self.run("run", "-p", ".", "-m", "account", "--commit", "-c", "root.a = account.Account(10); root.n = 1")

    def start(self, *words, **settings):
        verb, *rest = words
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "zodbsh", verb, "my.fs", *rest],
            cwd=self.folder, env={**ENVIRONMENT, "PYTHONPATH": ROOT}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, **settings,
        )  # fmt: skip

    def run(self, *words, code=0, stdin=""):
        """Return stdout and stderr; check the exit status, and that nothing of zodbsh's own shows in a traceback."""
        done = zodbsh(words[0], "my.fs", *words[1:], cwd=self.folder, env=ENVIRONMENT, stdin=stdin, script=True)
        out, err = done.stdout, done.stderr
        assert done.returncode == code, (done.returncode, out, err)
        assert "zodbsh/" not in err
        return out, err

    def json(self, *words, **settings):
        return json.loads(self.run(*words, "--format", "json", **settings)[0])

    def root(self):
        """Return the root's entries and the account's balance, as plain ZODB reads them."""
        storage = ZODB.FileStorage.FileStorage(str(self.path), read_only=True)
        database = ZODB.DB(storage)
        with database.transaction() as connection:
            found = {key: getattr(value, "__dict__", value) for key, value in connection.root().items()}
            for key, value in connection.root().items():
                if hasattr(value, "_p_activate"):
                    value._p_activate()
                    found[key] = dict(value.__getstate__())
        database.close()
        return found


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "account", raising=False)
    yield Shop(tmp_path)
    sys.modules.pop("account", None)
    transaction.abort()


def test_what_a_run_says(shop):
    """The script has stdout to itself."""
    out, err = shop.run("run", "-p", ".", "-m", "account", "-c", "root.b = account.Account(1); print('hello')")
    assert out == "hello\n"
    assert err == "staged: 1 changed, 1 new     (zodbsh diff | commit | abort)\n"
    out, err = shop.run("run", "-c", "root.n")
    assert (out, err.splitlines()) == (
        "",
        [
            "goes on with what is staged: 1 changed, 1 new",
            "still staged: 1 changed, 1 new     (zodbsh diff | commit | abort)",
        ],
    )
    assert shop.run("run", "-q", "-c", "root.n = 5") == ("", "")


def test_scripts_from_anywhere(shop):
    """A file with arguments, standard input named or not."""
    (shop.folder / "script.py").write_text("import sys\nprint(__file__, sys.argv)\n")
    assert shop.run("run", "script.py", "--", "--year", "2026")[0] == "script.py ['script.py', '--year', '2026']\n"
    assert shop.run("run", "-", "one", stdin="import sys; print(sys.argv)")[0] == "['-', 'one']\n"
    assert shop.run("run", stdin="print(root.n)")[0] == "1\n"
    assert "no such script" in shop.run("run", "no.py", code=2)[1]
    assert "exclude each other" in shop.run("run", "--commit", "--dry-run", "-c", "1", code=2)[1]


def test_a_failing_script(shop):
    before = sorted(os.listdir(shop.folder))
    out, err = shop.run("run", "-c", "root.n = 2\n1/0", code=1)
    assert out == ""
    assert err.splitlines()[0] == "Traceback (most recent call last):"
    assert 'File "<code>", line 2, in <module>' in err
    assert err.splitlines()[-2:] == ["error: ZeroDivisionError: division by zero", "hint: Nothing was staged."]
    assert shop.run("run", "-c", "root.n = 2\nraise SystemExit(7)", code=7)[0] == ""
    assert sorted(os.listdir(shop.folder)) == before
    _, err = shop.run("run", "-c", "1/0", "--format", "json", code=1)
    assert json.loads(err)["error"]["code"] == "script-failed"


CLOSED = "warning: dropped, because the script closed the database: 1 uncommitted object\n"


@pytest.mark.parametrize(
    ("code", "said", "n"),
    [
        ("root.n = 2; transaction.commit(); db.close()", "", 2),
        ("root.n = 2; transaction.commit(); connection.close(); db.close()", "", 2),
        ("root.n = 2; db.close()", CLOSED, 1),
        ("db.close(); db.close()", "", 1),
    ],
)
@pytest.mark.parametrize("option", [(), ("--commit",), ("--dry-run",)])
def test_a_script_may_close_the_database(shop, code, said, n, option):
    """As most scripts do at their end; what was not committed then is gone, and that is said."""
    assert shop.run("run", *option, "-c", code) == ("", said)
    assert shop.root()["n"] == n
    assert shop.run("status")[0].startswith("nothing staged") or not shop.json("status")["staged"]


def test_a_script_that_closes_the_database_keeps_the_stage(shop):
    """Only what the script itself left uncommitted is dropped."""
    shop.run("run", "-c", "root.n = 2")
    goes_on = "goes on with what is staged: 1 changed\n"
    still = "still staged: 1 changed     (zodbsh diff | commit | abort)\n"
    assert shop.run("run", "-c", "assert root.n == 2; db.close()") == ("", goes_on + still)
    assert shop.run("run", "-c", "root.n = 3; db.close()") == ("", goes_on + still.replace("\n", "\n" + CLOSED))
    assert shop.run("run", "-c", "assert root.n == 2")[1] == goes_on + still


def test_a_run_that_commits_says_what_else_it_commits(shop):
    """What was staged before is a part of the transaction; with --quiet nothing is said."""
    shop.run("run", "-c", "root.n = 2")
    out, err = shop.run("run", "--commit", "-c", "root.a.balance = 3", "-p", ".")
    assert (out, err.splitlines()[0]) == ("", "goes on with what is staged: 1 changed")
    assert err.splitlines()[1].startswith("committed: ")
    assert err.endswith("  2 objects\n")
    shop.run("run", "-c", "root.n = 5")
    assert shop.run("run", "-q", "--commit", "-c", "pass") == ("", "")
    assert (shop.root()["n"], shop.root()["a"]) == (5, {"balance": 3})


def test_a_text_given_to_exit_is_printed_as_python_does(shop):
    """The exit status is 1."""
    said = "bye\nnothing was staged: the script ended with an error\n"
    assert shop.run("run", "-c", "import sys; sys.exit('bye')", code=1) == ("", said)


def test_from_a_run_to_a_commit(shop):
    shop.run("run", "-p", ".", "-c", "root.a.balance += 5; root.text = 'x\\ny'", "--note", "staged")
    status = shop.json("status")
    assert [(item["path"], item["oid"], item["class"], item["change"]) for item in status["staged"]] == [
        ("root.a", "0x01", "account.Account", "changed"),
        ("root", "0x00", "persistent.mapping.PersistentMapping", "changed"),
    ]
    assert len(status["base_tid"]) == 16
    assert shop.json("diff") == [
        {
            "path": "root.a", "oid": "0x01", "class": "account.Account", "change": "changed",
            "attributes": [{"name": "balance", "old": 10, "new": 15}],
        },
        {
            "path": "root", "oid": "0x00", "class": "persistent.mapping.PersistentMapping", "change": "changed",
            "attributes": [{"name": "['text']", "old": None, "new": "x\ny", "missing": "old"}],
        },
    ]  # fmt: skip
    assert [item["path"] for item in shop.json("diff", "root.a")] == ["root.a"]
    done = shop.json("commit", "--user", "carol")
    assert (done["objects"], len(done["tid"]), done["resolved"]) == (2, 16, [])
    assert shop.root() == {"a": {"balance": 15}, "n": 1, "text": "x\ny"}
    assert shop.json("status")["staged"] == []
    assert shop.json("commit") == {"tid": None, "time": None, "objects": 0, "resolved": []}
    since = shop.json("diff", "--from", status["base_tid"], "--to", done["tid"])
    assert [item["path"] for item in since] == ["root.a", "root"]
    assert not [name for name in os.listdir(shop.folder) if "stage" in name]


@pytest.mark.parametrize(
    ("spoil", "code", "error"),
    [
        (lambda data: data[:-1] + b"\0", 6, "error: my.fs is damaged at offset "),
        (lambda _: b"", 6, "error: my.fs is empty\n"),
        (lambda _: b"nonsense" * 20, 8, "error: my.fs is no FileStorage: it begins with b'nons'\n"),
    ],
)
@pytest.mark.parametrize("verb", ["commit", "status", "diff"])
def test_nothing_staged_on_what_is_no_sound_database(shop, spoil, code, error, verb):
    """An error, not "nothing to commit"; the hint for damage names a command that there is."""
    shop.path.write_bytes(spoil(shop.path.read_bytes()))
    out, err = shop.run(verb, code=code)
    assert out == ""
    assert err.startswith(error)
    if "offset" in error:
        hint = (
            "hint: `zodbsh inspect my.fs --ignore-damage` reads what comes before the damage; "
            "`zodbsh recover my.fs NEW` saves what is sound into a new file.\n"
        )
        assert err.endswith(hint)
        assert "; what follows is not shown" in shop.run("inspect", "--ignore-damage")[0]
        assert "zodbsh recover my.fs NEW" in shop.run("run", "-c", "pass", code=6)[1]
        assert "my.fs NEW` saves what is sound into a new file" in shop.run("pack", code=6)[1]


def test_abort_drops_and_says_so(shop):
    before = shop.path.read_bytes()
    shop.run("run", "-c", "root.n = 2")
    assert shop.json("abort") == {"dropped": True, "objects": 1}
    assert shop.run("abort")[0] == "nothing to drop\n"
    assert shop.path.read_bytes() == before


def test_a_conflict_end_to_end(shop):
    """Base, theirs and ours on stdout, the error on stderr, exit 5, the stage kept."""
    shop.run("run", "-p", ".", "-c", "root.a.balance = 11")
    storage = ZODB.FileStorage.FileStorage(str(shop.path))
    database = ZODB.DB(storage)
    with database.transaction() as connection:
        connection.root()["a"].balance = 50
    database.close()
    before = shop.path.read_bytes()
    assert shop.json("status")["staged"][0]["outdated"] is True
    out, err = shop.run("commit", code=5)
    assert out.splitlines()[2].split() == ["balance", "10", "50", "11"]
    told, hint = err.splitlines()
    assert told == "error: my.fs: root.a (0x01) was changed by another transaction since; nothing was written"
    assert hint.startswith("hint: ")
    out, err = shop.run("commit", "--format", "json", code=5)
    assert json.loads(out)["conflicts"][0]["attributes"] == [{"name": "balance", "base": 10, "theirs": 50, "ours": 11}]
    assert json.loads(err)["error"]["code"] == "conflict"
    assert shop.path.read_bytes() == before
    assert len(shop.json("status")["staged"]) == 1


def test_a_resolved_conflict_names_the_object(shop):
    """By its path, as ``status`` does."""
    shop.run("run", "--commit", "-c", "from BTrees.Length import Length; root.n = Length()")
    shop.run("run", "-c", "root.n.change(1)")
    database = ZODB.DB(ZODB.FileStorage.FileStorage(str(shop.path)))
    with database.transaction() as connection:
        connection.root()["n"].change(2)
    database.close()
    out, err = shop.run("commit")
    assert (out + err).splitlines()[1:] == [
        "conflicts resolved by their classes: root.n (0x02)",
        "classes of your application were imported and run to resolve conflicts",
    ]


def test_beside_a_writer(shop):
    """Another process holds the lock: a run stages, a commit says who is in the way, and comes later."""
    holder = shop.start("run", "-c", "import sys\nprint('held', flush=True)\nsys.stdin.read()")
    assert holder.stdout.readline() == "held\n"
    _, err = shop.run("run", "-p", ".", "-c", "root.a.balance = 11")
    assert err.splitlines()[-1].startswith("staged: 1 changed")
    assert f"locked by process {holder.pid}" in err
    told, hint = shop.run("commit", code=4)[1].splitlines()
    # What another process's command line holds is quoted on the same line.
    assert f"locked by process {holder.pid}" in told
    assert r"import sys\nprint" in told
    assert hint.startswith("hint: ")
    assert f"locked by process {holder.pid}" in shop.run("run", "--commit", "-c", "1", code=4)[1]
    assert len(shop.json("status")["staged"]) == 1
    holder.communicate("", timeout=30)
    assert holder.returncode == 0
    shop.run("commit")
    assert shop.root()["a"] == {"balance": 11}


def test_two_that_stage_at_once(shop):
    """The second one hears of it; the first one's changes are there."""
    code = "root[{!r}] = 1; import sys; print('ready', flush=True); sys.stdin.read()"
    first, second = (shop.start("run", "-c", code.format(name)) for name in ("one", "two"))
    for process in (first, second):
        assert process.stdout.readline() == "ready\n"
    first.communicate("", timeout=30)
    _, err = second.communicate("", timeout=30)
    assert (first.returncode, second.returncode) == (0, 5)
    assert err.splitlines()[0].endswith("my.fs.stage: another process staged changes meanwhile")
    assert shop.json("diff")[0]["attributes"][0]["name"] == "['one']"


def test_a_run_that_is_killed_stages_nothing(shop):
    before = sorted(os.listdir(shop.folder))
    process = shop.start("run", "-c", "root.n = 2; print('ready', flush=True); import time; time.sleep(60)")
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.communicate(timeout=30)
    assert shop.json("status")["staged"] == []
    assert sorted(os.listdir(shop.folder)) == before


def test_a_dry_run(shop):
    out, _ = shop.run("run", "--dry-run", "-c", "root.n = 2")
    assert out == "root  persistent.mapping.PersistentMapping 0x00  changed\n  ~ ['n']: 1 -> 2\n"
    assert shop.json("run", "--dry-run", "-c", "root.n = 2")["diff"][0]["attributes"] == [
        {"name": "['n']", "old": 1, "new": 2}
    ]
    assert shop.json("status")["staged"] == []


def test_warnings(shop):
    _, err = shop.run("run", "-c", "root.d = {}")
    shop.run("commit")
    _, err = shop.run("run", "-c", "root.d['x'] = 1\nclass Mine: pass\nroot.mine = Mine()")
    assert err.splitlines()[0] == "warning: class __main__.Mine cannot be imported by another process"
    shop.run("abort")
    _, err = shop.run("run", "-c", "root.d['x'] = 1")
    assert "root (persistent.mapping.PersistentMapping) was changed in place" in err
    assert shop.run("run", "-c", "root.a")[1] == "", "a reference seen is no reason to talk"
    _, err = shop.run("run", "-c", "root.a.balance")
    assert "class account.Account is missing (no module named 'account')" in err


def test_memory(shop):
    process = zodbsh("run", ":memory:", "-c", "root.x = 1")
    assert process.returncode == 0
    assert process.stderr == "warning: 1 object not kept: a database in memory ends with the process\n"


@pytest.fixture
def server(tmp_path):
    """A ZEO server on a FileStorage; its address."""
    pytest.importorskip("ZEO")
    pytest.importorskip("zodburi")
    code = (
        "import sys, ZEO, time\n"
        f"address, stop = ZEO.server({str(tmp_path / 'served.fs')!r})\n"
        "print(address[1], flush=True)\n"
        "sys.stdin.read()\n"
        "stop()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    port = int(process.stdout.readline())
    yield f"zeo://127.0.0.1:{port}"
    process.communicate("", timeout=30)


def test_over_a_server(server, tmp_path):
    """The same commands on a URI: the stage lies in the user's folder, conflicts are found, others see the result."""
    environment = {**ENVIRONMENT, "XDG_STATE_HOME": str(tmp_path / "state"), "HOME": str(tmp_path)}

    def on(*words, code=0):
        done = zodbsh(words[0], server, *words[1:], env=environment)
        assert done.returncode == code, done.stderr
        return done

    on("run", "--commit", "-c", "from persistent.mapping import PersistentMapping as M; root.a = M(x=1); root.b = M()")
    on("run", "-c", "from persistent.mapping import PersistentMapping as M; root.a['x'] = 2; root.a['new'] = M(y=1)")
    staged = json.loads(on("status", "--format", "json").stdout)["staged"]
    assert [(item["path"], item["change"]) for item in staged] == [("root.a", "changed"), ("root.a['new']", "new")]
    on("run", "--commit", "-c", "root.b")  # nothing of its own; it commits the stage it continues
    assert json.loads(on("diff", "--format", "json").stdout) == []
    on("run", "-c", "root.a['x'] = 3")
    on("run", "-c", "transaction.abort(); root.b['z'] = 1")
    assert json.loads(on("commit", "--format", "json").stdout)["objects"] == 2
    shown = on("run", "-c", "print(root.a['x'], dict(root.a['new']), dict(root.b))").stdout
    assert shown == "3 {'y': 1} {'z': 1}\n"
    on("run", "-c", "root.a['x'] = 4")
    on("run", "-c", "transaction.abort(); root.a['x'] = 5; transaction.commit()")
    assert "root.a (0x01) was changed by another transaction" in on("commit", code=5).stderr
    on("abort", "-y")
    assert list((tmp_path / "state").rglob("*.stage")) == []


def test_which_of_several_databases_it_is(shop):
    """A note names it, and the others; with a name, or with --quiet, there is none."""
    conf = "<zodb {0}>\n<filestorage>\npath {0}.fs\n</filestorage>\n</zodb>\n"
    (shop.folder / "z.conf").write_text(conf.format("my") + conf.format("other"))
    note = "z.conf has several databases; this is 'my'. For another: z.conf#other\n"

    def said(*words):
        done = zodbsh("run", "-c", "print(root.n)", *words, cwd=shop.folder, env=ENVIRONMENT)
        return done.stdout, done.stderr, done.returncode

    assert said("z.conf") == ("1\n", note, 0)
    assert said("z.conf#my") == said("z.conf", "-q") == ("1\n", "", 0)


def test_no_server_is_an_error(tmp_path):
    pytest.importorskip("zodburi")
    start = time.monotonic()
    done = zodbsh("status", "zeo://127.0.0.1:1?wait_timeout=1", env={**ENVIRONMENT, "HOME": str(tmp_path)})
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr.startswith("error: zeo://127.0.0.1:1?wait_timeout=1: ")
    assert done.stderr.endswith("hint: Is the server running? ?wait_timeout=N in the address waits N seconds for it.\n")
    assert time.monotonic() - start < 20

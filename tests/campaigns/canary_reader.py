"""Runs every reading command on the databases that standard input names, under an audit hook; its answers are JSON.

Each line is a folder with ``my.fs`` in it; the current folder is where a payload would leave its trace.
"""

import importlib
import json
import os
import pickle
import pkgutil
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from reading import LINES, SEEDS, Said, last_tid, read, said_problems

import zodbsh

FORBIDDEN = {
    "exec", "compile", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty",
    "subprocess.Popen", "pickle.find_class", "marshal.loads", "ctypes.dlopen", "ctypes.dlsym",
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
    "os.utime", "os.putenv", "os.kill", "shutil.rmtree", "builtins.input", "code.__new__", "function.__new__",
    "webbrowser.open",
}  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
seen: list[str] = []
# Whether a command runs now.
armed = threading.Event()


def hook(event, arguments):
    """Remember what no reading command may do."""
    if not armed.is_set():
        return
    if event == "open":
        path, mode, flags = arguments
        if (isinstance(flags, int) and flags & WRITES) or (isinstance(mode, str) and set(mode) & set("wax+")):
            seen.append(f"open {path!r} for writing")
    elif event == "import":
        seen.append(f"import {arguments[0]}")
    elif event in FORBIDDEN or event.startswith("socket."):
        seen.append(f"{event} {str(arguments)[:80]}")


def careless(words, path, tid):
    """What no command may do: load the saved index as what it is."""
    with open(f"{path}.index", "rb") as file:
        pickle.load(file)
    return Said(0, "", "")


def lines(folder):
    """Return the lines of words for one folder."""
    return LINES + (
        [["verify", "{}", "--manifest", str(folder / "manifest")]] if (folder / "manifest").exists() else []
    )


def main():
    """Warm up, arm the hook, answer."""
    for module in pkgutil.walk_packages(zodbsh.__path__, "zodbsh."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    warm = Path(sys.argv[1])
    for name, seed in SEEDS.items():
        folder = warm / name
        folder.mkdir()
        seed(folder / "my.fs")
        for words in [*LINES, ["verify", "{}", "--manifest", os.devnull]]:
            read(words, folder / "my.fs", last_tid(folder / "my.fs"))
    answer = careless if "careless" in sys.argv else read
    sys.addaudithook(hook)
    for line in sys.stdin:
        folder = Path(json.loads(line))
        problems = []
        for words in lines(folder):
            armed.set()
            said = answer(words, folder / "my.fs", "03f0000000000001")
            armed.clear()
            problems += said_problems(words, said)
            problems += [f"{words}: {what}" for what in seen]
            seen.clear()
        print(json.dumps(problems), flush=True)


if __name__ == "__main__":
    main()

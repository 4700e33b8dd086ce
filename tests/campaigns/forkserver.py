"""A warmed process that runs zodbsh's command line in a child for each request: a start costs a fork, not a second.

Started with the shim preloaded (shim.py). Reads one JSON request a line from descriptor 0, answers with one JSON line
on descriptor 1. Requests: argv, folder (the current one, and the root of what the shim watches), program (a script to
run in place of zodbsh), action, at, number, sticky, second, nosync, log, timeout, stdout (a path, or "closed",
"broken"), stderr, fsize (a limit on the size of files), stop_after (seconds until signal ``number``), later (seconds
that the clock of backups is ahead).
"""

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import resource
import runpy
import signal
import sys
import time

SHIM = ctypes.CDLL(None)
ACTIONS = {"count": 0, "kill": 1, "fail": 2, "signal": 3}


def warm():
    """Import whatever a command may import."""
    import zodbsh

    for module in pkgutil.walk_packages(zodbsh.__path__, "zodbsh."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    import BTrees.OOBTree
    import transaction
    import ZODB.blob
    import ZODB.DB
    import ZODB.FileStorage

    return BTrees, transaction, ZODB


def serve():
    """Answer requests; in a child, return the one that it is to run."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    # Whoever ends the tests with Ctrl-C ends them, and by the end of the requests this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.write(replies, b"ready\n")
    for line in requests:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os.close(replies)
            requests.close()
            return request
        os.write(replies, (json.dumps(wait(child, request)) + "\n").encode())
    sys.exit(0)


def wait(child, request):
    """Return how the child ended; kill one that hangs."""
    started = time.monotonic()
    hung, stopped = False, request.get("stop_after") is None
    pause = 0.0005
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        spent = time.monotonic() - started
        if not stopped and spent > request["stop_after"]:
            stopped = True
            os.kill(child, request["number"])
        if not hung and spent > request.get("timeout", 60):
            hung = True
            os.kill(child, signal.SIGKILL)
        time.sleep(pause)
        pause = min(pause * 1.2, 0.005)
    SHIM.shim_count.restype = SHIM.shim_fired.restype = SHIM.shim_refused_removals.restype = ctypes.c_long
    return {
        "status": -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status),
        "hung": hung,
        "seconds": time.monotonic() - started,
        "calls": SHIM.shim_count(),
        "fired": SHIM.shim_fired(),
        "refused_removals": SHIM.shim_refused_removals(),
    }


def become(request):
    """Make this process what the request asks for."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.chdir(request["folder"])
    os.umask(0o022)
    out = request["stdout"]
    if out == "closed":
        os.close(1)
    elif out == "broken":
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        os.close(writer)
    else:
        redirect(out, 1)
    redirect(request["stderr"], 2)
    log = -1
    if request.get("log"):
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if "fsize" in request:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["fsize"], request["fsize"]))
    # A second process of the same program would not share the generator's state either.
    import random

    random.seed()
    if request.get("later"):
        go_on(request["later"])
    sys.argv = ["zodbsh", *request["argv"]]
    number, long = ctypes.c_int, ctypes.c_long
    # As in any Python program; from here on it is zodbsh that is stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    SHIM.shim_arm.argtypes = [ctypes.c_char_p, number, long, number, number, long, number, number]
    SHIM.shim_arm(
        os.fsencode(os.path.realpath(request["folder"])), ACTIONS[request.get("action", "count")], request.get("at", 0),
        request.get("number", 0), int(request.get("sticky", False)), request.get("second", 0),
        int(request.get("nosync", True)), log,
    )  # fmt: skip


def go_on(seconds):
    """Have a backup take place later than now: two within a second wait for each other."""
    from datetime import timedelta

    from zodbsh.ops.backups import backup

    now = backup._now
    backup._now = lambda: now() + timedelta(seconds=seconds)


def redirect(path, descriptor):
    """Send a descriptor's output to a file."""
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(opened, descriptor)
    os.close(opened)


if __name__ == "__main__":
    warm()
    # Children share these pages as long as nobody counts through them.
    gc.collect()
    gc.freeze()
    REQUEST = serve()
    become(REQUEST)
    if REQUEST.get("program"):
        runpy.run_path(REQUEST["program"], run_name="__main__")
    else:
        from zodbsh.cli.main import main

        main()

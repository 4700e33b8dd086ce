"""The command line for tests: in this process, in a child of one warmed process, or in a process of its own.

Python's start and the imports cost more than most commands, and the tests run hundreds. So a server (this file, run as
a program) imports everything once and forks a child for each command line. The child has the working folder,
environment, umask and streams of the request, and nothing of an earlier one. What a Python reads while it starts
(PYTHON..., LANG) is the server's: a test of that needs a process of its own.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import zodbsh as package
from zodbsh.errors import ExitCode

SECONDS = 60
Completed = subprocess.CompletedProcess
PACKAGE = os.path.dirname(package.__file__)


class Run(NamedTuple):
    """A command's exit status, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def in_process(*arguments: object, session: Any = None) -> Run:
    """Run a command line in this process, as the shell's dot commands are."""
    from zodbsh.cli.context import AppContext
    from zodbsh.cli.dispatch import dispatch
    from zodbsh.render.output import Output

    out, err = io.StringIO(), io.StringIO()
    app = AppContext(session=session, defaults=Output(stdout=out, stderr=err))
    return Run(dispatch([str(argument) for argument in arguments], app), out.getvalue(), err.getvalue())


def zodbsh(
    *arguments: object, cwd: object = None, env: Mapping[str, str] | None = None, umask: int = -1,
    stdin: str | None = None, script: bool = False, **settings: Any,
) -> Completed[str]:  # fmt: skip
    """Run the program with nobody at its terminal; a traceback, a bug's exit status or a hang fails the test.

    ``script``: it runs somebody's code, whose traceback may be seen, but none of zodbsh's own frames. With other
    ``settings`` (of subprocess.run) it is a process of its own.
    """
    words = [str(argument) for argument in arguments]
    if settings:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        run = subprocess.run([sys.executable, "-P", "-m", "zodbsh", *words], cwd=cwd, env=env, umask=umask,
                             timeout=SECONDS, **{"text": True} | streams | settings)  # fmt: skip
    else:
        environment = dict(os.environ if env is None else env)
        run = _server().run(words, os.fspath(cwd or os.getcwd()), environment, umask, stdin)
    error = str(run.stderr)
    assert (f'File "{PACKAGE}{os.sep}' if script else "Traceback") not in error, error
    assert 0 <= run.returncode < ExitCode.BUG or run.returncode > 128, (words, run.returncode, error)
    return run


class Server:
    """The warmed process; standard streams go through files without a name, which both sides hold open."""

    def __init__(self) -> None:
        self.streams = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115 - closed with the server
        numbers = [file.fileno() for file in self.streams]
        self.process = subprocess.Popen([sys.executable, "-P", __file__, *map(str, numbers)], pass_fds=numbers,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip

    def run(self, words: list[str], cwd: str, env: dict[str, str], umask: int, stdin: str | None) -> Completed[str]:
        """Have a child be the program; without ``stdin`` it reads the null device."""
        for file in self.streams:
            file.seek(0)
            file.truncate()
        if stdin is not None:
            self.streams[0].write(stdin.encode())
            self.streams[0].seek(0)
        print(json.dumps([words, cwd, env, umask, stdin is None]), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        for file in self.streams:
            file.seek(0)
        _, out, err = (file.read().decode() for file in self.streams)
        assert answer, f"the server ended: {err}"
        return Completed(words, int(answer), out, err)

    def close(self) -> None:
        """End the process and let go of the files."""
        self.process.stdin.close()
        self.process.wait(SECONDS)
        for file in (self.process.stdout, *self.streams):
            file.close()


@functools.cache
def _server() -> Server:
    """Return this process's server; the first call starts it."""
    server = Server()
    atexit.register(server.close)
    return server


def serve(streams: list[int]) -> None:
    """Answer each request with the exit status of a child; minus a signal's number where one ended it."""
    importlib.import_module("BTrees.OOBTree")
    for name in ("ZODB.DB", "ZODB.FileStorage", "ZODB.blob"):
        importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, "zodbsh."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    # Whoever ends the tests with Ctrl-C ends this process by closing its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The descriptors and what Python keeps of them stay unused, for the children.
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    # Children share these pages as long as nobody counts through them.
    gc.collect()
    gc.freeze()
    for line in requests:
        child = os.fork()
        if not child:
            _run(*json.loads(line), streams)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


def _run(words: list[str], cwd: str, env: dict[str, str], umask: int, nothing: bool, streams: list[int]) -> NoReturn:
    """Be the program; one that hangs is ended by its alarm."""
    status = ExitCode.BUG
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.alarm(SECONDS)
        os.dup2(os.open(os.devnull, os.O_RDONLY) if nothing else streams[0], 0)
        os.dup2(streams[1], 1)
        os.dup2(streams[2], 2)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        time.tzset()
        if umask >= 0:
            os.umask(umask)
        sys.argv[:] = ["zodbsh", *words]
        from zodbsh.cli.main import main

        main()
    except SystemExit as end:
        status = end.code
    except BaseException:  # noqa: BLE001 - whatever it is, the test is to fail by it
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


if __name__ == "__main__":
    serve([int(number) for number in sys.argv[1:]])

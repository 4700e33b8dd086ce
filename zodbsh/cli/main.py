"""The program's door: safe streams, signals, ``--version``; everything else is in ``dispatch``."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from zodbsh import __version__

_EXIT_SIGNALS = ("SIGHUP", "SIGTERM")


class Stopped(BaseException):
    """A signal asks the process to end; ``finally`` blocks clean up on its way."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and end the process with its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_missing_streams()
    sys.unraisablehook = _unraisable
    if arguments == ["--version"]:
        # Answered before click is imported: scripts ask this often.
        _end(_write_version)
    if "_ZODBSH_COMPLETE" in os.environ:
        _complete()
    for name in _EXIT_SIGNALS:
        number = getattr(signal, name)
        # nohup ignores SIGHUP, and so must whoever it starts.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)

    def run() -> int:
        from zodbsh.cli.context import AppContext
        from zodbsh.cli.dispatch import dispatch

        return dispatch(arguments, AppContext())

    _end(run)


def _unraisable(failed: sys.UnraisableHookArgs) -> None:
    """Leave out that a dropped file could not be flushed: the error that dropped it has been told.

    A signal that came while something was thrown away, where Python swallows it, comes again.
    """
    if isinstance(failed.exc_value, (KeyboardInterrupt, Stopped)):
        _again(signal.SIGINT if isinstance(failed.exc_value, KeyboardInterrupt) else failed.exc_value.signal_number)
        return
    if not (isinstance(failed.exc_value, (OSError, ValueError)) and isinstance(failed.object, io.IOBase)):
        sys.__unraisablehook__(failed)


def _complete() -> NoReturn:
    """Answer the OS shell's Tab (completions/), the way click does it."""
    from zodbsh.cli.context import AppContext
    from zodbsh.cli.group import group

    group.main(prog_name="zodbsh", complete_var="_ZODBSH_COMPLETE", obj=AppContext())
    sys.exit(0)


def _write_version() -> int:
    from zodbsh.engine import engine_name

    sys.stdout.write(f"zodbsh {__version__} ({engine_name()} engine)\n")
    return 0


def _end(run: Callable[[], int]) -> NoReturn:
    """Exit with what ``run`` returns; a signal or a closed pipe outside any command is no traceback either."""
    status = 0
    try:
        status = int(run())
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except Stopped as stop:
        status = stop.exit_code
    except BrokenPipeError:
        # Who closed the pipe has seen enough; what was found is found all the same.
        pass
    except OSError as error:
        sys.stderr.write(f"error: cannot write the output: {error.strerror}\n")
        status = 7
    # What was to be done is done, or cleaned up; the interpreter's own end is not to be disturbed.
    for name in ("SIGINT", *_EXIT_SIGNALS):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    _forget_output()
    sys.exit(status)


def _stop(number: int, _frame: FrameType | None) -> None:
    # From here on the process only cleans up; a second signal does not cut that short.
    for name in _EXIT_SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    raise Stopped(number)


def _again(number: int) -> None:
    from threading import Timer, main_thread

    if number != signal.SIGINT:
        signal.signal(number, _stop)
    # Not from here: it would be swallowed once more.
    timer = Timer(0.01, signal.pthread_kill, (main_thread().ident, number))
    timer.daemon = True
    timer.start()


def _open_missing_streams() -> None:
    """Give closed standard descriptors to the null device, or a database would be opened as one of them."""
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            break
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115 - stays open
    # A character that the terminal's encoding lacks is shown as an escape.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _forget_output() -> None:
    """Flush what can be flushed, so that the interpreter's own flush at exit finds nothing to complain about."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(null, stream.fileno())
            except (OSError, ValueError):
                pass
            finally:
                os.close(null)


if __name__ == "__main__":
    main()

"""Entry of the command `onnxscope`, and how errors leave it.

Exit codes: 0 done, 1 the answer is no, 2 the call is wrong, 3 the model can't be used, 4 the runtime can't do
it; 70 a bug of ours, 130 interrupted, 143 terminated, 141 the reader of the output is gone.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnxscope import __version__
from onnxscope.errors import OnnxscopeError

if TYPE_CHECKING:
    from onnxscope.cli.options import Settings

BUG = 70
"""EX_SOFTWARE of sysexits.h."""
HELP = os.path.join(os.path.dirname(__file__), "help.txt")
"""What click says to `--help`, kept, since importing click takes longer than all else about it."""
HELP_WIDTH = 80
"""Columns at and above which click's text stays the same."""
STAYS = frozenset(("multiprocessing", "onnxruntime", "tempfile"))
"""Modules behind which something may be left to clean up: processes, sessions, files."""
AGAIN = 0.25
"""Seconds after which what ends the process is raised again."""
INTERRUPTED = 130
"""128 + SIGINT."""
_received: list[int] = []
"""The signal that ends the process."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; `arguments` are those of the process where None. Returns the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if arguments is None:
        _endable()
        # numpy would start threads of OpenBLAS for 0.1 s of cpu; what multiplies much has its own
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if given == ["--version"]:  # asked by scripts, often: not worth importing click for
        print(f"onnxscope {__version__}")
        return 0
    if given in (["--help"], ["-h"]) and _columns() >= HELP_WIDTH:
        with open(HELP, encoding="utf-8") as text:
            print(text.read(), end="")
        return 0
    held: list[object] = []
    try:
        code = _run(given, held)
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        if arguments is None and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
    return code if arguments is not None else _left(code)


def _left(code: int) -> int:
    """End the process at once where nothing has to be cleaned up, else return the code.

    Python would first free every value of a large report one by one, which takes a seventh of the whole run.
    And where a signal came in the middle of numpy's import, it would kill itself by that, caught or not.
    """
    stays = STAYS if not _received else frozenset(("multiprocessing",))
    if stays.isdisjoint(sys.modules):
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (AttributeError, OSError, ValueError):  # nobody reads any more: Python knows what to do
            return code
        os._exit(code)
    return code


def _columns() -> int:
    """Columns of the terminal, as click asks for them; 80 where there is none."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns or HELP_WIDTH
    except (OSError, ValueError):
        return HELP_WIDTH


def _endable() -> None:
    """End by an exception at SIGTERM and SIGINT, so that no unfinished file and no worker process stays."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:  # as in the background of a shell script
            signal.signal(number, _ended)


def _ended(number: int, frame: object) -> None:
    """Raise what ends the process, and again a little later: finalizers and some C functions swallow it.

    An impatient second Ctrl-C must not end the tidying up.
    """
    _received.append(number)
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    sys.unraisablehook = _unraisable
    if hasattr(signal, "setitimer"):

        def again(*_: object) -> None:
            if sys.exc_info()[1] is None:  # else it is on its way out, tidying up
                raise _ending(number)

        signal.signal(signal.SIGALRM, again)
        signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
    raise _ending(number)


def _unraisable(lost: sys.UnraisableHookArgs, /) -> None:
    """Say nothing of the exception that a finalizer swallowed where it is raised again."""
    if not issubclass(lost.exc_type, KeyboardInterrupt | SystemExit):
        sys.__unraisablehook__(lost)


def _ending(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


def _run(arguments: list[str], held: list[object]) -> int:
    """Run a command; `held` gets what must not be freed before the process ends."""
    import click

    from onnxscope.cli.app import app
    from onnxscope.cli.options import Settings

    settings = Settings(held=held)
    try:
        code = app.main(arguments, prog_name="onnxscope", standalone_mode=False, obj=settings)
    except click.exceptions.Abort:
        return INTERRUPTED
    except Exception as error:
        if _received:  # the import of a module in C makes another error of it, for one
            return 128 + _received[0]
        return _fail(error, settings)
    return code if isinstance(code, int) else 0


def _fail(error: Exception, settings: Settings) -> int:
    """One line on standard error; with `--debug` the traceback before it."""
    if settings.debug:
        from traceback import print_exception

        print_exception(error)
    message, code = _told(error)
    from onnxscope.render.words import clean  # names in a message may come from the file

    line = clean(" ".join(message.split()))
    print(f"onnxscope: error: {line}", file=sys.stderr)
    return code


def _told(error: Exception) -> tuple[str, int]:
    """What to say about an error, and the exit code."""
    import click

    if isinstance(error, OnnxscopeError):
        return str(error), error.exit_code
    if isinstance(error, click.ClickException):
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "onnxscope"
        return f"{error.format_message().rstrip('.')}; see {where} --help", 2
    if isinstance(error, MemoryError):
        return "out of memory", BUG
    kind = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{kind}; this is a bug in onnxscope: please report it with the output of --debug", BUG


if __name__ == "__main__":
    sys.exit(main())

"""Runs another tool's command line on one file after the other: `python peer_worker.py MODULE FUNCTION`.

Each line of standard input is a JSON list: the arguments. Every call runs in a fork of this process, which
has the tool's imports behind it, so that a crash or an endless loop costs one file. For each a JSON line goes
to standard output: {"status", "output"}; the status is negative where a signal ended it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable

LIMIT = 120
"""Seconds of a call."""


def child(main: Callable[[], object], arguments: list[str], output: int) -> None:
    """The forked process: run the tool with these arguments and leave."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.alarm(LIMIT)
    sys.argv = arguments
    status = 0
    try:
        found = main()
        status = found if isinstance(found, int) else 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}")
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Serve calls until standard input ends."""
    name, function = sys.argv[1:3]
    for module in ("numpy", "onnx", "onnxruntime", name):
        importlib.import_module(module)
    entry = getattr(importlib.import_module(name), function)
    for line in sys.stdin:
        with tempfile.TemporaryFile() as output:
            process = os.fork()
            if not process:
                child(entry, json.loads(line), output.fileno())
            _, status = os.waitpid(process, 0)
            output.seek(0)
            text = output.read().decode("utf-8", "replace")
        print(json.dumps({"status": os.waitstatus_to_exitcode(status), "output": text}), flush=True)


if __name__ == "__main__":
    main()

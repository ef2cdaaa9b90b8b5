"""A process of its own for onnxruntime: a crash, a hang or a lack of memory there is an error here.

Messages are pickles with their length in front, on the child's standard input and output. The child's own
prints go to its standard error, which is a file without a name; it ends by itself when its input closes, so
nothing outlives the parent: where that was killed, the child removes the parent's scratch folder, too. It is
started anew, never forked: a fork of a process with threads is unsafe.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, NoReturn

from onnxscope.complaints import plain
from onnxscope.errors import OnnxscopeError, RuntimeFailure
from onnxscope.runtime import Provider, present

if TYPE_CHECKING:
    import numpy as np

    from onnxscope.proof.providers import Placement
    from onnxscope.proof.runner import Optimization, Runnable

_HEADER = struct.Struct("<Q")
_START = (
    "import sys; sys.path[:] = {path!r}; "
    "from onnxscope.proof.worker import serve; serve({limit!r}, {folder!r}, {parent})"
)
_GRACE = 2.0
_PHASES = {
    "start": "while starting onnxruntime",
    "session": "while creating the session",
    "run": "while running the model",
    "profile": "while profiling a run",
    "latency": "while timing",
}


class Worker:
    """The parent's handle on one child; use it in a `with` block.

    `timeout` is the seconds that one request may take, `memory` the bytes of address space that the child may
    use (None: no limit of ours), `folder` a scratch folder of the parent's that takes all temporary files of
    the child ("": the system's), `command` replaces the child in tests.
    """

    def __init__(
        self,
        timeout: float | None = None,
        *,
        memory: int | None = None,
        folder: str = "",
        command: Sequence[str] | None = None,
    ) -> None:
        self.folder = folder
        self._timeout = timeout
        self._phase = "start"
        self._asked = "onnxruntime"
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        code = _START.format(path=sys.path, limit=memory, folder=folder, parent=os.getpid())
        self._child = subprocess.Popen(
            list(command or (sys.executable, "-c", code)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=_environment(folder),
        )
        self._answers: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._sent: set[str] = set()
        self._stopped: RuntimeFailure | None = None
        self.turn = threading.RLock()
        """Held over requests that belong together: the child keeps a few models only."""

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the child still runs."""
        return self._child.poll() is None

    def runner(self, provider: Provider, folder: str = "") -> ProviderRunner:
        """Runs models on one provider; `folder` is where external weights of models given as bytes lie."""
        return ProviderRunner(self, provider, folder)

    def call(self, method: str, *arguments: Any, provider: str = "") -> Any:
        """One request. Raises RuntimeFailure where it fails, crashes, hangs or runs out of memory."""
        with self.turn:
            return self._called(method, arguments, provider)

    def _called(self, method: str, arguments: tuple[Any, ...], provider: str) -> Any:
        self._asked = provider or self._asked
        try:
            self._send((method, arguments))
            while True:
                kind, value = self._receive()
                if kind == "answer":
                    return value
                if kind == "phase":
                    self._phase = value
                else:
                    raise self._failure(value)
        except BaseException as error:
            if not isinstance(error, OnnxscopeError) or self._child.poll() is not None:
                self.close()
            raise

    def hold(self, data: bytes) -> str:
        """Give the child a model once; the key stands for it in later requests."""
        from hashlib import blake2b

        key = blake2b(data, digest_size=16).hexdigest()
        if key not in self._sent or not self.call("known", key):
            self.call("keep", key, data)
            self._sent.add(key)
        return f"#{key}"

    def close(self) -> None:
        """End the child, by force where it doesn't listen."""
        child = self._child
        with contextlib.suppress(OSError):
            if child.stdin:
                child.stdin.close()
        if child.poll() is None:
            child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE)
        if child.stdout:
            with contextlib.suppress(OSError):
                child.stdout.close()
        self._said.close()

    def _send(self, message: Any) -> None:
        assert self._child.stdin is not None
        try:
            write(self._child.stdin, message)
        except (OSError, ValueError):
            raise self._death() from None

    def _receive(self) -> tuple[str, Any]:
        try:
            found = self._answers.get(timeout=self._timeout)
        except queue.Empty:
            phase = _PHASES.get(self._phase, self._phase)
            self.close()
            said = f"{self._asked}: no answer for {self._timeout:g} s {phase}; the worker was stopped"
            self._stopped = RuntimeFailure(said, help="give more time with --timeout")
            raise self._stopped from None
        if found is None:
            raise self._death()
        return found

    def _listen(self) -> None:
        """Pass the child's messages on; None when it ends or sends something that is no message."""
        assert self._child.stdout is not None
        try:
            while True:
                self._answers.put(read(self._child.stdout))
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            self._answers.put(None)

    def _death(self) -> RuntimeFailure:
        """What to say of a child that ended in the middle of a request, or before it, stopped by us."""
        if self._stopped is not None:
            return self._stopped
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_GRACE)
        status = self._child.poll()
        if status is None:
            return RuntimeFailure(f"{self._asked}: the worker sent what is no message, and was stopped")
        last = self._last_words()
        where = _PHASES.get(self._phase, self._phase)
        if status < 0:
            what = f"crashed with {_signal(-status)}"
            if -status == getattr(signal, "SIGKILL", 9):
                what = "was killed, probably for lack of memory (SIGKILL)"
        else:
            what = f"ended with status {status}"
        return RuntimeFailure(f"{self._asked}: the worker {what} {where}{last}")

    def _last_words(self) -> str:
        if self._said.closed:
            return ""
        self._said.seek(0)
        lines = self._said.read()[-2000:].decode(errors="replace").strip().splitlines()
        return f": {lines[-1][:300]}" if lines else ""

    def _failure(self, value: tuple[str, str, str]) -> RuntimeFailure:
        kind, message, help = value
        where = _PHASES.get(self._phase, self._phase)
        if kind == "memory":
            return RuntimeFailure(f"{self._asked}: out of memory {where}: {message}", help=help)
        if kind == "refused":
            return RuntimeFailure(message, help=help)
        return RuntimeFailure(f"{self._asked}: failed {where}: {message}", help=help)


@contextlib.contextmanager
def started(timeout: float | None) -> Iterator[Worker]:
    """A worker with a scratch folder, `folder`; both are gone behind the block.

    The child imports onnxruntime while its parent still reads. Raises RuntimeFailure where there is none.
    """
    present()
    with tempfile.TemporaryDirectory(prefix="onnxscope-") as folder, Worker(timeout, folder=folder) as worker:
        yield worker


class ProviderRunner:
    """A `runner.Runner`: one worker, one provider."""

    def __init__(self, worker: Worker, provider: Provider, folder: str = "") -> None:
        self.worker = worker
        self.provider = provider
        self._folder = folder

    def run(
        self,
        model: Runnable,
        feeds: dict[str, np.ndarray[Any, Any]],
        outputs: Sequence[str] | None = None,
        *,
        optimization: Optimization = "all",
        watch: str = "",
        marked: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Values by name; see `runner.Runner`. Raises RuntimeFailure.

        With `watch`, a scratch folder, the session's first run is profiled, and `profile` needs no other one.
        Values of `outputs` that are in `marked`, too, stay in the child and come as marks.
        """
        names = None if outputs is None else list(outputs)
        with self.worker.turn:  # another thread's models may push this one out before it runs
            source, folder = self._given(model)
            asked = (source, feeds, names, optimization, self.provider, folder, watch, marked)
            found: dict[str, Any] = self.worker.call("run", *asked, provider=self.provider.name)
        return found

    def _given(self, model: Runnable) -> tuple[str, str]:
        """What the worker takes for a model, and the folder of weights outside of it."""
        from onnxscope.proof.skeleton import Skeleton

        if isinstance(model, bytes):
            return self.worker.hold(model), self._folder
        if isinstance(model, Skeleton):
            return self.worker.hold(model.data), model.folder
        return os.fspath(model), self._folder

    def profile(
        self,
        model: str | os.PathLike[str],
        feeds: dict[str, Any],
        optimization: Optimization = "all",
        scratch: str = "",
    ) -> Placement:
        """Where each node runs; the profile's file is kept in `scratch` meanwhile. Raises RuntimeFailure."""
        asked = (os.fspath(model), feeds, self.provider, optimization, scratch)
        found: Placement = self.worker.call("profile", *asked, provider=self.provider.name)
        return found


def _environment(folder: str) -> dict[str, str]:
    """The child's: its temporary files, and no threads for numpy, which only carries arrays there."""
    return {"OPENBLAS_NUM_THREADS": "1", **os.environ, **({"TMPDIR": folder} if folder else {})}


def write(stream: IO[bytes], message: Any) -> None:
    """One message onto a pipe."""
    data = pickle.dumps(message, protocol=5)
    stream.write(_HEADER.pack(len(data)))
    stream.write(data)
    stream.flush()


def read(stream: IO[bytes]) -> Any:
    """The next message of a pipe. Raises EOFError at its end, ValueError for what is no message."""
    return pickle.loads(_message(stream))


def _message(stream: IO[bytes]) -> bytes:
    """The bytes of one message. Raises EOFError where the stream ends."""
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise EOFError
    (size,) = _HEADER.unpack(header)
    if size > 1 << 40:
        raise ValueError("no message")
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def serve(memory: int | None, folder: str, parent: int) -> None:
    """The child's main function: answer requests until the input closes, then end at once.

    Standard output is taken for messages alone; whatever libraries print goes to standard error. `folder` is
    the scratch folder of process `parent`: it is removed where that is gone and can't do so.
    """
    parent = parent if os.name == "posix" else os.getppid()  # on Windows a launcher stands in between
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if memory is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_take, args=(requests, parent, folder), daemon=True).start()
    with contextlib.suppress(BaseException):  # what fails here fails again below, where it is an answer
        import_module("onnxscope.proof.session").runtime.require()
    with contextlib.suppress(OSError):  # nobody reads answers any more
        _answer(requests, out)
    _end(parent, folder)


def _answer(requests: queue.SimpleQueue[Any], out: IO[bytes]) -> None:
    """Answer requests for ever. Raises OSError where the reader is gone."""
    sessions: Any = None
    while True:
        message = requests.get()
        try:
            method, arguments = pickle.loads(message)
            if sessions is None:
                from onnxscope.proof.session import Sessions

                sessions = Sessions(lambda phase: write(out, ("phase", phase)))
            reply = "answer", getattr(sessions, method)(*arguments)
        except OnnxscopeError as error:
            reply = "error", ("refused", f"{error.where}: {error.message}".lstrip(": "), error.help)
        except BaseException as error:  # everything the runtime raises is an answer
            reply = "error", (_kind(error), _clean(error), "")
        write(out, reply)


def _take(requests: queue.SimpleQueue[Any], parent: int, folder: str) -> None:
    """Read requests; the end of the input is the end of the process, even in the middle of a run.

    They stay bytes here: to unpickle arrays imports numpy, which the main thread may be in the middle of.
    """
    try:
        while True:
            requests.put(_message(sys.stdin.buffer))
    except BaseException:
        _end(parent, folder)


def _end(parent: int, folder: str) -> NoReturn:
    """End this process; where the parent died, remove the scratch folder that it left.

    A parent that lives closes the input and then ends us, by force if need be. One that dies closes it a
    little before its children get another parent: hence the patience.
    """
    for _ in range(100 if folder else 0):
        if os.getppid() != parent:
            import shutil

            shutil.rmtree(folder, ignore_errors=True)
            break
        time.sleep(0.01)
    os._exit(0)


def _kind(error: BaseException) -> str:
    text = str(error).lower()
    signs = ("bad_alloc", "allocate memory", "out of memory", "bad allocation", "bfcarena")
    return "memory" if isinstance(error, MemoryError) or any(sign in text for sign in signs) else "error"


def _clean(error: BaseException) -> str:
    """One line of at most 400 characters, without onnxruntime's prefixes and places in its source."""
    return (plain(str(error)) or error.__class__.__name__)[:400]


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

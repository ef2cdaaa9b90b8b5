"""The worker's side: onnxruntime sessions, kept by what they were asked for. Runs in the child only."""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from onnxscope import runtime
from onnxscope.errors import RuntimeFailure
from onnxscope.files.read import load
from onnxscope.files.read import loads as load_bytes
from onnxscope.graph import Model
from onnxscope.proof import providers, saturation
from onnxscope.proof.bits import Kept
from onnxscope.proof.skeleton import skeleton

KEPT = 4
"""Sessions kept at once: each may hold a copy of the weights."""
_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "steps": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
    "deployed": "ORT_ENABLE_ALL",
}
"""Level -> onnxruntime's; `deployed` is `all` without what makes sums of bytes exact (`saturation`)."""
LEAST_TURNS = 3
"""Turns that are timed, however long they take."""
Job = tuple[str, Sequence[dict[str, Any]], runtime.Provider]
"""What is timed: a model's path, its inputs one after the other, and the provider."""
Note = Callable[[str], None]
"""Told the phase before it begins, so that the parent knows where a crash happened."""


class Sessions:
    """Sessions of one worker; every method is one request."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._models: dict[str, bytes] = {}
        self._staying = Kept()
        self._saturates: bool | None = None
        self._inexact = False
        self._watched: dict[tuple[str, str, str], providers.Placement] = {}
        note("start")
        self._ort = runtime.require()
        self._ort.set_default_logger_severity(3)

    def keep(self, key: str, data: bytes) -> None:
        """Hold the bytes of a model under a key; only the last few are kept."""
        while len(self._models) >= KEPT:
            self._models.pop(next(iter(self._models)))
        self._models[key] = data

    def sums(self) -> str:
        """Sums of bytes here: "" exact by nature, "exact" by an option, "cut off" where that failed once."""
        return ("cut off" if self._inexact else "exact") if self._cuts_off() else ""

    def _cuts_off(self) -> bool:
        """Whether this CPU cuts off sums of bytes; found out once."""
        if self._saturates is None:
            self._saturates = saturation.found(self._ort)
        return self._saturates

    def known(self, key: str) -> bool:
        """Whether a model of this key is held."""
        return key in self._models

    def run(
        self,
        model: str,
        feeds: dict[str, Any],
        outputs: Sequence[str] | None,
        optimization: str,
        provider: runtime.Provider,
        folder: str,
        watch: str = "",
        marked: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Values by name; `model` is a path, or `#key` of bytes given to `keep`.

        `watch` is a scratch folder for the profile of a session's first run; "" for none. Those in
        `marked` stay here: marks of them are answered.
        """
        seen = (model, optimization, provider.asked)
        watch = "" if seen in self._watched else watch
        session = self._session(model, outputs, optimization, provider, folder, watch)
        names = list(outputs) if outputs is not None else [value.name for value in session.get_outputs()]
        self._note("run")
        found = dict(zip(names, session.run(names, feeds), strict=True))
        if watch:
            self._watched[seen] = self._placement(session)
        return self._staying.marked(found, marked) if marked else found

    def profile(
        self,
        model: str,
        feeds: dict[str, Any],
        provider: runtime.Provider,
        optimization: str,
        scratch: str = "",
    ) -> providers.Placement:
        """Where each node of one run really ran, from onnxruntime's own profile."""
        self._note("profile")
        seen = (model, optimization, provider.asked)
        if seen not in self._watched:
            with tempfile.TemporaryDirectory(prefix="onnxscope-", dir=scratch or None) as folder:
                self.run(model, feeds, None, optimization, provider, "", folder)
        return self._watched[seen]

    def _placement(self, session: Any) -> providers.Placement:
        """End the profile of a session and read it."""
        path = session.end_profiling()
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
        os.unlink(path)
        return providers.placement(text, tuple(session.get_providers()))

    def timed(self, jobs: Sequence[Job], runs: int, warm: int, seconds: float) -> list[list[float]]:
        """Milliseconds of each turn of each job, the jobs taking turns, as deployed (all optimisations).

        A job runs its model once on each of its inputs. Inputs are bound once and outputs stay where they
        arise, alike for all jobs; every other turn goes the other way round. `warm` turns are not counted;
        then come `runs` turns, fewer (LEAST_TURNS at least) where `seconds` are over.
        """
        from time import perf_counter

        self.forget()
        bound = [self._bound(*job) for job in jobs]
        self._note("latency")
        times: list[list[float]] = [[] for _ in jobs]
        begin = perf_counter()
        for turn in range(warm + runs):
            if turn >= warm + LEAST_TURNS and perf_counter() - begin > seconds:
                break
            order = list(zip(bound, times, strict=True))
            for (session, bindings), list_ in order[:: -1 if turn % 2 else 1]:
                start = perf_counter()
                for binding in bindings:
                    session.run_with_iobinding(binding)
                if turn >= warm:
                    list_.append(1000 * (perf_counter() - start))
        self.forget()
        return times

    def _bound(
        self, model: str, feeds: Sequence[dict[str, Any]], provider: runtime.Provider
    ) -> tuple[Any, list[Any]]:
        """A session, and a binding for each of its inputs."""
        session = self._session(model, None, "deployed", provider, "")
        bindings = []
        for given in feeds:
            binding = session.io_binding()
            for name, array in given.items():
                binding.bind_cpu_input(name, array)
            for value in session.get_outputs():
                binding.bind_output(value.name)
            bindings.append(binding)
        return session, bindings

    def forget(self) -> None:
        """Drop every session."""
        self._kept.clear()

    def memory(self) -> int:
        """Peak resident memory of this process in bytes; 0 where the system doesn't tell."""
        return peak_memory()

    def _session(
        self,
        model: str,
        outputs: Sequence[str] | None,
        level: str,
        provider: runtime.Provider,
        folder: str,
        watch: str = "",
    ) -> Any:
        names = None if outputs is None else tuple(outputs)
        stamp = os.stat(model).st_mtime_ns if not model.startswith("#") else 0
        key = (model, stamp, names, level, provider.asked, folder)
        if watch:  # a profile can only be asked for at the start
            self._kept.pop(key, None)
        elif key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        while len(self._kept) >= KEPT:
            self._kept.popitem(last=False)
        self._note("session")
        loaded = load_bytes(self._models[model[1:]]) if model.startswith("#") else load(model)
        cut_off = provider.on_cpu and saturation.concerns(loaded, level) and self._cuts_off()
        session = self._precise(model, loaded, names, level, provider, folder, watch) if cut_off else None
        if session is None:
            source = self._source(model, loaded, names, folder)
            session = self._create(source, provider, self._options(level, watch))
            self._inexact |= cut_off
        self._kept[key] = session
        return session

    def _precise(
        self,
        model: str,
        loaded: Model,
        outputs: Sequence[str] | None,
        level: str,
        provider: runtime.Provider,
        folder: str,
        watch: str,
    ) -> Any:
        """A session whose sums of bytes are exact; None where onnxruntime's optimizer for that fails."""
        written = level == "steps"
        options = self._options("extended" if written else level, watch)
        options.add_session_config_entry(*saturation.PRECISE)
        source = self._source(model, saturation.unshared(loaded), outputs, folder)
        try:
            return self._create(source, provider, options, saturation.OTHERS if written else ())
        except Exception:  # the plain session tells whether it is the model's own fault
            return None

    def _options(self, level: str, watch: str) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = getattr(self._ort.GraphOptimizationLevel, _LEVELS[level])
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if level in ("none", "steps", "basic"):  # prepacking copies weights and changes the order of sums
            options.add_session_config_entry("session.disable_prepacking", "1")
        if watch:
            options.enable_profiling = True
            options.profile_file_prefix = os.path.join(watch, "profile")
        return options

    def _create(
        self,
        source: tuple[str | bytes, str],
        provider: runtime.Provider,
        options: Any,
        without: Sequence[str] = (),
    ) -> Any:
        runtime.preload(self._ort, provider.name)
        model, home = source
        if home:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", home)
        session = runtime.open_session(self._ort, model, options, provider, without)
        used = session.get_providers()
        if provider.name not in used:
            raise RuntimeFailure(
                f"onnxruntime silently replaced {provider.name} by {', '.join(used)}",
                help="`onnxscope providers` says why it doesn't load",
            )
        return session

    def _source(
        self, model: str, loaded: Model, outputs: Sequence[str] | None, folder: str
    ) -> tuple[str | bytes, str]:
        """What to give to onnxruntime, and the folder of external weights."""
        if model.startswith("#"):
            data = self._models[model[1:]]
            if outputs is None:
                return data, folder
            made = skeleton(loaded, outputs, here=folder)
            return (made.data if made else data), folder
        made = skeleton(loaded, outputs)
        if made is not None:
            return made.data, made.folder
        if outputs is not None:
            raise RuntimeFailure("the model is too large to ask for values inside it", where=model)
        return os.path.realpath(model), ""


def peak_memory() -> int:
    """Peak resident memory of this process in bytes; 0 where the system doesn't tell."""
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

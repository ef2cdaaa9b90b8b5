"""What the installed onnxruntime offers: its version, its execution providers, and how a user names them.

onnxruntime is an optional dependency and slow to import: it is imported inside the functions that need it.
Source: onnxruntime documentation, "Execution Providers" and the Python API of `InferenceSession`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from onnxscope.complaints import plain
from onnxscope.errors import RuntimeFailure, UsageError
from onnxscope.packages import conflict, packages

INSTALL = "pip install 'onnxscope[cpu]'"


@dataclass(frozen=True, slots=True)
class Known:
    """An execution provider that onnxruntime is published with."""

    short: str
    name: str
    """As onnxruntime calls it."""
    install: str
    """The command that brings it."""
    defaults: tuple[tuple[str, str], ...] = ()
    """Options that onnxscope sets where the user doesn't."""


_HINT = '{"INFERENCE_PRECISION_HINT": "f32"}'
_FLOAT32_ON_OPENVINO = (("load_config", f'{{"CPU": {_HINT}, "GPU": {_HINT}}}'),)
KNOWN = (
    Known("cpu", "CPUExecutionProvider", "pip install onnxruntime"),
    # TensorFloat-32 rounds inputs to 11 bits, which costs three digits: off unless asked for.
    Known("cuda", "CUDAExecutionProvider", "pip install onnxruntime-gpu", (("use_tf32", "0"),)),
    Known("tensorrt", "TensorrtExecutionProvider", "pip install onnxruntime-gpu tensorrt"),
    # OpenVINO computes float32 models in bfloat16 where the processor has AMX, and in float16 on GPUs.
    Known("openvino", "OpenVINOExecutionProvider", "pip install onnxruntime-openvino", _FLOAT32_ON_OPENVINO),
    Known("directml", "DmlExecutionProvider", "pip install onnxruntime-directml"),
    Known("coreml", "CoreMLExecutionProvider", "pip install onnxruntime (on macOS)"),
    Known("rocm", "ROCMExecutionProvider", "pip install onnxruntime-rocm"),
    Known("migraphx", "MIGraphXExecutionProvider", "pip install onnxruntime-migraphx"),
    Known("qnn", "QNNExecutionProvider", "pip install onnxruntime-qnn"),
    Known("webgpu", "WebGpuExecutionProvider", "pip install onnxruntime-webgpu"),
)
_BY_KEY = {key: known for known in KNOWN for key in (known.short, known.name.lower())}
_UNASKED = frozenset({"AzureExecutionProvider"})  # calls a remote service; runs no ordinary node


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider as asked for."""

    asked: str
    """As the user wrote it."""
    name: str
    """As onnxruntime calls it."""
    options: dict[str, str] = field(default_factory=dict)
    """Options, defaults of ours included."""
    plugin: str | None = None
    """Shared library of a plugin provider (option `library`)."""

    @property
    def on_cpu(self) -> bool:
        """Whether this is onnxruntime's own CPU provider."""
        return self.name == "CPUExecutionProvider"

    @property
    def tf32(self) -> bool:
        """Whether float32 products may be rounded to TensorFloat-32."""
        return self.name == "CUDAExecutionProvider" and self.options.get("use_tf32") != "0"


@dataclass(frozen=True, slots=True)
class Support:
    """One row of `onnxscope providers`."""

    short: str
    name: str
    installed: bool
    """Whether this onnxruntime was built with it."""
    loads: bool
    """Whether a session really runs on it."""
    reason: str
    """Why not, or ""."""
    install: str
    """The command that brings it, or ""."""
    plugin: str = ""
    """The module that brings it as a plugin of onnxruntime, or ""."""


def parse(text: str) -> Provider:
    """One provider with its options: a short or full name, then `:key=value,key=value`.

    Raises UsageError for an unknown name, an option without a value, and options of the CPU, which has none
    (onnxruntime drops them without a word).

    >>> parse("cuda:device_id=0").options
    {'use_tf32': '0', 'device_id': '0'}
    """
    name, _, rest = text.partition(":")
    known = _BY_KEY.get(name.strip().lower())
    options = dict(known.defaults) if known else {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"provider option {item!r} has no value", help=f"write {name}:key=value")
        options[key.strip()] = value.strip()
    library = options.pop("library", None)
    if known is None and library is None and not name.endswith("ExecutionProvider"):
        names = ", ".join(entry.short for entry in KNOWN)
        raise UsageError(
            f"unknown provider {name!r}", help=f"one of {names}, all, or a full name that onnxruntime lists"
        )
    full = known.name if known else name.strip()
    if full == "CPUExecutionProvider" and options:
        raise UsageError(
            f"the CPU provider has no options, so {rest!r} would change nothing", help="write cpu"
        )
    return Provider(text, full, options, library)


def parse_pair(text: str) -> tuple[Provider, Provider]:
    """`a/b`: the original on a, the candidate on b; a lone name stands for both. Raises UsageError.

    >>> [p.name for p in parse_pair("cpu/cuda")]
    ['CPUExecutionProvider', 'CUDAExecutionProvider']
    """
    parts = _split_pair(text)
    if len(parts) > 2 or not all(parts):
        raise UsageError(f"{text!r} is no provider or pair of providers", help="write cpu, or cpu/cuda")
    first = parse(parts[0])
    return first, parse(parts[1]) if len(parts) == 2 else first


def _split_pair(text: str) -> list[str]:
    """Cut at slashes in front of a provider name, so that option values may be paths."""
    parts = [""]
    for place, piece in enumerate(text.split("/")):
        head = piece.partition(":")[0].strip().lower()
        if place == 0:
            parts = [piece]
        elif head in _BY_KEY or head.endswith("executionprovider") or "=" not in parts[-1]:
            parts.append(piece)
        else:
            parts[-1] += "/" + piece
    return parts


def require() -> Any:
    """The onnxruntime module. Raises RuntimeFailure where it isn't installed or doesn't import.

    Some releases leave a telemetry file, `.ses`, in the temporary folder when they are imported: they are
    given one that goes again, and told to send nothing.
    """
    try:
        with _own_temporary_folder("onnxruntime" not in sys.modules):
            import onnxruntime

            getattr(onnxruntime, "disable_telemetry_events", lambda: None)()
    except ImportError as error:
        if getattr(error, "name", None) == "onnxruntime":
            raise RuntimeFailure("onnxruntime is not installed", help=INSTALL) from None
        raise RuntimeFailure(f"onnxruntime does not import: {error}", help=INSTALL) from None
    if not hasattr(onnxruntime, "InferenceSession"):
        raise RuntimeFailure("onnxruntime is installed in parts only", help=INSTALL)
    return onnxruntime


def present() -> None:
    """Raise RuntimeFailure where onnxruntime isn't installed; a worker imports it, this process need not."""
    from importlib.util import find_spec

    if find_spec("onnxruntime") is None:
        raise RuntimeFailure("onnxruntime is not installed", help=INSTALL)


@contextmanager
def _own_temporary_folder(wanted: bool) -> Iterator[None]:
    """TMPDIR as an empty folder for the length of the block."""
    if not wanted:
        yield
        return
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="onnxscope-", ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


def version() -> str:
    """For example `onnxruntime 1.32.0`, without importing it where one package tells.

    Raises RuntimeFailure where there is none.
    """
    found = packages()
    if len(found) == 1:
        return f"onnxruntime {found[0].partition(' ')[2]}"
    return f"onnxruntime {require().__version__}"


def installed() -> tuple[str, ...]:
    """Full names of the providers that this onnxruntime was built with, best first."""
    return tuple(require().get_available_providers())


def plugins() -> dict[str, tuple[str, str]]:
    """Providers of installed plugin packages: full name -> (module, path of the shared library).

    Such a package is a module `onnxruntime_ep_*` with `get_ep_names` and `get_library_path`; one that fails
    offers nothing. Source: onnxruntime documentation, "Plugin Execution Provider Libraries".
    """
    from importlib import import_module
    from pkgutil import iter_modules

    found: dict[str, tuple[str, str]] = {}
    for module in iter_modules():
        if not module.name.startswith("onnxruntime_ep_"):
            continue
        try:
            plugin = import_module(module.name)
            library = str(plugin.get_library_path())
            found |= {str(name): (module.name, library) for name in plugin.get_ep_names()}
        except Exception:  # somebody else's package: it may raise anything
            continue
    return found


def resolved(provider: Provider) -> Provider:
    """The provider with the library of the plugin package that brings it, where onnxruntime itself lacks it.

    Raises RuntimeFailure, with the command that helps, where neither has it.
    """
    if provider.on_cpu:  # every build has it, so nothing need be imported to know
        return provider
    names = installed()
    if provider.plugin is not None or provider.name in names:
        return provider
    if provider.name in (found := plugins()):
        return replace(provider, plugin=found[provider.name][1])
    known = _BY_KEY.get(provider.name.lower())
    bring = f"{known.install} (in an environment of its own)" if known else ""
    raise RuntimeFailure(
        f"{version()} has no {provider.name}; it has {', '.join([*names, *found])}",
        help=conflict(packages()) or bring,
    )


def providers(timeout: float = 60.0) -> tuple[Support, ...]:
    """Every known provider and every other one that is installed: is it there, does it load, why not.

    Each is tried in a process of its own on a one-node model, for at most `timeout` seconds: a driver that
    crashes or hangs is a row of the answer. Raises RuntimeFailure where there is no onnxruntime.
    """
    names = {name: module for name, (module, _) in plugins().items()} | dict.fromkeys(installed(), "")
    rows = [_support(known.short, known.name, known.install, names, timeout) for known in KNOWN]
    shown = {known.name for known in KNOWN} | _UNASKED
    rows += [_support(name, name, "", names, timeout) for name in names if name not in shown]
    return tuple(rows)


def usable(timeout: float = 60.0) -> tuple[str, ...]:
    """Short names of the providers that load: what `--provider all` stands for."""
    return tuple(row.short for row in providers(timeout) if row.loads)


def _support(short: str, name: str, install: str, names: dict[str, str], timeout: float) -> Support:
    if name not in names:
        return Support(short, name, False, False, "not in this onnxruntime", install)
    reason = _trial(name, timeout)
    return Support(short, name, True, not reason, reason, "", names[name])


def _trial(name: str, timeout: float) -> str:
    """Why a session on one provider doesn't come up, or ""."""
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {_PROBE}", name]
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                command,
                input=probe_model(),
                stdout=subprocess.PIPE,
                stderr=said,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"hangs: no answer in {timeout:g} s"
        said.seek(0)
        notes = said.read().decode(errors="replace")
    if done.returncode < 0:
        return f"crashes (signal {-done.returncode})"
    answer = _answer(done.stdout)
    if answer.get("used"):
        return ""
    return _first_line(str(answer.get("error") or notes)) or "the session silently uses another provider"


def _answer(output: bytes) -> dict[str, Any]:
    """The last line of a probe's output, as JSON; a driver may have printed before it."""
    lines = output.decode(errors="replace").strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


_PROBE = "from onnxscope import runtime; runtime.probe(sys.argv[1], sys.stdin.buffer.read())"


def probe(name: str, model: bytes) -> None:
    """Run `model` on one provider and print `{"used": bool}` or `{"error": text}`: what `_trial` starts."""
    import numpy as np

    ort = require()
    try:
        preload(ort, name)
        session = open_session(ort, model, ort.SessionOptions(), resolved(parse(name)))
        session.run(None, {"x": np.ones((1, 4), np.float32)})
        answer: dict[str, Any] = {"used": name in session.get_providers()}
    except Exception as error:  # whatever the provider raises is the answer
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)


def preload(ort: Any, name: str) -> None:
    """Load the CUDA libraries of pip packages, which the dynamic linker doesn't find by itself."""
    if name in ("CUDAExecutionProvider", "TensorrtExecutionProvider") and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()


def open_session(
    ort: Any, model: str | bytes, options: Any, provider: Provider, without: Sequence[str] = ()
) -> Any:
    """A session on one provider, with the CPU for what that can't run, and no fallback behind our back.

    `without`: graph optimizers that are left out, by their names in onnxruntime.

    Raises whatever onnxruntime raises; whether the provider is really used is for `get_providers()` to say.
    """
    if provider.plugin is not None:
        _plugin(ort, options, provider)
        return ort.InferenceSession(model, options, enable_fallback=0)
    wanted: list[Any] = [(provider.name, dict(provider.options))]
    if not provider.on_cpu:
        wanted.append("CPUExecutionProvider")
    more = {"disabled_optimizers": list(without)} if without else {}
    return ort.InferenceSession(model, options, providers=wanted, enable_fallback=0, **more)


def _plugin(ort: Any, options: Any, provider: Provider) -> None:
    """Register a plugin provider's library (onnxruntime 1.23 and later) and ask for its devices."""
    if not hasattr(ort, "register_execution_provider_library"):
        raise RuntimeFailure(f"{version()} knows no plugin providers", help="onnxruntime 1.23 or later does")
    library = os.path.abspath(str(provider.plugin))
    if library not in _registered:
        ort.register_execution_provider_library(provider.name, library)
        _registered.add(library)
    devices = [device for device in ort.get_ep_devices() if device.ep_name == provider.name]
    if not devices:
        raise RuntimeFailure(f"{os.path.basename(library)} finds no device here for {provider.name}")
    options.add_provider_for_devices(devices, dict(provider.options))


_registered: set[str] = set()
"""Libraries that this process has given to onnxruntime, which takes each only once."""


def probe_model() -> bytes:
    """The file of the sum y = x + x for x of shape [1, 4]: the smallest model worth a provider's while."""
    from onnxscope.files.write import dumps
    from onnxscope.graph import Graph, Model, Node, Type, ValueInfo

    kind = Type("tensor", 1, (1, 4))
    add = Node(0, "add", "Add", "", ("x", "x"), ("y",))
    graph = Graph("probe", (ValueInfo("x", kind),), (ValueInfo("y", kind),), (add,))
    return dumps(Model(graph, ir_version=7, opsets=(("", 13),)))


def _first_line(text: str) -> str:
    """The first line that says something, shortened."""
    lines = (plain(line).strip(" *") for line in text.splitlines())
    return next((line[:300] for line in lines if line), "")

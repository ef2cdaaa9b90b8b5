"""`onnxscope audit` beside onnx-doctor, polygraphy's lint and onnxsim's numeric lint.

    python benchmarks/audit_peers.py --python ENV/bin/python -o table.md
    python benchmarks/audit_peers.py --python ENV/bin/python --corpus .cache/corpus --graphs 40

ENV holds the other tools (`pip install onnx-doctor onnxsim polygraphy onnx_graphsurgeon onnxruntime`); one
that is missing is said and left out. The first form lets every tool look at the defects that tests/checks
plants into two sound networks: a tool finds one where it reports anything that it doesn't report of the sound
network. Each such message is in the table, so that a reader can tell whether it means the defect; those that
a person judged to mean something else are in `ELSEWHERE`. The second form counts what the tools say of real
graphs.

All get the same file. onnx-doctor runs with --ort, onnxsim in float32 and float16, with --include-unbounded
and inputs in [-4, 4], its defaults being silent on models without declared ranges.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "checks"))

Said = tuple[str, str]
"""(code or kind, message) of one finding."""


@dataclass(frozen=True)
class Peer:
    """A tool's command line."""

    name: str
    package: str
    module: str
    """Its `main` takes the arguments from `sys.argv`."""
    arguments: tuple[str, ...]
    """MODEL and REPORT stand for two paths."""
    parse: Callable[[str], list[Said]]
    """Findings in the report, which is standard output where REPORT isn't among the arguments."""


def doctor(text: str) -> list[Said]:
    """Findings of onnx-doctor."""
    return [(item["code"], item["message"]) for item in json.loads(text[text.index("[") :])]


def polygraphy(text: str) -> list[Said]:
    """Entries of polygraphy's lint."""
    return [(item["source"], item["message"]) for item in json.loads(text)["lint_entries"]]


def onnxsim(text: str) -> list[Said]:
    """Findings of onnxsim's numeric lint."""
    found = json.loads(text[text.index("{") :])["findings"]
    return [(item["rule"], f"{item['node']}: {item['message']}") for item in found]


LINT = ("numeric_lint", "MODEL", "--json", "--info", "--include-unbounded", "RANGES", "--dtype")
PEERS = (
    Peer(
        "onnx-doctor",
        "onnx-doctor",
        "onnx_doctor._cli",
        ("onnx-doctor", "check", "--ort", "--output-format", "json", "MODEL"),
        doctor,
    ),
    Peer(
        "polygraphy",
        "polygraphy",
        "polygraphy.tools",
        ("polygraphy", "check", "lint", "MODEL", "-o", "REPORT"),
        polygraphy,
    ),
    Peer("onnxsim fp32", "onnxsim", "onnxsim.numeric_lint", (*LINT, "fp32"), onnxsim),
    Peer("onnxsim fp16", "onnxsim", "onnxsim.numeric_lint", (*LINT, "fp16"), onnxsim),
)
_UNUSED = "says that the tensor is unused"
_REACH = "says that an output can exceed float16, which it nearly did before"
_LEFT_OVER = "says that a node or value left over by the planting is unused"
ELSEWHERE: dict[tuple[str, str], str] = {
    ("onnx-doctor", "requantized-at-once"): _LEFT_OVER,
    ("polygraphy", "program"): _UNUSED,
    ("polygraphy", "text_in_raw_data"): _UNUSED,
    ("polygraphy", "nameless_initializer"): _UNUSED,
    ("polygraphy", "sparse_unsorted"): _UNUSED,
    ("polygraphy", "sparse_repeated"): _UNUSED,
    ("polygraphy", "sparse_rows_unsorted"): _UNUSED,
    ("polygraphy", "flat_head"): _LEFT_OVER,
    ("polygraphy", "requantized-at-once"): _LEFT_OVER,
    ("polygraphy", "even-kernel-with-same-size"): _LEFT_OVER,
    ("polygraphy", "pointwise-with-pads"): "says that the declared output shape is wrong, as it now is",
    ("polygraphy", "op-without-kernel (cpu)"): "says that the declared output type is wrong, as it now is",
    ("onnxsim fp32", "type-outside-target (coreml)"): "says that a Relu does nothing",
    ("onnxsim fp16", "type-outside-target (coreml)"): "says that a Relu does nothing",
    **{
        ("onnxsim fp16", name): _REACH
        for name in (
            "duplicate-tensors weights-that-int8-crushes replicated-channel-filters requantized-at-once "
            "zero-point-of-wrong-type mismatched-quantize-pair half-range-after-relu unread-border-pixels "
            "even-kernel-with-same-size auto-pad-on-pool padding-in-averages checkerboard-upsampling "
            "pool-right-after-convolution misaligned-branches scale-of-wrong-length"
        ).split()
    },
}
"""(peer, plant) -> what the peer's new message is about, where a person judged it to be something else."""


class Worker:
    """A peer, started once."""

    def __init__(self, peer: Peer, python: str, folder: Path) -> None:
        self.peer = peer
        self.report = folder / f"{peer.name.replace(' ', '_')}.json"
        command = [python, str(ROOT / "benchmarks" / "peer_worker.py"), peer.module, "main"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def ask(self, path: Path) -> list[Said]:
        """What the peer says of a file; a peer that fails says so itself (code `fails`)."""
        self.report.unlink(missing_ok=True)
        places = {"MODEL": [str(path)], "REPORT": [str(self.report)], "RANGES": ranges(path)}
        arguments = [word for item in self.peer.arguments for word in places.get(item, [item])]
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        text = self.report.read_text() if self.report.exists() else answer["output"]
        try:
            return list(dict.fromkeys(self.peer.parse(text)))
        except ValueError:
            signal = f"ended by signal {-answer['status']}" if answer["status"] < 0 else ""
            return [("fails", signal or last_line(text))]


def ranges(path: Path) -> list[str]:
    """Options of onnxsim for float inputs in [-4, 4]; none for a file that onnx can't read."""
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception:
        return []
    stored = {tensor.name for tensor in graph.initializer}
    names = [info.name for info in graph.input if info.name not in stored and floating(info)]
    return [word for name in dict.fromkeys(names) if name for word in ("--range", f"{name}=-4,4")]


def floating(info: onnx.ValueInfoProto) -> bool:
    """Whether an input holds floats."""
    return info.type.tensor_type.elem_type in (1, 10, 11, 16)


def last_line(text: str) -> str:
    """What a tool said last."""
    lines = [line.strip() for line in text.strip().splitlines() if "FAILED | Runtime" not in line]
    return lines[-1] if lines else "no output"


@dataclass(frozen=True)
class Plant:
    """One defect in a file."""

    code: str
    """The rule of ours that must find it."""
    name: str
    model: bytes
    sound: str
    """Which of the sound networks it was planted into."""
    target: str = ""


def plants() -> tuple[dict[str, bytes], list[Plant]]:
    """The sound networks, and every planted defect of tests/checks."""
    tables = [import_module(f"planted_{name}").PLANTED for name in ("file", "graph", "structure")]
    planted_network, sound_model = import_module("planted_network"), import_module("planting").sound_model
    sound = {
        "digits": sound_model().SerializeToString(),
        "colours": planted_network.network().SerializeToString(),
    }
    found = []
    for table in tables:
        for code, functions in table.items():
            for plant in functions:
                model = sound_model()
                plant(model)
                found.append(Plant(code, plant.__name__, model.SerializeToString(), "digits"))
    for code, replaced, change in planted_network.PLANTED:
        model = planted_network.network(replaced, change)
        found.append(Plant(code, rule_name(code), model.SerializeToString(), "colours"))
    for code, target, replaced in planted_network.FOR_TARGETS:
        if target == "abacus":  # the command line refuses a target that it doesn't know
            continue
        model = planted_network.network(replaced)
        found.append(
            Plant(code, f"{rule_name(code)} ({target})", model.SerializeToString(), "colours", target)
        )
    return sound, found


def rule_name(code: str) -> str:
    """The name of one of our rules."""
    from onnxscope.checks.registry import find

    info = find(code)
    assert info
    return info.name


def ours(path: Path, target: str = "") -> list[Said]:
    """What `onnxscope audit` says, through its command line."""
    command = [
        sys.executable,
        "-m",
        "onnxscope",
        "audit",
        str(path),
        "--format",
        "json",
        "--fail-on",
        "never",
    ]
    targets = ["--target", target] if target else []
    done = subprocess.run([*command, *targets], capture_output=True, text=True, check=False)
    (model,) = json.loads(done.stdout)["models"]
    return [(item["code"], item["message"]) for item in model["findings"]]


def installed(python: str) -> dict[str, str]:
    """Package -> version in the peers' environment."""
    names = sorted({peer.package for peer in PEERS} | {"onnx", "onnxruntime"})
    code = "import json, sys; from importlib import metadata as m\nfound = {}\nfor n in sys.argv[1:]:\n"
    code += " try: found[n] = m.version(n)\n except m.PackageNotFoundError: pass\nprint(json.dumps(found))"
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def cell(text: str, most: int = 90) -> str:
    """Text for a table cell."""
    line = " ".join(text.split()).replace("|", "/")
    return line if len(line) <= most else f"{line[: most - 1]}…"


def compare(workers: Sequence[Worker], folder: Path) -> list[str]:
    """The table of planted defects as lines of Markdown, totals first."""
    sound, planted = plants()
    known: dict[tuple[str, str], set[Said]] = {}
    for name, data in sound.items():
        path = folder / f"{name}.onnx"
        path.write_bytes(data)
        known |= {(worker.peer.name, name): set(worker.ask(path)) for worker in workers}
    rows, totals = [], Counter[str]()
    for plant in planted:
        path = folder / f"{plant.sound}.onnx"
        path.write_bytes(plant.model)
        own = next((message for code, message in ours(path, plant.target) if code == plant.code), "")
        totals["onnxscope"] += bool(own)
        cells = [f"{plant.code} {plant.name}", cell(own) or "**not found**"]
        for worker in workers:
            new = [said for said in worker.ask(path) if said not in known[worker.peer.name, plant.sound]]
            other = ELSEWHERE.get((worker.peer.name, plant.name), "")
            stopped = bool(new) and new[0][0] == "fails"
            verdict = "elsewhere" if other else "stops" if stopped else "finds"
            totals[f"{worker.peer.name} {verdict}"] += bool(new)
            text = "; ".join(f"{code}: {message}" for code, message in new)
            cells.append(f"({other})" if other and new else cell(text) or "-")
        rows.append(f"| {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    names = ["onnxscope", *(worker.peer.name for worker in workers)]
    head = [f"{len(planted)} planted defects; onnxscope finds {totals['onnxscope']}.", ""]
    for peer in names[1:]:
        finds, stops, aside = (totals[f"{peer} {verdict}"] for verdict in ("finds", "stops", "elsewhere"))
        head.append(
            f"- {peer}: finds {finds}, stops with an error at {stops}, names something else at {aside}"
        )
    head += ["", f"| planted | {' | '.join(names)} |", f"|{'---|' * (len(names) + 1)}"]
    return head + rows


def survey(workers: Sequence[Worker], folder: Path, graphs: int) -> list[str]:
    """Codes and counts of every tool on a sample of real graphs, as lines of Markdown."""
    small = sorted(path for path in folder.glob("*.onnx") if path.stat().st_size < 60 << 20)
    chosen = sorted(random.Random(0).sample(small, min(graphs, len(small))))
    tools: dict[str, Callable[[Path], list[Said]]] = {"onnxscope": ours}
    tools |= {worker.peer.name: worker.ask for worker in workers}
    lines = [
        f"{len(chosen)} graphs.",
        "",
        "| tool | code | graphs | findings | for example |",
        "|---|---|---|---|---|",
    ]
    for name, ask in tools.items():
        lines += counted(name, ((path.stem, ask(path)) for path in chosen))
    return lines


def counted(name: str, answers: Iterable[tuple[str, list[Said]]]) -> list[str]:
    """Rows of one tool: how often each code came."""
    graphs: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    example: dict[str, str] = {}
    for stem, said in answers:
        findings.update(code for code, _ in said)
        graphs.update({code for code, _ in said})
        for code, message in said:
            example.setdefault(code, f"{stem}: {message}")
    return [
        f"| {name} | {code} | {graphs[code]} | {findings[code]} | {cell(example[code], 140)} |"
        for code in sorted(findings)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description="audit beside other linters")
    parser.add_argument("--python", default=sys.executable, help="Python with the other tools")
    parser.add_argument("--corpus", type=Path, help="folder of real graphs: count findings there instead")
    parser.add_argument("--graphs", type=int, default=40, help="how many of them (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, help="write the Markdown there")
    options: Any = parser.parse_args(arguments)
    versions = installed(options.python)
    for peer in PEERS:
        if peer.package not in versions:
            print(f"{peer.name} is not installed: left out", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workers = [Worker(peer, options.python, folder) for peer in PEERS if peer.package in versions]
        if options.corpus:
            lines = survey(workers, options.corpus, options.graphs)
        else:
            lines = compare(workers, folder)
    text = "\n".join([", ".join(f"{k} {v}" for k, v in versions.items()), "", *lines]) + "\n"
    if options.output:
        options.output.write_text(text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

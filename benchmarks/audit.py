"""`onnxscope audit` beside reading the file: whole processes, as ratios measured in one run.

    python benchmarks/audit.py                          VGG-19 (574 MB)
    python benchmarks/audit.py --models vgg19,mlp1.9g   mlp1.9g needs 8 GB of memory to build
    python benchmarks/audit.py --external               also each with its weights in another file

Every audit runs in pairs with `cat FILE > /dev/null`, files in the page cache; medians over the pairs.
"audit" runs every rule, "weights" those on stored numbers only, "no weights" all but those. Peak resident
memory counts mapped pages that are in memory at once: it must not grow with the file.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from report import compare, model_file, target

AUDIT = [sys.executable, "-m", "onnxscope", "audit", "--fail-on", "never"]
FORMS = {"audit": [], "weights": ["--select", "OX3"], "no weights": ["--ignore", "OX3,OX4"]}


def external(path: Path) -> Path:
    """The model with its weights in one file beside it, written on first use by a process of its own.

    (The kernel counts the parent's memory at the fork towards a child's peak: this one must stay small.)
    """
    folder = path.with_suffix(".external")
    moved = folder / path.name
    if not moved.exists():
        folder.mkdir(exist_ok=True)
        code = "import sys, onnx; onnx.save_model(onnx.load(sys.argv[1]), sys.argv[2],"
        code += " save_as_external_data=True, location='weights.bin')"
        subprocess.run([sys.executable, "-c", code, str(path), str(moved)], check=True)
    return moved


def table(path: Path, options: argparse.Namespace) -> None:
    """Measure one model and print its rows."""
    files = [path, *path.parent.glob("weights.bin")]
    read = ["sh", "-c", 'exec cat "$@" > /dev/null', "sh", *map(str, files)]
    print(f"\n{path.parent.name}/{path.name}: {sum(file.stat().st_size for file in files) / 1e6:,.1f} MB")
    print(f"{'':12} {'wall s':>8} {'cpu s':>8} {'peak MiB':>9}   ratios to cat: wall, cpu")
    for label, extra in FORMS.items():
        found = compare([*AUDIT, *extra, str(path)], read, options.pairs, options.timeout)
        times = f"{found.wall:8.3f} {found.cpu:8.3f} {found.peak:9.0f}"
        print(f"{label:12} {times}   {found.wall_ratio:7.2f} {found.cpu_ratio:7.2f}", flush=True)
        if label == "audit":
            target("audit, wall / cat", found.wall_ratio, 10)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="time and memory of an audit, beside reading the file")
    parser.add_argument("--models", default="vgg19", help="comma-separated (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=5, help="counted pairs of runs per command (default: 5)")
    parser.add_argument("--timeout", type=float, default=120, help="seconds per run (default: 120)")
    parser.add_argument("--external", action="store_true", help="also with the weights in another file")
    options = parser.parse_args(arguments)
    for name in options.models.split(","):
        path = model_file(name)
        table(path, options)
        if options.external:
            table(external(path), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())

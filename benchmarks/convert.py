"""`onnxscope convert --no-verify` beside `cp` of the same file, and beside `import onnx` for external data.

    python benchmarks/convert.py                   VGG-19 (574 MB), 7 pairs
    python benchmarks/convert.py --rows            the head as `--form rows`, which changes no weight

Both write a fresh file into one folder of the same file system, from a source in the page cache; neither
calls fsync. What is left of the pair before is removed outside the timing. Ratios are medians of the pairs'.
`start` is the conversion of LeNet-5: what doesn't grow with the file.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from report import CACHE, IMPORT, Run, model_file, run, target

CONVERT = [sys.executable, "-m", "onnxscope", "convert", "--no-verify"]


def pairs(ours: Sequence[str], base: Sequence[str], out: Path, count: int) -> list[tuple[Run, Run]]:
    """Runs of both commands in turn, each onto a name that is free; the first pair isn't counted."""
    found = []
    for _ in range(count + 1):
        runs = []
        for command in (base, ours):
            out.unlink(missing_ok=True)
            runs.append(run(command, 300))
            if not runs[-1].ok:
                raise SystemExit(f"failed: {' '.join(command)}")
        found.append((runs[1], runs[0]))
    return found[1:]


def shown(label: str, found: Sequence[tuple[Run, Run]]) -> float:
    """Print medians of our runs and of the ratios; returns the ratio of the wall times."""
    wall, cpu = median(own.wall for own, _ in found), median(own.cpu for own, _ in found)
    peak = median(own.peak for own, _ in found)
    slower = median(own.wall / base.wall for own, base in found)
    busier = median(own.cpu / base.cpu for own, base in found)
    print(f"{label:24} {wall:8.3f} {cpu:8.3f} {peak:9.0f}   {slower:7.2f} {busier:7.2f}", flush=True)
    return slower


def external(source: Path, folder: Path) -> Path:
    """The model with its weights in a file beside it."""
    path = folder / "external.onnx"
    code = (
        "import sys, onnx; onnx.save_model(onnx.load(sys.argv[1]), sys.argv[2], save_as_external_data=True, "
        "location='external.data')"
    )
    subprocess.run([sys.executable, "-c", code, str(source), str(path)], check=True)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="vgg19", help="a network of networks.py (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--rows", action="store_true")
    asked = parser.parse_args(arguments)
    source = model_file(asked.model)
    form = ["--form", "rows"] if asked.rows else []
    with tempfile.TemporaryDirectory(dir=CACHE) as place:
        folder = Path(place)
        out = folder / "out.onnx"
        ours = [*CONVERT, *form, str(source), "-o", str(out)]
        print(f"{source.name}: {'wall s':>12} {'cpu s':>8} {'peak MiB':>9}   to the other: wall, cpu")
        found = pairs(ours, ["cp", str(source), str(out)], out, asked.pairs)
        copied = shown("convert / cp", found)
        peak = median(own.peak for own, _ in found)
        small = [*CONVERT, *form, str(model_file("lenet")), "-o", str(out)]
        shown("start / cp", pairs(small, ["cp", str(source), str(out)], out, asked.pairs))
        beside = external(source, folder)
        before = (folder / "external.data").stat()
        apart = pairs([*CONVERT, *form, str(beside), "-o", str(out)], IMPORT, out, asked.pairs)
        referred = shown("external / import onnx", apart)
        after = (folder / "external.data").stat()
    print("\ntargets")
    target("convert, wall / cp", copied, 1.0)
    target("convert, peak MiB", peak, 80)
    target("convert with external data, wall / import onnx", referred, 2.0)
    untouched = (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    print(f"the file with the weights is {'untouched' if untouched else 'CHANGED'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

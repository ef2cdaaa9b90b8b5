"""Run the tests of this folder against real providers, each in a virtual environment of its own.

onnxruntime's wheels overwrite each other, so one environment holds one. Environments are kept in
`.cache/providers` and made anew when pyproject.toml or the pinned release changes. WebGPU needs a Vulkan
device: `vulkan.py` fetches one of software. `cuda` runs where there is an NVIDIA device, or when it is named
(without a device, what is tested is that its silent fallback is refused).

    python tests/providers/in_environments.py [openvino] [plugin] [webgpu] [cuda]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from pathlib import Path

import vulkan

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "openvino": ["onnxruntime-openvino==1.24.1"],
    "plugin": ["onnxruntime==1.32.0", "onnxruntime-ep-openvino==1.8.1"],
    "webgpu": ["onnxruntime-webgpu==1.27.0"],
    "cuda": ["onnxruntime-gpu==1.31.1"],
}


def missing(name: str) -> str:
    """Why a provider can't be tried on this machine, or ""."""
    if name == "webgpu" and vulkan.environment() is None:
        return (
            "there is no Vulkan library and device (python tests/providers/vulkan.py fetches them on Debian)"
        )
    if name == "cuda" and not Path("/dev/nvidia0").exists():
        return "there is no NVIDIA device (/dev/nvidia0)"
    return ""


def prepared(name: str) -> Path:
    """The Python of the provider's environment."""
    folder = ROOT / ".cache" / "providers" / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "stamp"
    wanted = " ".join(PACKAGES[name]) + (ROOT / "pyproject.toml").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(folder, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
        subprocess.run([*install, "-e", str(ROOT), *PACKAGES[name], "pytest>=8.2"], check=True)
        stamp.write_text(wanted)
    return python


def main(names: list[str]) -> int:
    """The number of providers whose tests failed."""
    failed = 0
    for name in names or list(PACKAGES):
        reason = "" if name == "cuda" and names else missing(name)
        if reason:
            print(f"{name}: skipped, {reason}", flush=True)
            continue
        start = time.monotonic()
        print(f"{name}: {', '.join(PACKAGES[name])}", flush=True)
        command = [prepared(name), "-m", "pytest", "-q", "--durations=3", "-p", "no:cacheprovider"]
        command += ["--confcutdir", "tests/providers", "tests/providers"]  # the tests need no other packages
        device = vulkan.environment() if name == "webgpu" else None
        environment = os.environ | {"ONNXSCOPE_PROVIDER": name} | (device or {})
        failed += subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

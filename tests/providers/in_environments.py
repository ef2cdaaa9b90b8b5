"""Run the tests of this folder against real providers, each in a virtual environment of its own.

onnxruntime's wheels overwrite each other, so one environment holds one. Environments are kept in
`.cache/providers` and made anew when pyproject.toml or the pinned release changes. WebGPU needs a Vulkan
device; the software one that comes with Debian's chromium does (`apt-get install chromium libvulkan1`).

    python tests/providers/in_environments.py [openvino] [webgpu]
"""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {"openvino": "onnxruntime-openvino==1.24.1", "webgpu": "onnxruntime-webgpu==1.27.0"}
SOFTWARE_VULKAN = "/usr/lib/chromium/vk_swiftshader_icd.json"


def missing(name: str, environment: dict[str, str]) -> str:
    """Why a provider can't be tried on this machine, or ""."""
    if name != "webgpu":
        return ""
    if ctypes.util.find_library("vulkan") is None:
        return "there is no Vulkan library (libvulkan1)"
    environment.setdefault("VK_ICD_FILENAMES", SOFTWARE_VULKAN)
    if not Path(environment["VK_ICD_FILENAMES"]).exists():
        return f"there is no Vulkan device: {environment['VK_ICD_FILENAMES']} is missing (chromium brings it)"
    return ""


def prepared(name: str) -> Path:
    """The Python of the provider's environment."""
    folder = ROOT / ".cache" / "providers" / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "stamp"
    wanted = PACKAGES[name] + (ROOT / "pyproject.toml").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(folder, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-e", str(ROOT), PACKAGES[name], "pytest>=8.2"], check=True)
        stamp.write_text(wanted)
    return python


def main(names: list[str]) -> int:
    """The number of providers whose tests failed."""
    failed = 0
    for name in names or list(PACKAGES):
        environment = dict(os.environ)
        reason = missing(name, environment)
        if reason:
            print(f"{name}: skipped, {reason}", flush=True)
            continue
        print(f"{name}: {PACKAGES[name]}", flush=True)
        command = [prepared(name), "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/providers"]
        done = subprocess.run([*command, "-k", f"{name} or fallback"], cwd=ROOT, env=environment, check=False)
        failed += done.returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

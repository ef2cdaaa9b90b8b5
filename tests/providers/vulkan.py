"""A Vulkan device made of software, for WebGPU where there is no GPU: SwiftShader, from Debian's chromium.

`python tests/providers/vulkan.py` fetches the package `chromium-common` (about 30 MB; it brings the device
and a Vulkan loader) with apt and unpacks it into `.cache/providers/vulkan`: nothing is installed, and nobody
need be root. Debian 12 and 13 have it so. Mesa's software device (lavapipe 22.3) lacks what WebGPU needs.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".cache" / "providers" / "vulkan"
ICD, LOADER = "vk_swiftshader_icd.json", "libvulkan.so.1"
CHROMIUM = Path("usr/lib/chromium")
PATIENCE = ("-o", "Acquire::http::Timeout=20", "-o", "Acquire::Retries=1")


def environment() -> dict[str, str] | None:
    """The variables that give a process a Vulkan device; None where there is no device or no loader.

    The user's own device comes first, then an installed chromium, then the unpacked one.
    """
    if "VK_ICD_FILENAMES" in os.environ and ctypes.util.find_library("vulkan"):
        return {"VK_ICD_FILENAMES": os.environ["VK_ICD_FILENAMES"]}
    for home in (Path("/") / CHROMIUM, FOLDER / CHROMIUM):
        if (home / ICD).exists() and (ctypes.util.find_library("vulkan") or (home / LOADER).exists()):
            libraries = [str(home), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
            return {"VK_ICD_FILENAMES": str(home / ICD), "LD_LIBRARY_PATH": os.pathsep.join(libraries)}
    return None


def fetch() -> str:
    """Unpack the package into FOLDER; why it can't be had, or ""."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return "apt-get and dpkg-deb are needed: this is no Debian"
    shutil.rmtree(FOLDER, ignore_errors=True)
    lists = FOLDER / "lists"
    (lists / "partial").mkdir(parents=True)
    own = ("-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={FOLDER / 'cache'}")
    download = ("download", "chromium-common")
    for command in (download, (*own, "update"), (*own, *download)):
        done = _apt(*command)
        if done.returncode == 0 and "download" in command:
            break
    else:
        return f"apt-get can't download chromium-common: {done.stderr.strip().splitlines()[-1:]}"
    for package in FOLDER.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, FOLDER], check=True)
        package.unlink()
    for leftover in (lists, FOLDER / "cache"):
        shutil.rmtree(leftover, ignore_errors=True)
    return "" if (FOLDER / CHROMIUM / ICD).exists() else "chromium-common brings no SwiftShader here"


def _apt(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["apt-get", "-q", *PATIENCE, *arguments]
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    if environment() is None:
        problem = fetch()
        if problem:
            sys.exit(f"no software Vulkan device: {problem}")
    print("Vulkan:", environment())

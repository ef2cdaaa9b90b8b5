"""Which installed packages bring the module `onnxruntime`: there are several, and one is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import Distribution


def packages() -> tuple[str, ...]:
    """The installed distributions of the module `onnxruntime`, with versions; more than one is a mistake."""
    from importlib.metadata import distributions

    found = {each.name: f"{each.name} {each.version}" for each in distributions() if _brings(each)}
    return tuple(found[name] for name in sorted(found))


def _brings(package: Distribution) -> bool:
    """Whether an installed package holds the module `onnxruntime`."""
    modules = package.read_text("top_level.txt")
    if modules is not None:
        return "onnxruntime" in modules.split()
    return "\nonnxruntime/" in "\n" + (package.read_text("RECORD") or "")


def conflict(installed: tuple[str, ...]) -> str:
    """What is wrong where several `packages` write the same module, and what to do; else "".

    >>> conflict(("onnxruntime 1.32.0",))
    ''
    """
    if len(installed) < 2:
        return ""
    names = " ".join(package.partition(" ")[0] for package in installed)
    both = " and ".join(installed)
    return f"{both} overwrite each other's files: pip uninstall {names}, then install the one wanted"

"""Settings of the audit from `onnxscope.toml` (table `audit`) or `pyproject.toml` (`tool.onnxscope.audit`).

    [tool.onnxscope.audit]
    fail-on = "warning"
    ignore = ["OX5"]
    max-params = "25M"
    severity = {OX224 = "error"}

    [[tool.onnxscope.audit.overrides]]
    models = ["legacy/*.onnx"]
    ignore = ["OX105"]

The nearest file above the working directory counts, `onnxscope.toml` before `pyproject.toml`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from onnxscope.checks.finding import SEVERITIES
from onnxscope.checks.settings import Settings
from onnxscope.errors import UsageError

THRESHOLDS = (*SEVERITIES, "never")
"""What `fail-on` may be."""
_CODES = ("select", "ignore", "target")
_LIMITS = ("max-params", "max-macs", "max-bytes", "max-peak-activation")
_MODEL_KEYS = (*_CODES, *_LIMITS, "opset-min", "required-metadata", "severity", "dims")
_KEYS = (*_MODEL_KEYS, "fail-on", "baseline", "jobs", "overrides")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]?)B?")
_SCALES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True, slots=True)
class Override:
    """Settings for the models whose path fits one of the patterns."""

    models: tuple[str, ...]
    table: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration file, checked."""

    path: str = ""
    """The file; "" where there is none."""
    table: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[Override, ...] = ()

    @property
    def fail_on(self) -> str | None:
        """The severity from which the audit fails; None where the file says nothing."""
        return self.table.get("fail-on")

    @property
    def baseline(self) -> str | None:
        """Path of the baseline, seen from the configuration file."""
        name = self.table.get("baseline")
        return None if name is None else os.path.join(os.path.dirname(self.path), name)

    @property
    def jobs(self) -> int | None:
        """Number of processes."""
        return self.table.get("jobs")

    def settings(self, model: str, base: Settings | None = None) -> Settings:
        """The settings for a model file; `base` (the command line's) goes before what the file says.

        Later overrides win; `ignore`, `severity` and `dims` of all that fit add up.
        """
        found = _merged(Settings(), self.table, self.path)
        folder = os.path.dirname(os.path.abspath(self.path)) if self.path else os.getcwd()
        relative = os.path.relpath(os.path.abspath(model), folder).replace(os.sep, "/")
        for override in self.overrides:
            if any(_fits(relative, pattern) for pattern in override.models):
                found = _merged(found, override.table, self.path)
        given = base or Settings()
        return replace(
            found,
            select=given.select or found.select,
            ignore=(*given.ignore, *found.ignore),
            targets=given.targets or found.targets,
        )


def _fits(path: str, pattern: str) -> bool:
    """Whether a path below the configuration's folder fits a pattern: `*` crosses folders too."""
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}")


def _merged(settings: Settings, table: Mapping[str, Any], path: str) -> Settings:
    changes: dict[str, Any] = {}
    if "select" in table:
        changes["select"] = tuple(table["select"])
    if "target" in table:
        changes["targets"] = target_names(table["target"], path)
    limits: dict[str, Any] = {key: _amount(table[key], key, path) for key in _LIMITS if key in table}
    limits |= {key: table[key] for key in ("opset-min",) if key in table}
    if "required-metadata" in table:
        limits["required-metadata"] = tuple(table["required-metadata"])
    changes["budget"] = replace(settings.budget, **{key.replace("-", "_"): v for key, v in limits.items()})
    return replace(
        settings,
        ignore=(*settings.ignore, *table.get("ignore", ())),
        severity={**settings.severity, **table.get("severity", {})},
        dims={**settings.dims, **table.get("dims", {})},
        **changes,
    )


def target_names(given: Iterable[str], where: str = "") -> tuple[str, ...]:
    """The targets as rules know them; onnxruntime's names of providers are understood too.

    Raises UsageError for one that nothing is known of.
    """
    if not given:
        return ()
    from onnxscope.checks.targets_known import TARGETS

    known = {key: target.name for target in TARGETS for key in (target.name, target.provider.lower())}
    for name in given:
        if name.lower() not in known:
            listed = ", ".join(target.name for target in TARGETS)
            raise UsageError(f"unknown target {name!r}", where=where, help=f"known: {listed}")
    return tuple(dict.fromkeys(known[name.lower()] for name in given))


def read(path: str | None = None, folder: str = ".") -> Config:
    """The configuration in `path`, or in the nearest file above `folder`; an empty one where there is none.

    Raises UsageError for a file that can't be read, or holds an unknown key or a value of the wrong kind.
    """
    found = path or _nearest(os.path.abspath(folder))
    if not found:
        return Config()
    table = _table(found)
    if table is None:
        if path:
            raise UsageError(
                "there is no table for the audit in it", where=path, help="name it [tool.onnxscope.audit]"
            )
        return Config()
    _check(table, _KEYS, found)
    overrides = tuple(_override(item, found) for item in table.get("overrides", ()))
    Config(found, table).settings("")  # so that amounts are read now
    return Config(found, table, overrides)


def _override(item: Any, path: str) -> Override:
    if not isinstance(item, dict) or not _texts(item.get("models")):
        raise UsageError("an override needs models = [patterns]", where=path)
    _check(item, (*_MODEL_KEYS, "models"), path)
    _merged(Settings(), item, path)
    return Override(tuple(item["models"]), {key: value for key, value in item.items() if key != "models"})


def _nearest(folder: str) -> str:
    while True:
        for name in ("onnxscope.toml", "pyproject.toml"):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and _table(path) is not None:
                return path
        parent = os.path.dirname(folder)
        if parent == folder:
            return ""
        folder = parent


def _table(path: str) -> dict[str, Any] | None:
    """The audit's table of a file; None where it has none."""
    try:
        with open(path, "rb") as file:
            whole: Any = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"can't be read: {error.strerror}", where=path) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"this is no TOML: {error}", where=path) from None
    steps = ("tool", "onnxscope", "audit") if os.path.basename(path) == "pyproject.toml" else ("audit",)
    for step in steps:
        whole = whole.get(step) if isinstance(whole, dict) else None
    return whole if isinstance(whole, dict) else None


def _check(table: Mapping[str, Any], keys: tuple[str, ...], path: str) -> None:
    for key, value in table.items():
        if key not in keys:
            near = get_close_matches(key, keys, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(keys))}"
            raise UsageError(f"unknown key {key!r}", where=path, help=hint)
        wanted = _unfit(key, value)
        if wanted:
            raise UsageError(f"{key} must be {wanted}, not {value!r}", where=path)


def _unfit(key: str, value: Any) -> str:
    """What the value of a key must be, where it isn't."""
    if key in (*_CODES, "required-metadata", "models"):
        return "" if _texts(value) else "a list of texts"
    if key == "fail-on":
        return "" if value in THRESHOLDS else f"one of {', '.join(THRESHOLDS)}"
    if key == "severity":
        fits = isinstance(value, dict) and set(value.values()) <= set(SEVERITIES)
        return "" if fits else f"a table of code = one of {', '.join(SEVERITIES)}"
    if key == "dims":
        return (
            "" if isinstance(value, dict) and all(map(_whole, value.values())) else "a table of whole numbers"
        )
    if key in ("opset-min", "jobs"):
        return "" if _whole(value) else "a whole number"
    if key == "baseline":
        return "" if isinstance(value, str) else "a path"
    return ""


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _amount(value: Any, key: str, path: str) -> int:
    """A number, or text with a decimal prefix: `25M`, `100 MB`, `4.2G`."""
    if _whole(value):
        return int(value)
    found = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        raise UsageError(f"{key} must be a whole number or text such as '25M', not {value!r}", where=path)
    number, scale = found[1], _SCALES[found[2]]
    whole, _, part = number.partition(".")
    return int(whole) * scale + (int(part) * scale // 10 ** len(part) if part else 0)

"""What the ONNX specification says of an op: the onnx package's own table of operators.

The only module of `checks` that imports onnx, and only when it is asked.
Source: onnx.defs (Operators.md and Changelog.md are generated from it).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

KNOWN_DOMAINS = frozenset(
    ("", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "ai.onnx.preview")
)
"""Domains that the ONNX specification defines."""
RUNTIME_DOMAINS = frozenset(
    (
        "com.microsoft",
        "com.microsoft.nchwc",
        "com.microsoft.experimental",
        "com.ms.internal.nhwc",
        "ai.onnx.contrib",
    )
)
"""Domains that onnxruntime (or its extensions) brings along."""


@dataclass(frozen=True, slots=True)
class Schema:
    """One version of one op."""

    since: int
    """Opset that brought this version."""
    deprecated: bool
    experimental: bool
    inputs: tuple[int, int]
    """Least and most inputs."""
    outputs: tuple[int, int]
    attributes: dict[str, bool]
    """Name -> whether it must be given."""
    types: dict[str, int]
    """Name -> `AttributeProto.AttributeType`."""


@cache
def schema(op: str, domain: str, version: int) -> Schema | None:
    """The op as opset `version` of its domain has it; None where that opset has none."""
    import onnx.defs

    if not (
        op.isascii() and domain.isascii() and abs(version) < 1 << 31
    ):  # a damaged file; onnx takes neither
        return None
    try:
        found = onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return None
    return Schema(
        found.since_version,
        found.deprecated,
        "EXPERIMENTAL" in str(found.support_level),
        (found.min_input, found.max_input),
        (found.min_output, found.max_output),
        {name: attribute.required for name, attribute in found.attributes.items()},
        {name: _number(attribute.type) for name, attribute in found.attributes.items()},
    )


@dataclass(frozen=True, slots=True)
class Operand:
    """One formal input of an op."""

    name: str
    variable: str
    """Type variable that other operands may share (`T`); "" where there is none to share."""
    dtypes: frozenset[int]
    """Tensor element types that the op takes there, as `TensorProto.DataType`."""


@cache
def operands(op: str, domain: str, version: int) -> tuple[Operand, ...]:
    """The formal inputs of an op, the last of which stands for all that follow; () for an unknown op."""
    import onnx.defs

    if schema(op, domain, version) is None:
        return ()
    found = []
    for item in onnx.defs.get_schema(op, version, domain).inputs:
        loose = item.option == onnx.defs.OpSchema.FormalParameterOption.Variadic and not item.is_homogeneous
        codes = frozenset(filter(None, map(_element, item.types)))
        found.append(Operand(item.name, "" if loose or "(" in item.type_str else item.type_str, codes))
    return tuple(found)


def _element(text: str) -> int:
    """`tensor(float)` -> 1; 0 for sequences and other types that are no tensor."""
    from onnx import TensorProto

    inner = text.removeprefix("tensor(").removesuffix(")").upper()
    return int(TensorProto.DataType.Value(inner)) if text.startswith("tensor(") else 0


def _number(kind: object) -> int:
    value = getattr(kind, "value", kind)
    return int(value) if isinstance(value, int) else 0


@cache
def first_version(op: str, domain: str) -> int | None:
    """The first opset that has an op of this name; None where there never was one."""
    import onnx.defs

    return _first_versions(onnx.defs.onnx_opset_version()).get((domain, op))


@cache
def _first_versions(_release: int) -> dict[tuple[str, str], int]:
    import onnx.defs

    found: dict[tuple[str, str], int] = {}
    for item in onnx.defs.get_all_schemas_with_history():
        key = (item.domain, item.name)
        found[key] = min(found.get(key, item.since_version), item.since_version)
    return found


def newest_ir() -> int:
    """The newest IR version that the installed onnx knows."""
    import onnx

    return int(onnx.IR_VERSION)


@cache
def newest_opset(domain: str = "") -> int | None:
    """The newest opset of a domain that the installed onnx knows; None for a domain it doesn't."""
    import onnx.defs

    versions = [item.since_version for item in onnx.defs.get_all_schemas() if item.domain == domain]
    if not versions:
        return None
    return onnx.defs.onnx_opset_version() if not domain else max(versions)

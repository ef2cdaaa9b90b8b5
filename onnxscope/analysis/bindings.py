"""Free sizes of a model: which symbols its inputs declare, and what the user binds them to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import SupportsIndex

from onnxscope.analysis.facts import Problem
from onnxscope.errors import UsageError
from onnxscope.expr import Expr, Size, Symbol, symbol, terms_of
from onnxscope.graph import DimDecl, Model, Type, ValueInfo
from onnxscope.ops.value import MAX_RANK, MAX_SIZE, Shape, ValueFact


@dataclass
class Bindings:
    """Sizes the user gave, by symbol and by input.

    A symbol of the file is global to the graph (ONNX IR, "Static tensor shapes"), so giving an input's axis a
    number binds the symbol declared there everywhere.
    """

    dims: dict[str, Size] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    overridden: bool = False
    """True where a size that the file fixes was changed: its declared intermediate shapes then don't hold."""
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def of(cls, model: Model, shapes: Mapping[str, Sequence[int | str]], dims: Mapping[str, int]) -> Bindings:
        """Check the user's bindings against the model. Raises UsageError."""
        stored = model.graph.initializers
        inputs = {info.name: info for info in model.graph.inputs if info.name not in stored}
        bindings = cls(dims={name: _number(size, f"--dim {name}") for name, size in dims.items()})
        for name, given in shapes.items():
            sizes = _sizes(name, given)
            bindings._bind_input(inputs, name, sizes)
        bindings._check_dims(model, inputs, dims)
        return bindings

    def _bind_input(self, inputs: Mapping[str, ValueInfo], name: str, sizes: Sequence[int | str]) -> None:
        if name not in inputs:
            known = ", ".join(map(repr, inputs)) or "none"
            raise UsageError(
                f"--shape names {name!r}, which is no input of the model", help=f"its inputs: {known}"
            )
        declared = inputs[name].type.shape
        if len(sizes) > MAX_RANK:
            raise UsageError(f"--shape {name}: {len(sizes)} sizes given, at most {MAX_RANK} make sense")
        if declared is not None and len(declared) != len(sizes):
            raise UsageError(
                f"--shape {name}: {len(sizes)} sizes given, the input has {len(declared)} axes",
                help=_shown(inputs[name]),
            )
        for axis, size in enumerate(sizes):
            self._bind_axis(name, axis, None if declared is None else declared[axis], size)
        self.shapes[name] = tuple(symbol(size) if isinstance(size, str) else size for size in sizes)

    def _bind_axis(self, name: str, axis: int, declared: DimDecl, size: int | str) -> None:
        if isinstance(declared, str) and declared and declared != size:
            value: Size = symbol(size) if isinstance(size, str) else size
            if self.dims.setdefault(declared, value) != value:
                raise UsageError(
                    f"size {declared!r} is bound to both {self.dims[declared]} and {size} (input {name})",
                    help="one name means one size; bind it once",
                )
        elif isinstance(declared, int) and declared != size:
            self.overridden = True

    def _check_dims(self, model: Model, inputs: Mapping[str, ValueInfo], dims: Mapping[str, int]) -> None:
        known: dict[str, None] = {}
        for info in (*model.graph.inputs, *model.graph.outputs, *model.graph.values):
            known.update((d, None) for d in info.type.shape or () if isinstance(d, str) and d)
        for info in inputs.values():
            known.update(
                (str(d), None)
                for d in self.declared_fact(info, "", bind=False).shape or ()
                if isinstance(d, Expr)
            )
        known.update((str(s), None) for shape in self.shapes.values() for s in shape if isinstance(s, Expr))
        for name in dims:
            if name not in known:
                names = ", ".join(map(repr, known)) or "none, every size is fixed"
                raise UsageError(
                    f"--dim names {name!r}, which is no free size of the model", help=f"free sizes: {names}"
                )

    def input_fact(self, info: ValueInfo) -> ValueFact:
        """The fact of a graph input under these bindings."""
        fact = self.declared_fact(info, "")
        given = self.shapes.get(info.name)
        if given is not None:
            fact = fact._replace(shape=tuple(self._bound(size) for size in given))
        elif fact.shape is None and not fact.container:
            given_axes = "no shape" if info.type.shape is None else f"{len(info.type.shape)} axes"
            self.problems.append(
                Problem(
                    info.name, f"input declares {given_axes}; give it with --shape {info.name}=1,3,224,224"
                )
            )
        return fact._replace(origin="given")

    def declared_fact(self, info: ValueInfo, scope: str, *, bind: bool = True) -> ValueFact:
        """The fact of a value as declared; an axis without name or number gets a symbol named after it.

        In a sequence that is an invented one: it may differ from element to element.
        """
        kind = info.type
        containers: list[str] = []
        while kind.kind in ("sequence", "optional", "map"):
            containers.append(kind.kind)
            if kind.element is None or kind.kind == "map":
                break
            kind = kind.element
        container = " of ".join(containers)
        shape = None
        if kind.shape is not None and len(kind.shape) <= MAX_RANK:
            shape = tuple(
                _declared_size(d, f"{scope}{info.name}.dim{axis}", "sequence" in containers)
                for axis, d in enumerate(kind.shape)
            )
            shape = tuple(self._bound(size) for size in shape) if bind else shape
        return ValueFact(kind.dtype or None, shape, container, origin="declared")

    def _bound(self, size: Size) -> Size:
        if not isinstance(size, Expr):
            return size
        from onnxscope.expr import bind

        return bind(bind(size, self.dims), self.dims)

    def completed(self, fact: ValueFact, declared: Type | None, name: str) -> ValueFact:
        """Fill what no rule answered from what the file declares, invented symbols by declared names."""
        if declared is None or declared.kind not in ("tensor", "sparse") or fact.container:
            return fact
        if fact.dtype is None and declared.dtype:
            fact = fact._replace(dtype=declared.dtype)
        if declared.shape is None or len(declared.shape) > MAX_RANK or self.overridden:
            return fact
        if fact.shape is None:
            shape = tuple(
                self._bound(_declared_size(d, f"{name}.dim{axis}", True))
                for axis, d in enumerate(declared.shape)
            )
            return fact._replace(shape=shape, origin="declared")
        if len(fact.shape) != len(declared.shape) or not any(isinstance(size, Expr) for size in fact.shape):
            return fact
        shape = tuple(
            self._bound(_declared_size(d, "")) if d not in (None, "") and _invented(size) else size
            for size, d in zip(fact.shape, declared.shape, strict=True)
        )
        return fact if shape == fact.shape else fact._replace(shape=shape)


def _sizes(name: str, given: object) -> tuple[int | str, ...]:
    """The sizes of an input as Python callers may give them (numpy's integers too). Raises UsageError."""
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes)):
        raise UsageError(
            f"--shape {name}: {given!r} is no list of sizes", help="for example (1, 3, 224, 224)"
        )
    return tuple(
        size if isinstance(size, str) and size else _number(size, f"--shape {name}") for size in given
    )


def _number(size: object, where: str) -> int:
    if isinstance(size, SupportsIndex) and 0 <= size.__index__() <= MAX_SIZE:
        return size.__index__()
    raise UsageError(
        f"{where}: {size!r} is not a whole number from 0 to 2**63 - 1", help="sizes count elements"
    )


def _declared_size(declared: DimDecl, fallback: str, invented: bool = False) -> Size:
    if isinstance(declared, int) and declared >= 0:
        return declared
    return symbol(declared) if isinstance(declared, str) and declared else symbol(fallback, invented=invented)


def _invented(size: Size) -> bool:
    """Whether the size is a lone invented symbol."""
    terms = terms_of(size)
    if len(terms) != 1 or terms[0][1] != 1 or len(terms[0][0]) != 1:
        return False
    atom = terms[0][0][0]
    return isinstance(atom, Symbol) and atom.invented


def _shown(info: ValueInfo) -> str:
    sizes = ",".join("?" if d in (None, "") else str(d) for d in info.type.shape or ())
    return f"declared: {info.name}={sizes}"

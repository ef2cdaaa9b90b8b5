"""OX142-OX147: names, references, sparse tensors and versions that ONNX's checker refuses."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from onnxscope.checks import schemas
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at, places, several
from onnxscope.checks.registry import check
from onnxscope.errors import FileError
from onnxscope.graph import Function, Model, SparseTensor, domain_of


@check("OX142", "nameless-graph", severity="warning")
def nameless_graph(model: Model) -> Iterator[Finding]:
    """The graph has no name.

    What it flags:
        A main graph, branch or loop body whose name is empty.

    Why it matters:
        The checker refuses the model, and with it every tool that checks first; runtimes load it.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        "" (float[N] x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Set `graph.name`; nothing is computed differently.

    Source:
        ONNX IR.md, "Graphs"; onnx.checker: "Field 'name' of 'graph' is required to be non-empty".
    """
    for place in places(model):
        if not place.graph.name and place.function is None:
            where = place.path.rstrip("/")
            yield nameless_graph.finding(where, f"the {'graph' if where else 'main graph'} has no name")


@check("OX143", "reference-outside-function", severity="error")
def reference_outside_function(model: Model) -> Iterator[Finding]:
    """An attribute refers to a function's attribute, but no function is around it.

    What it flags:
        Nodes outside of functions with an attribute that takes its value from one (`ref_attr_name`), and
        nodes inside whose attribute refers to one that the function doesn't have.

    Why it matters:
        The attribute has no value: onnxruntime refuses the model.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = LeakyRelu <alpha : float = @slope> (x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = LeakyRelu <alpha = 0.1> (x) }

    Fix and its safety:
        Write the value in its place; the file doesn't tell which one was meant.

    Source:
        onnx.proto, AttributeProto.ref_attr_name; ONNX IR.md, "Attributes".
    """
    for place in places(model):
        known = _attributes(place.function) if place.function else frozenset()
        for node in place.graph.nodes:
            for attribute in node.attributes:
                if attribute.reference and attribute.reference not in known:
                    text = f"attribute {attribute.name!r} of {node.op} refers to {attribute.reference!r}, "
                    text += "which its function doesn't have" if place.function else "outside of any function"
                    finding = reference_outside_function.finding(f"{place.path}{node.label}", text)
                    yield at(finding, node)


def _attributes(function: Function) -> frozenset[str]:
    return frozenset((*function.attributes, *(attribute.name for attribute in function.defaults)))


@check("OX144", "broken-sparse-tensor", severity="error")
def broken_sparse_tensor(model: Model) -> Iterator[Finding]:
    """The positions of a sparse tensor don't fit it.

    What it flags:
        Sparse initializers with more or fewer positions than values, with positions outside of their dims, or
        not in ascending order.

    Why it matters:
        Readers refuse the model, or put numbers where they don't belong.

    Bad: see tests/checks/test_rules_format_structure.py

    Good: see tests/checks/test_rules_format_structure.py

    Fix and its safety:
        Export again; store the positions in ascending order, each once.

    Source:
        onnx.proto, SparseTensorProto: sorted, in range, [NNZ] or [NNZ, rank].
    """
    for place in places(model):
        for sparse in place.graph.sparse:
            problem = _sparse_problem(sparse)
            if problem:
                name = sparse.values.name
                text = f"sparse tensor {name!r} {list(sparse.dims)}: {problem}"
                yield at(broken_sparse_tensor.finding(f"{place.path}{name}", text), sparse.values)


def _sparse_problem(sparse: SparseTensor) -> str:
    """What is wrong with the positions of a sparse tensor; "" where they are right or can't be read."""
    import numpy as np

    count, rank, held = sparse.values.count, len(sparse.dims), sparse.indices.dims
    if held not in ((count,), (count, rank)):
        return f"positions of shape {list(held)} for {count} values"
    try:
        positions = sparse.indices.array().astype(np.int64)
    except (FileError, TypeError):
        return ""  # what can't be read is OX134's to OX137's
    limits = np.array(sparse.dims if len(held) == 2 else (prod(sparse.dims),))
    positions = positions.reshape(count, limits.size)
    outside = np.flatnonzero(((positions < 0) | (positions >= limits)).any(axis=1))
    if outside.size:
        place = int(outside[0])
        return f"position {place} is {positions[place].tolist()}, beyond {limits.tolist()}"
    steps = np.diff(positions, axis=0)
    first = np.take_along_axis(steps, (steps != 0).argmax(axis=1)[:, None], axis=1)[:, 0]
    back = np.flatnonzero(first <= 0)  # the first axis on which two neighbours differ must grow
    return f"position {int(back[0]) + 1} doesn't come after the one before it" if back.size else ""


@check("OX145", "nameless-function", severity="error")
def nameless_function(model: Model) -> Iterator[Finding]:
    """A function without a name or domain.

    What it flags:
        Model-local functions whose name or domain is empty.

    Why it matters:
        A node finds its function by both: without a name nothing can call it, and without a domain a call
        looks like one of ONNX's own ops. Checker and onnxruntime refuse it.

    Bad:
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }
        <domain: "", opset_import: ["" : 17]>
        f (a) => (b) { b = Neg(a) }

    Good:
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["" : 17]>
        f (a) => (b) { b = Neg(a) }

    Fix and its safety:
        Give it a domain of its own and import that; callers must follow.

    Source:
        ONNX IR.md, "Functions"; onnx.checker, check_function.
    """
    for index, function in enumerate(model.functions):
        lacks = [what for what, text in (("name", function.name), ("domain", function.domain)) if not text]
        if lacks:
            label = f"{function.domain}.{function.name}".strip(".")
            text = f"function {label or index} has no {' and no '.join(lacks)}"
            yield nameless_function.finding(label, text, index=index)


@check("OX146", "function-opset-differs", severity="warning")
def function_opset_differs(model: Model) -> Iterator[Finding]:
    """A function goes by another version of an op than the model.

    What it flags:
        Functions that import another opset than the model, where one of their ops changed in between; both
        versions and the op are named.

    Why it matters:
        The checker refuses the model, and a tool that inlines the function gives its nodes the other meaning.

    Bad:
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["" : 11]>
        f (a) => (b) { b = Relu(a) }

    Good:
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["" : 15]>
        f (a) => (b) { b = Relu(a) }

    Fix and its safety:
        Export both with one opset. Where the op means the same in both, changing the import is safe.

    Source:
        onnx.checker, check_model_local_functions: "Opset import for domain is not compatible".
    """
    for function in model.functions:
        for domain, version in function.opsets:
            own = model.opset.get(domain_of(domain), version)
            ops = {node.op for node in function.body.nodes if domain_of(node.domain) == domain_of(domain)}
            changed = sorted(op for op in ops if own != version and _changed(op, domain, own, version))
            if changed:
                text = f"function {function.name!r} imports opset {version}, the model {own}: "
                text += f"{several(changed)} changed in between"
                label = f"{function.domain}.{function.name}"
                yield function_opset_differs.finding(label, text, function_opset=version, model_opset=own)


def _changed(op: str, domain: str, one: int, other: int) -> bool:
    before, after = (schemas.schema(op, domain_of(domain), version) for version in (one, other))
    return before is not None and after is not None and before.since != after.since


@check("OX147", "ir-version-of-the-future", severity="warning")
def ir_of_the_future(model: Model) -> Iterator[Finding]:
    """The IR version is newer than the installed onnx package.

    What it flags:
        A file whose `ir_version` is above the newest that the installed onnx package knows; both are named.

    Why it matters:
        onnxruntime and the checker refuse the file, though its ops may all be old ones.

    Bad: see tests/checks/test_rules_format_structure.py

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Update onnx and onnxruntime, or set the lower `ir_version` at export; safe where the file uses nothing
        that came with the newer one (OX141 tells).

    Source:
        ONNX Versioning.md; onnxruntime#20559: "Unsupported model IR version".
    """
    newest = schemas.newest_ir()
    if model.ir_version > newest:
        text = f"IR version {model.ir_version} is newer than {newest}, the newest one that the installed "
        help = "update onnx and the runtime, or export with an older IR version"
        yield ir_of_the_future.finding("", f"{text}onnx knows", help, ir=model.ir_version, newest=newest)

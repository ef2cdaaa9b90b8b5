"""OX130-OX138: graphs that can't run in order, and tensors whose numbers don't fit."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope import dtypes
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at, count_of, given, places, several, tensors
from onnxscope.checks.registry import check
from onnxscope.files.storage import RawData, TypedData
from onnxscope.graph import Model, captures, domain_of


@check("OX130", "unsorted-nodes", severity="warning", fix="onnxslim MODEL OUT")
def unsorted_nodes(model: Model) -> Iterator[Finding]:
    """Nodes don't stand in execution order.

    What it flags:
        A node that reads a value which only a later node of its graph makes (cycles are OX131).

    Why it matters:
        ONNX demands topological order: the checker and most converters refuse the model, though onnxruntime
        sorts it.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            y = Neg(h)
            h = Relu(x)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            h = Relu(x)
            y = Neg(h)
        }

    Fix and its safety:
        Sort the nodes; edges are names, so nothing is computed differently.

    Source:
        ONNX IR.md, "Graphs": the node list is topologically sorted.
    """
    for place in places(model):
        if len(place.graph.order) < len(place.graph.nodes):
            continue
        known = given(place.graph)
        late = []
        for node in place.graph.nodes:
            reads = [name for name in (*node.inputs, *captures(node)) if name in place.graph.producers]
            late += [(node, name) for name in reads if name not in known][:1]
            known.update(node.outputs)
        if late:
            text = f"unsorted nodes: {late[0][0].label} reads {late[0][1]!r} before it is made"
            text += f", as do {len(late) - 1} more" if len(late) > 1 else ""
            finding = unsorted_nodes.finding(f"{place.path}{late[0][0].label}", text, nodes=len(late))
            yield at(finding, late[0][0])


@check("OX131", "cycle", severity="error")
def cycle(model: Model) -> Iterator[Finding]:
    """Nodes wait for each other.

    What it flags:
        Nodes on a cycle or behind one, which can never run.

    Why it matters:
        A graph of ONNX has no cycles; nothing behind one can be computed.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            h = Add(x, y)
            y = Relu(h)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            h = Add(x, x)
            y = Relu(h)
        }

    Fix and its safety:
        Export again; feedback needs a Loop or a state that the caller passes back in.

    Source:
        ONNX IR.md, "Graphs": the graph is acyclic.
    """
    for place in places(model):
        if len(place.graph.order) == len(place.graph.nodes):
            continue
        reached = {id(node) for node in place.graph.order}
        stuck = [node for node in place.graph.nodes if id(node) not in reached]
        labels = several(node.label for node in stuck)
        text = f"cycle: {count_of(len(stuck), 'node')} on a cycle or behind one: {labels}"
        yield at(cycle.finding(f"{place.path}{stuck[0].label}", text, nodes=len(stuck)), stuck[0])


@check("OX132", "recursive-function", severity="error")
def recursive_function(model: Model) -> Iterator[Finding]:
    """A function calls itself.

    What it flags:
        Model-local functions that reach themselves through the calls in their bodies.

    Why it matters:
        Functions are inlined; one that calls itself never ends. Runtimes refuse it, or crash.

    Bad:
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["" : 17, "my" : 1]>
        f (a) => (b) { b = my.f(a) }

    Good:
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["" : 17]>
        f (a) => (b) { b = Relu(a) }

    Fix and its safety:
        Export again; a repetition needs a Loop.

    Source:
        ONNX IR.md, "Functions": recursion is not allowed.
    """
    edges: dict[tuple[str, str], set[tuple[str, str]]] = {}
    local = {(domain_of(item.domain), item.name) for item in model.functions}
    for place in places(model):
        if place.function is not None:
            key = (domain_of(place.function.domain), place.function.name)
            called = {(domain_of(node.domain), node.op) for node in place.graph.nodes}
            edges.setdefault(key, set()).update(called & local)
    waiting = {key: set(called) for key, called in edges.items()}
    while free := [key for key, called in waiting.items() if not called]:
        for key in free:
            del waiting[key]
        for called in waiting.values():
            called.difference_update(free)
    if waiting:
        names = sorted(".".join(filter(None, key)) for key in waiting)
        text = f"recursive function: {several(names)} calls itself, or one that does"
        yield recursive_function.finding(names[0], text, functions=names)


@check("OX133", "invalid-utf8", severity="warning")
def invalid_utf8(model: Model) -> Iterator[Finding]:
    """A text of the file is not UTF-8.

    What it flags:
        Names, documentation or metadata whose bytes don't decode.

    Why it matters:
        protobuf strings are UTF-8 by definition: some readers refuse the whole model, others change the text.

    Bad: see tests/checks/test_rules_loading.py

    Good: see tests/checks/test_rules_loading.py

    Fix and its safety:
        Export again with plain names; nothing is computed differently.

    Source:
        protobuf "Scalar Value Types": string; onnx.proto.
    """
    texts = [oddity.message for oddity in model.oddities if oddity.kind == "utf8"]
    if texts:
        yield invalid_utf8.finding(
            "model", f"{count_of(len(texts), 'text')} with invalid UTF-8: {texts[0]}", texts=len(texts)
        )


@check("OX134", "hollow-tensor", severity="error")
def hollow_tensor(model: Model) -> Iterator[Finding]:
    """A tensor without numbers.

    What it flags:
        Stored tensors whose dims ask for numbers and that hold none, neither inside the file nor outside.

    Why it matters:
        Weights were stripped (to publish or compare the structure) or lost: the model can't run.

    Bad: see tests/checks/test_rules_loading.py

    Good: see tests/checks/test_rules_loading.py

    Fix and its safety:
        Get the file with its weights.

    Source:
        onnx.proto, TensorProto: exactly one field holds the numbers.
    """
    hollow = [(label, t) for label, t in tensors(model) if t.storage is None and t.count > 0]
    if hollow:
        names = several(label for label, _ in hollow)
        text = f"{count_of(len(hollow), 'hollow tensor')}, without numbers: {names}"
        yield at(hollow_tensor.finding(hollow[0][0], text, tensors=len(hollow)), hollow[0][1])


@check("OX135", "data-size-mismatch", severity="error")
def data_size_mismatch(model: Model) -> Iterator[Finding]:
    """A tensor holds more or fewer bytes than its dims and type ask for.

    What it flags:
        Stored tensors (external ones: OX151) whose bytes don't fit, and negative dims; both
        numbers are named.

    Why it matters:
        The file is damaged or was put together wrongly; runtimes refuse it, careless tools read beyond.

    Bad: see tests/checks/test_rules_loading.py

    Good: see tests/checks/test_rules_loading.py

    Fix and its safety:
        Export again; the right numbers aren't in the file.

    Source:
        onnx.proto, TensorProto.raw_data: little-endian, fixed width, no padding.
    """
    for label, tensor in tensors(model):
        if isinstance(tensor.storage, RawData | TypedData):
            problem = tensor.storage.problem()
            if problem:
                text = f"data size mismatch: tensor {tensor.name!r} {list(tensor.dims)} {problem}"
                yield at(data_size_mismatch.finding(label, text), tensor)
        elif any(size < 0 for size in tensor.dims):
            text = f"data size mismatch: tensor {tensor.name!r} has a negative size in its dims"
            yield at(data_size_mismatch.finding(label, f"{text} {list(tensor.dims)}"), tensor)


@check("OX136", "unknown-element-type", severity="error")
def unknown_element_type(model: Model) -> Iterator[Finding]:
    """A tensor has no element type, or one that no ONNX release knows.

    What it flags:
        Stored tensors whose `data_type` is 0 (undefined) or an unknown number.

    Why it matters:
        What the bytes mean can't be told.

    Bad: see tests/checks/test_rules_loading.py

    Good: see tests/checks/test_rules_loading.py

    Fix and its safety:
        Export again, or update onnxscope and onnx where the type is a new one.

    Source:
        onnx.proto, TensorProto.DataType.
    """
    for label, tensor in tensors(model):
        if tensor.dtype not in dtypes.BY_CODE:
            name = "is undefined (0)" if not tensor.dtype else f"is {tensor.dtype}, which no release knows"
            text = f"the element type of tensor {tensor.name!r} {name}"
            yield at(unknown_element_type.finding(label, text, data_type=tensor.dtype), tensor)


@check("OX137", "misplaced-numbers", severity="error")
def misplaced_numbers(model: Model) -> Iterator[Finding]:
    """A tensor's numbers stand in the wrong field, or in two.

    What it flags:
        Numbers in a field that the element type doesn't use (text in raw_data too), numbers in two fields, or
        inside the file and outside of it, at once, and tensors stored in segments.

    Why it matters:
        Each reader picks another field: the same file gives different weights to different tools.

    Bad: see tests/checks/test_rules_loading.py

    Good: see tests/checks/test_rules_loading.py

    Fix and its safety:
        Export again; which numbers were meant can't be told.

    Source:
        onnx.proto, TensorProto: which field serves which type.
    """
    for oddity in model.oddities:
        if oddity.kind == "field":
            yield misplaced_numbers.finding(oddity.where, f"{oddity.where} {oddity.message}")


@check("OX138", "attribute-type-mismatch", severity="error")
def attribute_type_mismatch(model: Model) -> Iterator[Finding]:
    """An attribute says one type and holds another.

    What it flags:
        Attributes whose declared type differs from the field that is filled, or that no release knows, and
        those that refer to an attribute of their function and hold a value of their own too.

    Why it matters:
        A reader that goes by the type finds the default value in its place, without a word.

    Bad: see tests/checks/test_rules_loading.py

    Good: see tests/checks/test_rules_loading.py

    Fix and its safety:
        Export again.

    Source:
        onnx.proto, AttributeProto.type.
    """
    for oddity in model.oddities:
        if oddity.kind == "attribute":
            text = f"attribute type mismatch: {oddity.where} {oddity.message}"
            yield attribute_type_mismatch.finding(oddity.where, text)

"""OX120-OX129: names that are empty, given twice, or lead nowhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at, count_of, given, places, several
from onnxscope.checks.registry import check
from onnxscope.graph import Graph, Model, Node, domain_of


def repeats(names: Iterable[str]) -> dict[str, int]:
    """Names that come more than once, and how often; in order of first use."""
    return {name: count for name, count in Counter(names).items() if count > 1}


@check("OX120", "unnamed-node", severity="note")
def unnamed_node(model: Model) -> Iterator[Finding]:
    """Nodes without a name.

    What it flags:
        Nodes whose name is empty; one finding with their number.

    Why it matters:
        Profiles, quantization lists, error messages and diffs refer to nodes by name.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { [relu] y = Relu(x) }

    Fix and its safety:
        Give names; nothing is computed differently.

    Source:
        ONNX IR.md, "Nodes": names are for diagnostics; onnx-doctor and sng4onnx flag or add them.
    """
    found = [(place, node) for place in places(model) for node in place.graph.nodes if not node.name]
    if found:
        labels = several(f"{place.path}{node.label}" for place, node in found)
        text = f"{count_of(len(found), 'unnamed node')}: {labels}"
        finding = unnamed_node.finding(f"{found[0][0].path}{found[0][1].label}", text, nodes=len(found))
        yield at(finding, found[0][1])


@check("OX121", "duplicate-node-name", severity="warning")
def duplicate_node_name(model: Model) -> Iterator[Finding]:
    """Several nodes share one name.

    What it flags:
        Nodes of one graph with the same name that isn't empty.

    Why it matters:
        Whoever looks a node up by name (quantization lists, profiles, graph surgery) gets one of them.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            [act] h = Relu(x)
            [act] y = Neg(h)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            [act] h = Relu(x)
            [negate] y = Neg(h)
        }

    Fix and its safety:
        Rename; nothing is computed differently, but lists that refer to the name must follow.

    Source:
        ONNX IR.md, "Names Within a Graph": node names must be unique.
    """
    for place in places(model):
        named: dict[str, list[Node]] = {}
        for node in place.graph.nodes:
            named.setdefault(node.name, []).append(node)
        for name, nodes in named.items():
            if name and len(nodes) > 1:
                ops = several(dict.fromkeys(node.op for node in nodes))
                text = f"duplicate node name: {len(nodes)} nodes ({ops}) are named {name!r}"
                finding = duplicate_node_name.finding(f"{place.path}{name}", text, nodes=len(nodes))
                yield at(finding, nodes[1])


@check("OX122", "duplicate-value", severity="error")
def duplicate_value(model: Model) -> Iterator[Finding]:
    """A value is produced twice.

    What it flags:
        A name that two node outputs share, or a node output and an input or initializer of the same graph.

    Why it matters:
        The graph isn't in single-assignment form: which of the values a reader means can't be told. Checker
        and runtimes refuse it.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            y = Relu(x)
            y = Neg(x)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            h = Relu(x)
            y = Neg(h)
        }

    Fix and its safety:
        Export again; a rename must decide for every reader which value it means.

    Source:
        ONNX IR.md, "Graphs": node outputs, inputs and initializers share one namespace (SSA).
    """
    for place in places(model):
        before = given(place.graph)
        outputs = [name for node in place.graph.nodes for name in node.outputs if name]
        for name, count in repeats(outputs).items():
            text = f"duplicate value: {name!r} is the output of {count} nodes"
            yield duplicate_value.finding(f"{place.path}{name}", text, producers=count)
        for name in dict.fromkeys(name for name in outputs if name in before):
            text = f"duplicate value: {name!r} is a node's output and an input or initializer too"
            yield duplicate_value.finding(f"{place.path}{name}", text)


@check("OX123", "duplicate-initializer", severity="error")
def duplicate_initializer(model: Model) -> Iterator[Finding]:
    """Two initializers share one name.

    What it flags:
        Initializers (sparse ones too) of one graph with the same name.

    Why it matters:
        Which numbers hold depends on the reader: onnxruntime takes the last, other tools the first.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2] x) => (float[2] y) <float[2] w = {1, 2}, float[2] w = {3, 4}> { y = Mul(x, w) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Mul(x, w) }

    Fix and its safety:
        Remove one; safe only where both hold the same numbers.

    Source:
        ONNX IR.md, "Graphs": initializer names must be unique.
    """
    for place in places(model):
        graph = place.graph
        stored = [*(tensor.name for tensor in graph.tensors), *(s.values.name for s in graph.sparse)]
        for name, count in repeats(stored).items():
            text = f"duplicate initializer: {name!r} is given {count} times"
            yield duplicate_initializer.finding(f"{place.path}{name}", text, count=count)


@check("OX124", "duplicate-interface-name", severity="error")
def duplicate_interface_name(model: Model) -> Iterator[Finding]:
    """Two inputs or two outputs share one name.

    What it flags:
        A graph whose list of inputs, or of outputs, names a value twice; a function whose attributes do.

    Why it matters:
        Values are fed and fetched by name: one of the two can't be reached. The checker refuses it.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y, float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Remove the second entry, or give it a value of its own through an Identity.

    Source:
        ONNX IR.md, "Graphs".
    """
    for place in places(model):
        for what, infos in (("input", place.graph.inputs), ("output", place.graph.outputs)):
            for name, count in repeats(info.name for info in infos).items():
                text = f"duplicate {what}: {name!r} is listed {count} times"
                yield duplicate_interface_name.finding(f"{place.path}{name}", text, count=count)
    for function in model.functions:
        names = [*function.attributes, *(attribute.name for attribute in function.defaults)]
        for name, count in repeats(names).items():
            text = f"duplicate attribute of function {function.name!r}: {name!r} is listed {count} times"
            yield duplicate_interface_name.finding(f"{function.domain}.{function.name}", text, count=count)


@check("OX125", "duplicate-metadata-key", severity="warning")
def duplicate_metadata_key(model: Model) -> Iterator[Finding]:
    """A metadata key is given twice, or empty.

    What it flags:
        Keys that a model's, graph's or node's metadata lists more than once, and keys without a name.

    Why it matters:
        Readers make a dictionary of it, and one of the entries is lost without a word.

    Bad:
        <ir_version: 8, opset_import: ["" : 17], metadata_props: ["task" : "digits", "task" : "letters"]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17], metadata_props: ["task" : "digits"]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Keep one entry per key; no computation depends on it.

    Source:
        ONNX IR.md, "Optional Metadata"; onnx.proto, metadata_props: keys are distinct.
    """
    entries = [("model", model.metadata)]
    for place in places(model):
        entries.append((place.path or "graph", place.graph.metadata))
        entries += [(f"{place.path}{n.label}", n.metadata) for n in place.graph.nodes if n.metadata]
    for where, pairs in entries:
        keys = [key for key, _ in pairs]
        for key, count in repeats(keys).items():
            text = f"duplicate metadata key {key!r}: {where} gives it {count} times"
            yield duplicate_metadata_key.finding(key or where, text, count=count)
        if keys.count("") == 1:
            yield duplicate_metadata_key.finding(where, f"empty metadata key in {where}")


@check("OX126", "empty-value-name", severity="error")
def empty_value_name(model: Model) -> Iterator[Finding]:
    """An input, output or initializer has no name.

    What it flags:
        Graph inputs, graph outputs and initializers whose name is empty.

    Why it matters:
        The empty name means "absent": nothing can refer to the value.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x, float[N] "") => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Remove the entry; nobody can use it.

    Source:
        ONNX IR.md, "Names Within a Graph"; "Optional Inputs and Outputs".
    """
    for place in places(model):
        graph = place.graph
        lists = (
            ("input", [info.name for info in graph.inputs]),
            ("output", [info.name for info in graph.outputs]),
            ("initializer", [tensor.name for tensor in graph.tensors]),
        )
        for what, found in lists:
            if "" in found:
                text = f"{what} {found.index('')} has an empty name"
                yield empty_value_name.finding(place.path or graph.name, text, index=found.index(""))


@check("OX127", "dangling-input", severity="error")
def dangling_input(model: Model) -> Iterator[Finding]:
    """A node reads a value that nobody makes.

    What it flags:
        A node input that is no output of a node, no input and no initializer of its graph or one around it.

    Why it matters:
        The node can't run; runtimes refuse the model.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Add(x, lost) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Add(x, x) }

    Fix and its safety:
        Export again; what the value was can't be told from the file.

    Source:
        ONNX IR.md, "Graphs".
    """
    anywhere = {name for place in places(model) for name in _defined(place.graph)}
    for place in places(model):
        known = (
            anywhere if place.outer else _defined(place.graph)
        )  # a later outer value is unsorted, not lost
        for node in place.graph.nodes:
            lost = [name for name in dict.fromkeys(node.inputs) if name and name not in known]
            if lost:
                text = f"dangling input: {several(map(repr, lost))} of {node.op} is made by no node, input or"
                label = f"{place.path}{node.label}"
                yield at(dangling_input.finding(label, f"{text} initializer", values=lost), node)


def _defined(graph: Graph) -> set[str]:
    return given(graph) | {name for node in graph.nodes for name in node.outputs if name}


@check("OX128", "shadowed-name", severity="warning")
def shadowed_name(model: Model) -> Iterator[Finding]:
    """A subgraph uses a name that the graph around it already has.

    What it flags:
        Inputs, initializers and node outputs of a branch or loop body that carry the name of a value of an
        outer graph defined before.

    Why it matters:
        ONNX forbids it: a tool that inlines or renames takes one value for the other.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x, bool c) => (float[N] y) {
            h = Relu(x)
            y = If(c) <
                then_branch = yes () => (float[N] a) { h = Neg(x) a = Abs(h) },
                else_branch = no () => (float[N] b) { b = Relu(h) }
            >
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x, bool c) => (float[N] y) {
            h = Relu(x)
            y = If(c) <
                then_branch = yes () => (float[N] a) { g = Neg(x) a = Abs(g) },
                else_branch = no () => (float[N] b) { b = Relu(h) }
            >
        }

    Fix and its safety:
        Rename the inner value in its graph; safe, since every reader inside means the inner one.

    Source:
        ONNX IR.md, "Names Within a Graph": no shadowing of outer names.
    """
    for place in places(model):
        names = sorted(_defined(place.graph) & place.outer) if place.outer else []
        if names:
            text = f"{count_of(len(names), 'name')} of the graph around it used again: {several(names)}"
            yield shadowed_name.finding(place.path.rstrip("/"), f"shadowed names: {text}", names=names)


@check("OX129", "duplicate-function", severity="error")
def duplicate_function(model: Model) -> Iterator[Finding]:
    """Two functions of the model have one identity.

    What it flags:
        Model-local functions with the same domain, name and overload.

    Why it matters:
        Which body a call means can't be told.

    Bad:
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["" : 17]>
        f (a) => (b) { b = Relu(a) }
        <domain: "my", opset_import: ["" : 17]>
        f (a) => (b) { b = Neg(a) }

    Good:
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["" : 17]>
        f (a) => (b) { b = Relu(a) }

    Fix and its safety:
        Remove or rename one; safe only where both bodies are the same.

    Source:
        ONNX IR.md, "Functions": (domain, name, overload) is unique.
    """
    keys = [".".join(filter(None, (domain_of(f.domain), f.name, f.overload))) for f in model.functions]
    for key, count in repeats(keys).items():
        yield duplicate_function.finding(
            key, f"duplicate function: {key!r} is defined {count} times", count=count
        )

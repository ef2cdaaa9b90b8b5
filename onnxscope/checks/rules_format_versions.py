"""OX101-OX109: versions, opset imports, and ops against the specification."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.checks import schemas
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at, count_of, once_per_model, places, several
from onnxscope.checks.registry import check
from onnxscope.graph import Model, Node, domain_of


def shown(domain: str) -> str:
    """A domain for a message; the default one is ai.onnx."""
    return domain or "ai.onnx"


@once_per_model
def calls(model: Model) -> Iterator[tuple[str, Node, int | None]]:
    """(label, node, opset version) of every node that calls no function of the model."""
    local = {(domain_of(item.domain), item.name) for item in model.functions}
    for place in places(model):
        opset = model.opset
        if place.function is not None:
            opset = {domain_of(domain): version for domain, version in place.function.opsets}
        for node in place.graph.nodes:
            domain = domain_of(node.domain)
            if (domain, node.op) not in local:
                yield f"{place.path}{node.label}", node, opset.get(domain)


@check("OX101", "missing-ir-version", severity="error")
def missing_ir_version(model: Model) -> Iterator[Finding]:
    """The file gives no IR version.

    What it flags:
        A model whose `ir_version` is absent or 0.

    Why it matters:
        The IR version says how to read the rest (are initializers constants or defaults?). The ONNX checker
        refuses a model without one.

    Bad:
        <opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Export again, or set `ir_version` to the one that belongs to the opset. Safe: nothing is computed
        differently as long as initializers are not inputs.

    Source:
        ONNX IR.md, "Models"; onnx.proto, ModelProto.ir_version.
    """
    if model.ir_version <= 0:
        yield missing_ir_version.finding("", f"the IR version is missing (ir_version is {model.ir_version})")


@check("OX102", "missing-opset-import", severity="error")
def missing_opset_import(model: Model) -> Iterator[Finding]:
    """A domain is used without an opset import.

    What it flags:
        A domain that nodes call and the model (or the function around them) imports no version of.

    Why it matters:
        Which version of an op is meant can't be told; runtimes refuse to load the model.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = com.microsoft.Gelu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        agraph (float[N] x) => (float[N] y) { y = com.microsoft.Gelu(x) }

    Fix and its safety:
        Import the domain with the version the exporter meant; a guess may change what an op computes.

    Source:
        ONNX IR.md, "Operator sets"; onnx.proto, ModelProto.opset_import.
    """
    missing: dict[str, list[str]] = {}
    for place in places(model):
        imported = set(model.opset)
        if place.function is not None:
            imported = {domain_of(domain) for domain, _ in place.function.opsets}
        for node in place.graph.nodes:
            if domain_of(node.domain) not in imported:
                missing.setdefault(domain_of(node.domain), []).append(f"{place.path}{node.label}")
    for domain, users in missing.items():
        yield missing_opset_import.finding(
            users[0],
            f"domain {shown(domain)!r} has no opset import, though {count_of(len(users), 'node')} "
            f"call it ({several(users)})",
            "add the opset import, or export again",
            domain=shown(domain),
            nodes=len(users),
        )


@check("OX103", "duplicate-opset-import", severity="warning")
def duplicate_opset_import(model: Model) -> Iterator[Finding]:
    """A domain is imported twice.

    What it flags:
        Several opset imports of one domain (`""` and `ai.onnx` are the same); the message names the versions.

    Why it matters:
        Readers disagree: one takes the first, another the last. With different versions the model means
        different things to them.

    Bad:
        <ir_version: 8, opset_import: ["" : 17, "ai.onnx" : 13]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Keep the import that the exporter meant; safe where all give the same version.

    Source:
        ONNX IR.md, "Operator sets": every domain at most once.
    """
    found: dict[str, list[int]] = {}
    for domain, version in model.opsets:
        found.setdefault(domain_of(domain), []).append(version)
    for domain, versions in found.items():
        if len(versions) > 1:
            listed = ", ".join(map(str, versions))
            yield duplicate_opset_import.finding(
                shown(domain),
                f"duplicate opset import: domain {shown(domain)!r} with versions {listed}",
                versions=versions,
            )


@check("OX104", "unused-opset-import", severity="note")
def unused_opset_import(model: Model) -> Iterator[Finding]:
    """A domain is imported and never used.

    What it flags:
        An opset import of a domain that no node or function of the model belongs to; the default domain is
        left alone.

    Why it matters:
        A runtime that doesn't know the domain or its version may refuse a model that doesn't need it.

    Bad:
        <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        agraph (float[N] x) => (float[N] y) { y = com.microsoft.Gelu(x) }

    Fix and its safety:
        Remove the import; nothing refers to it.

    Source:
        ONNX IR.md, "Operator sets"; onnxruntime warns about unknown domains when it loads a model.
    """
    used = {domain_of(node.domain) for place in places(model) for node in place.graph.nodes}
    used |= {domain_of(item.domain) for item in model.functions} | {""}
    unused = {domain: version for domain, version in model.opset.items() if domain not in used}
    if unused:
        listed = [f"{domain} {version}" for domain, version in unused.items()]
        yield unused_opset_import.finding(
            next(iter(unused)), f"unused opset import: {several(listed, 6)}", domains=sorted(unused)
        )


@check("OX105", "opset-of-the-future", severity="warning")
def opset_of_the_future(model: Model) -> Iterator[Finding]:
    """The opset is newer than the installed onnx package.

    What it flags:
        An import of the default domain (or another one of ONNX itself) above the newest version that the
        installed onnx package knows; both are named.

    Why it matters:
        Tools here can't tell what the ops mean; runtimes of the same age refuse the model.

    Bad:
        <ir_version: 8, opset_import: ["" : 999]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Update onnx, or export with an older opset. The version converter can go down for some ops; check the
        result with `onnxscope verify`.

    Source:
        ONNX Versioning.md; onnxruntime "ONNX Runtime compatibility".
    """
    for domain, version in model.opset.items():
        newest = schemas.newest_opset(domain) if domain in schemas.KNOWN_DOMAINS else None
        if newest is not None and version > newest:
            yield opset_of_the_future.finding(
                shown(domain),
                f"opset {version} of {shown(domain)} is newer than {newest}, the newest one that the "
                "installed onnx knows",
                "update onnx, or export with an older opset",
                opset=version,
                newest=newest,
            )


@check("OX106", "old-opset", severity="note")
def old_opset(model: Model) -> Iterator[Finding]:
    """The opset is so old that tools no longer serve it well.

    What it flags:
        A default opset below 7 and, for a model
        with initializers, an IR version below 4.

    Why it matters:
        onnxruntime promises opset 7 and up; ops below it compute by other rules (broadcasting was an
        attribute). Below IR 4 every weight is also an input and can be overridden by a caller.

    Bad:
        <ir_version: 3, opset_import: ["" : 6]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Export again with a newer opset, or use onnx's version converter and check with `onnxscope verify`.

    Source:
        onnxruntime, "ONNX opset support"; ONNX Changelog.md, opset 7 (broadcasting).
    """
    version = model.opset.get("", 7)
    if version < 7:
        yield old_opset.finding(
            "", f"opset {version} is older than 7, the oldest one that onnxruntime promises to run"
        )
    elif 0 < model.ir_version < 4 and model.graph.tensors:
        yield old_opset.finding(
            "", f"IR version {model.ir_version} is older than 4: every initializer must also be an input"
        )


@check("OX107", "unknown-op", severity="error")
def unknown_op(model: Model) -> Iterator[Finding]:
    """An op that ONNX doesn't have.

    What it flags:
        A node in one of ONNX's own domains whose op no release knows, and that is no function of the model.

    Why it matters:
        No runtime can run it; shapes and costs behind it stay unknown.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Reluu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Export again; a custom op belongs in a domain of its own.

    Source:
        ONNX Operators.md; IR.md, "Nodes".
    """
    for label, node, _ in calls(model):
        domain = domain_of(node.domain)
        if domain in schemas.KNOWN_DOMAINS and schemas.first_version(node.op, domain) is None:
            yield at(
                unknown_op.finding(label, f"unknown op: {shown(domain)} has no {node.op!r} in any opset"),
                node,
            )


@check("OX108", "op-outside-its-opset", severity="error")
def op_outside_its_opset(model: Model) -> Iterator[Finding]:
    """An op that the imported opset doesn't have yet.

    What it flags:
        A node whose op came with a later opset than the model imports; both versions are named.

    Why it matters:
        A runtime that goes by the import finds no such op and refuses the model.

    Bad:
        <ir_version: 8, opset_import: ["" : 13]>
        agraph (float[N] x) => (float[N] y) { y = Gelu(x) }

    Good:
        <ir_version: 9, opset_import: ["" : 20]>
        agraph (float[N] x) => (float[N] y) { y = Gelu(x) }

    Fix and its safety:
        Export again with that opset. Raising the import alone may change what other ops compute.

    Source:
        ONNX Changelog.md, "since version" of each op.
    """
    for label, node, version in calls(model):
        domain = domain_of(node.domain)
        first = schemas.first_version(node.op, domain) if domain in schemas.KNOWN_DOMAINS else None
        if first is not None and version is not None and 0 < version < first:
            yield at(
                op_outside_its_opset.finding(
                    label,
                    f"{node.op} came with opset {first} of {shown(domain)}; the model imports {version}",
                    since=first,
                    opset=version,
                ),
                node,
            )


@check("OX109", "deprecated-op", severity="warning")
def deprecated_op(model: Model) -> Iterator[Finding]:
    """An op that the imported opset has already dropped.

    What it flags:
        Ops that ONNX marks as deprecated (or experimental) at the imported opset, for example Upsample from
        opset 10 and Scatter from 11; one finding per op, with the number of nodes.

    Why it matters:
        The checker refuses them, converters and newer runtimes leave them out.

    Bad:
        <ir_version: 8, opset_import: ["" : 11]>
        agraph (float[2,2] x, int64[1,2] i, float[1,2] u) => (float[2,2] y) { y = Scatter(x, i, u) }

    Good:
        <ir_version: 8, opset_import: ["" : 11]>
        agraph (float[2,2] x, int64[1,2] i, float[1,2] u) => (float[2,2] y) { y = ScatterElements(x, i, u) }

    Fix and its safety:
        Use the successor (Resize, ScatterElements) or export again; compare with `onnxscope verify`.

    Source:
        ONNX Operators.md and Changelog.md, "deprecated".
    """
    found: dict[tuple[str, str, str], list[tuple[str, Node]]] = {}
    for label, node, version in calls(model):
        domain = domain_of(node.domain)
        if domain not in schemas.KNOWN_DOMAINS or not version:
            continue
        schema = schemas.schema(node.op, domain, version)
        if schema is not None and (schema.deprecated or schema.experimental):
            kind = "deprecated" if schema.deprecated else "experimental"
            found.setdefault((kind, node.op, f"since opset {schema.since}"), []).append((label, node))
    for (kind, op, since), users in found.items():
        text = f"{kind} op {op} ({since}) in {count_of(len(users), 'node')}: {several(u for u, _ in users)}"
        yield at(deprecated_op.finding(users[0][0], text, op=op, nodes=len(users)), users[0][1])

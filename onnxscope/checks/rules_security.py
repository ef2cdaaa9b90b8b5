"""OX801-OX807: what leaves the folder, runs code, or tells too much."""

from __future__ import annotations

import re
from collections.abc import Iterator

from onnxscope.checks import schemas
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at, count_of, docs, metadata, names, once_per_model, places, several
from onnxscope.checks.registry import RuleInfo, check
from onnxscope.checks.rules_loading_external import broken
from onnxscope.graph import Model, Node, domain_of

_SHOWN = 60
"""Characters of a found text that a message shows."""


@once_per_model
def texts(model: Model) -> Iterator[tuple[str, str]]:
    """(where, text) of everything written for people: metadata, documentation, names, string attributes."""
    for where, key, value in metadata(model):
        yield f"metadata {key!r} of {where}", f"{key}\n{value}"
    for where, text in docs(model):
        yield f"documentation of {where}", text
    for where, text in names(model):
        if not text.startswith("/") or text.startswith(
            ("/home/", "/Users/")
        ):  # torch's scopes look like paths
            yield where, text
    yield "producer", f"{model.producer_name} {model.producer_version} {model.domain}"
    for place in places(model):
        for node in place.graph.nodes:
            for item in node.attributes:
                if isinstance(item.value, bytes) and len(item.value) > 8:
                    text = item.value[: 1 << 16].decode("utf-8", "replace")
                    yield f"attribute {item.name!r} of {place.path}{node.label}", text


def hits(model: Model, pattern: re.Pattern[str]) -> dict[str, list[str]]:
    """Found text -> where it is, for every match of a pattern in the texts."""
    found: dict[str, list[str]] = {}
    for where, text in texts(model):
        for match in pattern.finditer(text):
            found.setdefault(match[0].strip()[:_SHOWN], []).append(where)
    return found


def report(info: RuleInfo, found: dict[str, list[str]], what: str, help: str) -> Iterator[Finding]:
    """One finding for all that a pattern found; none where it found nothing."""
    if found:
        first = next(iter(found.values()))[0]
        total = sum(map(len, found.values()))
        text = f"{count_of(len(found), what)} in {count_of(total, 'text')}: {several(map(repr, found))}"
        yield info.finding(first, f"{text}; first in the {first}", help, found=list(found)[:20])


@check("OX801", "external-data-outside-folder", severity="error")
def external_data_outside_folder(model: Model) -> Iterator[Finding]:
    """External data points outside the model's folder.

    What it flags:
        Locations that are absolute, go up by `..`, follow a symbolic link out of the folder, have a second
        name elsewhere (a hard link) or are no regular file; one finding per location.

    Why it matters:
        Loading such a model reads a file of the attacker's choice; whoever saves it again ships the content.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[4] x) => (float[4] y) <float[4] w = ["location" : "../../etc/passwd"]> { y = Add(x, w) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[4] x) => (float[4] y) <float[4] w = {1, 2, 3, 4}> { y = Add(x, w) }

    Fix and its safety:
        Don't load it elsewhere. Put the data beside the model and name it plainly.

    Source:
        onnx#3991 (CVE-2022-25882), CVE-2024-27318, onnx PR#7686; ONNX ExternalData.md.
    """
    for file, labels, tensor, text in broken(model, "outside"):
        message = f"{text}; {count_of(len(labels), 'tensor')}: {several(labels)}"
        yield at(external_data_outside_folder.finding(labels[0], message, file=file), tensor)


@check("OX802", "custom-domain", severity="warning")
def custom_domain(model: Model) -> Iterator[Finding]:
    """The model needs ops that neither ONNX nor onnxruntime has.

    What it flags:
        Domains outside ONNX's and onnxruntime's own that nodes call and no function of the model defines; one
        finding per domain.

    Why it matters:
        A custom op library must be loaded: native code that came with the model. Without it the model can't
        run, and costs behind such ops are unknown.

    Bad:
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[N] y) { y = my.Mystery(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["" : 17]>
        f (a) => (b) { b = Relu(a) }

    Fix and its safety:
        Export with standard ops or a function; else review the library as you would any program.

    Source:
        onnxruntime, "Custom operators".
    """
    local = {(domain_of(item.domain), item.name) for item in model.functions}
    found: dict[str, list[Node]] = {}
    for place in places(model):
        for node in place.graph.nodes:
            domain = domain_of(node.domain)
            own = domain in schemas.KNOWN_DOMAINS or domain in schemas.RUNTIME_DOMAINS
            if not own and (domain, node.op) not in local:
                found.setdefault(domain, []).append(node)
    for domain, users in found.items():
        ops = several(dict.fromkeys(node.op for node in users))
        text = f"custom domain {domain!r}: {count_of(len(users), 'node')} with the ops {ops}"
        yield at(custom_domain.finding(users[0].label, text, domain=domain, nodes=len(users)), users[0])


_CODE_OPS = frozenset("PyOp PythonOp PythonOpGrad ATen TritonOp PyCustomOp PyFunc".split())


@check("OX803", "code-running-op", severity="error")
def code_running_op(model: Model) -> Iterator[Finding]:
    """An op that runs program code which isn't in the graph.

    What it flags:
        PyOp, PythonOp, PyFunc, TritonOp and ATen nodes, whatever their domain.

    Why it matters:
        What the model computes is decided by Python or torch code on the machine that runs it.

    Bad:
        <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        agraph (float[N] x) => (float[N] y) { y = com.microsoft.PythonOp(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Export with standard ops; don't run such a model from somebody you don't trust.

    Source:
        onnxruntime ContribOperators.md (PythonOp, ATen).
    """
    for place in places(model):
        for node in place.graph.nodes:
            if node.op in _CODE_OPS and node.domain:
                text = f"{node.domain}.{node.op} runs code that isn't in the graph"
                yield at(code_running_op.finding(f"{place.path}{node.label}", text), node)


_PATH = re.compile(
    r"(?<![\w./:-])(?:/(?:home|Users|root|mnt|tmp|var|opt|usr|data|workspace|content|Volumes|private)/"
    r"[\w.@+-]+(?:/[\w.@+-]+)*|[A-Za-z]:\\(?:[\w.@ +-]+\\)+[\w.@+-]*)"
)
_USER = re.compile(r"(?<![\w.-])(?:/home/|/Users/|[A-Za-z]:\\Users\\)(?!runner\b|Public\b|Shared\b)[\w.@-]+")


@check("OX804", "absolute-path", severity="warning")
def absolute_path(model: Model) -> Iterator[Finding]:
    """The file tells paths of the machine that made it.

    What it flags:
        Absolute paths of Unix (/home, /Users, /tmp, /opt, ...) and Windows (drive letters) in metadata,
        documentation, names and string attributes; one finding.

    Why it matters:
        Paths tell about people, projects and layout of a company's machines to everybody with the model.

    Bad:
        <ir_version: 8, opset_import: ["" : 17], metadata_props: ["source" : "/opt/train/run7/model.py"]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17], metadata_props: ["source" : "run 7"]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Strip documentation and metadata ; nothing is computed
        differently.

    Source:
        PINTO0309/sde4onnx; CWE-200.
    """
    yield from report(absolute_path, hits(model, _PATH), "absolute path", "strip metadata and documentation")


@check("OX805", "user-name", severity="warning")
def user_name(model: Model) -> Iterator[Finding]:
    """The file tells who made it.

    What it flags:
        Home folders (/home/NAME, /Users/NAME, also on Windows) and e-mail addresses in metadata,
        documentation, names and string attributes; one finding.

    Why it matters:
        Names of people are published with the model, mostly without their knowing.

    Bad:
        <ir_version: 8, opset_import: ["" : 17], metadata_props: ["author" : "jane.doe@example.com"]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17], metadata_props: ["author" : "the vision team"]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Strip or replace the entries; nothing is computed differently.

    Source:
        CWE-200; regulations on personal data.
    """
    found = hits(model, _USER)
    found.update(hits(model, re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b")))
    yield from report(user_name, found, "name of a person", "strip metadata and documentation")


@check("OX806", "web-address", severity="note")
def web_address(model: Model) -> Iterator[Finding]:
    """The file holds web addresses.

    What it flags:
        URLs in metadata, documentation, names and string attributes; one finding.

    Why it matters:
        Worth a look: internal servers and signed links leak; licences and papers are welcome.

    Bad:
        <ir_version: 8, opset_import: ["" : 17], metadata_props: ["data" :
        "https://files.intern.example/set.zip"]> agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17], metadata_props: ["data" : "digits"]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Keep what is public, strip the rest.

    Source:
        CWE-200.
    """
    pattern = re.compile(r"\b(?:https?|ftp|s3|gs|wss?|file)://[^\s'\"<>]*[^\s'\"<>).,;:]")
    yield from report(web_address, hits(model, pattern), "web address", "keep what is public, strip the rest")


_SECRET = re.compile(
    r"\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30,}|\bhf_[A-Za-z0-9]{30,}|\bxox[abpr]-[A-Za-z0-9-]{10,}"
    r"|\bsk-[A-Za-z0-9_-]{32,}|\bAIza[0-9A-Za-z_-]{35}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}|\bglpat-[A-Za-z0-9_-]{20}"
    r"|://[^\s/:@]{1,64}:[^\s/:@]{3,64}@"
)


@check("OX807", "secret", severity="error")
def secret(model: Model) -> Iterator[Finding]:
    """The file holds what looks like a key or password.

    What it flags:
        Access keys by their well-known forms (AWS, GitHub, GitLab, Hugging Face, Slack, Google, OpenAI), JSON
        web tokens, private keys and passwords in web addresses. The message shows the first characters only.

    Why it matters:
        Whoever gets the model gets the access.

    Bad:
        <ir_version: 8, opset_import: ["" : 17], metadata_props: ["key" : "AKIAIOSFODNN7EXAMPLE"]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17], metadata_props: ["key" : "AKIA is how keys begin"]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Revoke the key first, then strip it: copies of the file are out there.

    Source:
        CWE-798; the providers' documentation of key formats.
    """
    for text, places_of in hits(model, _SECRET).items():
        shown = f"{text[:8]}..." if "@" not in text else "a password in a web address"
        yield secret.finding(places_of[0], f"what looks like a secret ({shown}) in the {places_of[0]}")

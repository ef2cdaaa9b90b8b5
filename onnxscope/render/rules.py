"""The audit's rules as text and Markdown: the table, or one rule's page."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import indent
from typing import Literal

from onnxscope.documents.rules import RuleEntry, RulesDocument
from onnxscope.render import markdown as marked
from onnxscope.render.blocks import LEAST_WIDTH, WIDTH, Styled, assembled, hanging, plural, table
from onnxscope.render.table import Column

_SECTIONS: tuple[tuple[str, Literal["flags", "why", "bad", "good", "fix", "source"]], ...] = (
    ("What it flags", "flags"),
    ("Why it matters", "why"),
    ("Bad", "bad"),
    ("Good", "good"),
    ("Fix and its safety", "fix"),
    ("Source", "source"),
)
_CODE = ("bad", "good")


def text(document: RulesDocument, *, width: int = WIDTH, color: bool = False) -> str:
    """The table of several rules, or the page of one; ends in a newline."""
    width = max(width, LEAST_WIDTH)
    found = document["rules"]
    return assembled(_page(found[0], width) if len(found) == 1 else [_table(found, width)], color)


def _table(found: list[RuleEntry], width: int) -> Iterator[Styled]:
    columns = [
        Column("code", tuple(rule["code"] for rule in found)),
        Column("severity", tuple(rule["severity"] for rule in found)),
        Column("name", tuple(rule["name"] for rule in found), name=True),
        Column("what", tuple(rule["summary"] for rule in found)),
    ]
    yield from table(columns, width, (("what", 24), ("name", 16)))
    yield "", ""
    yield "", f"{plural(len(found), 'rule')}; onnxscope rules CODE shows one rule's page"


def _page(rule: RuleEntry, width: int) -> Iterator[Iterator[Styled]]:
    yield iter([("title", f"{rule['code']} {rule['name']} ({_severity(rule)})"), ("", rule["summary"])])
    for title, key in _SECTIONS:
        yield _section(title, rule[key], width, plain=key not in _CODE)


def _section(title: str, body: str, width: int, *, plain: bool) -> Iterator[Styled]:
    yield "title", title
    if plain:
        for paragraph in body.split("\n\n"):
            yield from hanging(" ".join(paragraph.split()), width, "  ")
    else:
        yield from (("", line) for line in indent(body, "  ").splitlines())


def markdown(document: RulesDocument) -> str:
    """As `text`, in Markdown."""
    found = document["rules"]
    if len(found) == 1:
        return page(found[0])
    rows = [
        (rule["code"], marked.escaped(rule["name"]), rule["severity"], marked.escaped(rule["summary"]))
        for rule in found
    ]
    return "\n".join(marked.table(("code", "name", "severity", "what"), rows)) + "\n"


def page(rule: RuleEntry) -> str:
    """One rule's page."""
    lines = [f"# {rule['code']} {rule['name']}", "", rule["summary"], "", f"Severity: {_severity(rule)}"]
    for title, key in _SECTIONS:
        body = rule[key]
        lines += ["", f"## {title}", ""]
        lines += ["```text", body, "```"] if key in _CODE and not body.startswith("see ") else [body]
    return "\n".join(lines) + "\n"


def _severity(rule: RuleEntry) -> str:
    return rule["severity"] if rule["default"] else f"{rule['severity']}; runs with --select {rule['code']}"


def index(document: RulesDocument) -> str:
    """The overview of the pages in a folder, with links."""
    rows = [
        (
            f"[{rule['code']}]({rule['code']}.md)",
            rule["name"],
            rule["severity"],
            marked.escaped(rule["summary"]),
        )
        for rule in document["rules"]
    ]
    head = ["# Rules of `onnxscope audit`", "", f"{len(rows)} rules, by code.", ""]
    return "\n".join([*head, *marked.table(("code", "name", "severity", "what"), rows)]) + "\n"

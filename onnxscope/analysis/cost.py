"""Multiply-accumulates (MACs): one MAC is one product added to a sum; bias adds and activations are none.

Counted: convolutions, matrix products, Einsum contractions, attention and recurrent cells. An If counts its
larger branch, a Loop its body times the trips. What isn't known stays unknown and lowers the coverage; it
never counts as 0.
"""

from __future__ import annotations

from typing import NamedTuple

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.expr import Size


class Cost(NamedTuple):
    """MACs of a model for one run."""

    total: Size
    """Sum over the nodes whose MACs are known; a lower bound where `known < possible`."""
    known: int
    """Nodes that do MACs with a known count."""
    possible: int
    """Nodes that do, or (custom and unanswered ops) may do, MACs."""
    unknown: tuple[str, ...]
    """Labels of the nodes without a count."""

    @property
    def coverage(self) -> float:
        """Known / possible; 1.0 where no node does MACs."""
        return self.known / self.possible if self.possible else 1.0


def count(facts: Facts) -> Cost:
    """Add up the MACs of the main graph; nodes with subgraphs stand for their bodies."""
    total: Size = 0
    known: list[NodeFact] = []
    unknown: list[NodeFact] = []
    for fact in facts.nodes():
        has_body = (fact.scope, fact.node.index) in facts.children
        if fact.folded:
            continue
        if fact.inferred.unknown_macs:
            unknown += [] if has_body and fact.answered else [fact]
        elif fact.inferred.macs is not None:
            known += [] if has_body else [fact]
        if fact.scope == "" and fact.inferred.macs is not None and not fact.inferred.unknown_macs:
            total = total + fact.inferred.macs.value
    return Cost(total, len(known), len(known) + len(unknown), tuple(fact.label for fact in unknown))

"""Which provider really ran: read from onnxruntime's profile of one run, node by node."""

from __future__ import annotations

import json
from dataclasses import dataclass

from onnxscope.errors import RuntimeFailure
from onnxscope.proof.result import ProviderUse
from onnxscope.runtime import Provider


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the nodes of one run ran."""

    session: tuple[str, ...]
    """The session's providers, most preferred first."""
    nodes: tuple[tuple[str, str], ...]
    """(node, provider) in order of execution; a node that ran several times counts once."""


def placement(profile: str, session: tuple[str, ...]) -> Placement:
    """The nodes of a profile (Chrome trace JSON). Raises RuntimeFailure for text that is none.

    An event of category `Node` whose name ends in `_kernel_time` is one kernel call; `args.provider` names
    who ran it. Source: onnxruntime documentation, "Profiling tools".
    """
    try:
        events = json.loads(profile)
    except ValueError:
        try:  # a profile that was cut off lacks only the closing bracket
            events = json.loads(profile.rstrip().rstrip(",") + "]")
        except ValueError:
            raise RuntimeFailure("onnxruntime wrote a profile that can't be read") from None
    nodes: dict[str, str] = {}
    for event in events:
        if event.get("cat") == "Node" and event.get("name", "").endswith("_kernel_time"):
            used = event.get("args", {}).get("provider", "")
            nodes.setdefault(event["name"].removesuffix("_kernel_time"), used)
    return Placement(session, tuple(nodes.items()))


def use_of(asked: str, provider: Provider, placed: Placement) -> ProviderUse:
    """The provider's part of a run. Raises RuntimeFailure where it ran nothing: a silent fallback."""
    here = [node for node, used in placed.nodes if used == provider.name]
    elsewhere = tuple(f"{node} ({used})" for node, used in placed.nodes if used != provider.name)
    if not here and (elsewhere or provider.name not in placed.session):
        others = ", ".join(sorted({used for _, used in placed.nodes if used})) or ", ".join(placed.session)
        raise RuntimeFailure(
            f"{provider.name} was asked for and ran no node; {others} ran {len(elsewhere)}",
            help="`onnxscope providers` says why it doesn't load",
        )
    return ProviderUse(asked, provider.name, len(here), elsewhere, dict(provider.options))


def combined(asked: str, original: ProviderUse, candidate: ProviderUse) -> ProviderUse:
    """One entry for two models: counts and nodes of the candidate, both names where they differ."""
    if original.used == candidate.used:
        options = candidate.options
        return ProviderUse(
            asked, candidate.used, candidate.nodes_on_provider, candidate.nodes_elsewhere, options
        )
    options = {f"original.{key}": value for key, value in original.options.items()}
    options |= {f"candidate.{key}": value for key, value in candidate.options.items()}
    elsewhere = (*original.nodes_elsewhere, *candidate.nodes_elsewhere)
    used = f"{original.used}/{candidate.used}"
    count = original.nodes_on_provider + candidate.nodes_on_provider
    return ProviderUse(asked, used, count, elsewhere, options)

"""Fully connected heads as convolutions: the plan, and the model after it."""

from __future__ import annotations

import json
from dataclasses import replace
from math import gcd

from onnxscope import edit as edits
from onnxscope.analysis import params as parameters
from onnxscope.analysis.facts import Facts
from onnxscope.analysis.shapes import infer
from onnxscope.errors import UsageError
from onnxscope.expr import Size
from onnxscope.expr.bounds import assuming
from onnxscope.graph import Model
from onnxscope.rewrite import heads
from onnxscope.rewrite.atrous import ONE_CELL, Dense, dense, strides
from onnxscope.rewrite.baked import baked, baked_batches, demands, lifted
from onnxscope.rewrite.declare import declared
from onnxscope.rewrite.describe import (
    NO_NATIVE,
    conversions,
    geometry,
    notes,
    provenance,
    remarks,
    stays_global,
)
from onnxscope.rewrite.folding import Folder
from onnxscope.rewrite.lift import NO_TWIN, Lift
from onnxscope.rewrite.native import Sizes, sizes_of
from onnxscope.rewrite.plan import NOT_ASKED, PROVENANCE, Options, Plan, Refusal
from onnxscope.rewrite.select import Selection, edit_of, select
from onnxscope.rewrite.views import Lost


def plan(model: Model, options: Options | None = None) -> Plan:
    """What a conversion would do. Raises UsageError for options that don't fit each other or the model."""
    options = _settled(options or Options())
    sizes = sizes_of(model, options)
    model, sizes, unbaked = _unbaked(model, sizes, options)
    counted = parameters.count(sizes.native)
    verdicts = heads.find(sizes.native, counted, options.form, options.size)
    labels = {fact.label: fact.node.index for fact in sizes.native.main.nodes}
    _known_layers(options, [head.layer for head in verdicts])
    refused = {head.layer: head.reason or "" for head in verdicts if not head.replaceable}
    for head in verdicts:
        if options.layers and head.layer not in options.layers:
            refused.setdefault(head.layer, NOT_ASKED)
    chosen = _settle(sizes, options, {labels[name]: why for name, why in refused.items() if name in labels})
    done = {layer.fact.label for layer in chosen.layers}
    why = {fact.label: chosen.lift.refused.get(fact.node.index) for fact in sizes.native.main.nodes}
    refusals = tuple(
        Refusal(
            head.layer, refused.get(head.layer) or why.get(head.layer) or _lost(chosen, labels, head.layer)
        )
        for head in verdicts
        if head.layer not in done
    )
    made = _plan(model, options, sizes, chosen, refusals, counted)
    if not made.conversions:
        return _hinting(made)
    if not unbaked:
        return made
    note = f"sizes that {', '.join(unbaked)} fixed are now taken from the input"
    return replace(made, notes=(*made.notes, note))


def _hinting(made: Plan) -> Plan:
    """The plan of a conversion that converts nothing, with a hint where windows as rows would."""
    tried = made.options.form in ("rows", "auto") or made.options.stride is not None
    if tried or not any(NO_TWIN in refusal.reason for refusal in made.refusals):
        return made
    rows = plan(made.model, replace(made.options, form="rows"))
    done = {conversion.layer for conversion in rows.conversions}
    hint = "--form rows converts it to a map"
    refusals = tuple(
        refusal._replace(reason=f"{refusal.reason}; {hint}") if refusal.layer in done else refusal
        for refusal in made.refusals
    )
    return replace(made, refusals=refusals)


ROUNDS = 50
"""Reshapes in a row that may bake a size."""


def _unbaked(model: Model, sizes: Sizes, options: Options) -> tuple[Model, Sizes, list[str]]:
    """The model with reshapes that fix a size rewritten, where sizes become free."""
    found: list[str] = []
    for _ in range(ROUNDS if options.size == "dynamic" or options.batch == "free" else 0):
        model, labels = lifted(model, sizes.native, sizes.free)
        if not labels:
            break
        found += labels
        sizes = sizes_of(model, options)
    return model, sizes, found


def convert(plan: Plan) -> Model:
    """The converted model. Raises ValueError where the plan converts nothing."""
    if plan.edit is None:
        raise ValueError("the plan converts nothing")
    return edits.apply(plan.model, plan.edit)


def _settled(options: Options) -> Options:
    """Options with what `--output vector` implies. Raises UsageError where they contradict each other."""
    if options.stride is not None:
        _check_stride(options)
    if options.output != "vector":
        return options
    return replace(options, size="fixed", pool="global")


def _check_stride(options: Options) -> None:
    """Raise UsageError for a stride that is none, or that the other options leave no map for."""
    if (options.stride or 0) < 1:
        raise UsageError(f"stride {options.stride} is no distance in pixels", help="from 1 pixel up")
    for name, given, fitting in (
        ("output", options.output, ("map",)),
        ("pool", options.pool, ("window",)),
        ("form", options.form, ("conv", "auto")),
    ):
        if given not in fitting:
            raise UsageError(
                f"stride {options.stride} does not go with {name} {given}", help=f"take {name} {fitting[0]}"
            )


def _known_layers(options: Options, labels: list[str]) -> None:
    unknown = [name for name in options.layers if name not in labels]
    if unknown:
        known = ", ".join(map(repr, labels[:20])) or "none"
        raise UsageError(
            f"--layer names {unknown[0]!r}, which is no fully connected layer", help=f"known: {known}"
        )


def _settle(sizes: Sizes, options: Options, refused: dict[int, str]) -> Selection:
    """Walk and select until nothing more must stay: each round adds a layer or a pool that does."""
    still: frozenset[int] = frozenset()
    refused = dict(refused)
    entered = bool(options.layers) and (options.output == "vector" or options.size == "fixed")
    while True:
        builder = Folder(sizes.native.model)
        lift = Lift(sizes.native, sizes.free, options, builder, dict(refused), still, entered)
        lift.run()
        if lift.meetings - still:
            still |= lift.meetings
            continue
        chosen = select(lift)
        if not chosen.barriers:
            return chosen
        refused |= chosen.barriers


def _lost(chosen: Selection, labels: dict[str, int], layer: str) -> str:
    """Why a layer that a convolution could replace isn't: what its result's view says."""
    node = chosen.lift.model.graph.nodes[labels[layer]]
    found = chosen.lift.views.get(node.outputs[0])
    return found.reason if isinstance(found, Lost) else "nothing that an output needs depends on it"


def _plan(
    model: Model,
    options: Options,
    sizes: Sizes,
    chosen: Selection,
    refusals: tuple[Refusal, ...],
    counted: parameters.Params,
) -> Plan:
    if not chosen.layers:
        return Plan(
            model, options, (), refusals, None, params_before=counted.total, params_after=counted.total
        )
    with assuming(sizes.least):
        return _finished(model, options, sizes, chosen, refusals, counted)


def _finished(
    model: Model,
    options: Options,
    sizes: Sizes,
    chosen: Selection,
    refusals: tuple[Refusal, ...],
    counted: parameters.Params,
) -> Plan:
    """The plan of a selection that converts something."""
    change = declared(chosen, sizes, edit_of(chosen))
    thicker = _denser(chosen, infer(edits.apply(model, change))) if options.stride else None
    if isinstance(thicker, str):
        if thicker == ONE_CELL and stays_global(chosen) and not chosen.lift.still:
            return _stays(model, options, chosen, refusals, counted, NO_NATIVE)
        every = "pixel" if options.stride == 1 else f"{options.stride} pixels"
        why = f"no map with a cell every {every}: {thicker}; without --stride it converts"
        return _stays(model, options, chosen, refusals, counted, why)
    if thicker is not None:
        change = declared(chosen, sizes, edits.then(model, change, thicker.edit))
    record = provenance(chosen, thicker)
    if remarks(chosen):
        change = change._replace(exactness="approximate")
    change = change._replace(metadata=((PROVENANCE, json.dumps(record)),))
    after = infer(edits.apply(model, change))
    windows = {chosen.final(name) for name in chosen.lift.windows}
    fixed = list(baked(after, windows)) if options.size == "dynamic" else []
    if fixed:
        why = f"with other sizes, {fixed[0]}; --size fixed converts it"
        return _stays(model, options, chosen, refusals, counted, why, tuple(fixed))
    single = list(baked_batches(after, sizes.native)) if options.batch == "free" else []
    if single:
        why = f"with a free batch, {single[0]}; --batch keep converts it"
        return _stays(model, options, chosen, refusals, counted, why, tuple(single))
    return Plan(
        model,
        options,
        conversions(chosen, thicker),
        refusals,
        change,
        geometry(chosen, sizes, after),
        counted.total,
        _count(after),
        (*notes(chosen, thicker), *demands(after)),
        record,
    )


def _stays(
    model: Model,
    options: Options,
    chosen: Selection,
    refusals: tuple[Refusal, ...],
    counted: parameters.Params,
    why: str,
    notes: tuple[str, ...] = (),
) -> Plan:
    """The plan where nothing converts after all, for one reason."""
    rest = tuple(Refusal(layer.fact.label, why) for layer in chosen.layers)
    total = counted.total
    return Plan(
        model, options, (), (*refusals, *rest), None, params_before=total, params_after=total, notes=notes
    )


def _denser(chosen: Selection, facts: Facts) -> Dense | str:
    """What makes the maps of a converted model as dense as asked for, or why nothing does.

    Raises UsageError where the wanted stride doesn't divide that of every map.
    """
    wanted = chosen.lift.options.stride or 0
    maps = [name for name in chosen.exported if len(facts.value(name).shape or ()) > 2]
    found = strides(facts, maps)
    unknown = next((axes for axes in found.values() if isinstance(axes, str)), None if maps else ONE_CELL)
    if unknown is not None:
        return unknown
    known = [stride for axes in found.values() if not isinstance(axes, str) for stride in axes]
    if any(stride % wanted for stride in known):
        own, most = ", ".join(map(str, sorted(set(known)))), gcd(*known)
        possible = ", ".join(str(n) for n in range(1, most + 1) if most % n == 0)
        raise UsageError(
            f"--stride {wanted} does not divide the map's own stride of {own} pixels",
            help=f"possible: {possible}",
        )
    return dense(facts, wanted, maps)


def _count(facts: Facts) -> Size:
    return parameters.count(facts).total

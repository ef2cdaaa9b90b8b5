"""Facts -> findings: what must be known about a model before it ships, one function per rule.

The first digit of a code is a subject, and its rules are in the files `rules_SUBJECT*.py`:

    OX0  audit                     a file that can't be read, a rule that stopped
    OX1  format, loading           versions, nodes, names; graphs and tensors that don't load
    OX2  interface, shapes, types  what inputs and outputs declare, shapes and types that contradict
    OX3  weights, numerics         stored numbers; formulas that break for some inputs or types
    OX4  quantization              scales, layers left in float, axes and ranges
    OX5  graph, cost               nodes that do nothing, training leftovers; parameters and repeated work
    OX6  windows, receptive        convolutions and pools; what the network sees
    OX7  targets, deploy           what a deployment target doesn't run, or runs badly
    OX8  security                  what leaves the folder, runs code or tells too much
    OX9  budgets                   what the configuration allows

A new rule is one function in such a file: take the next free code of its neighbours (`onnxscope rules OX3`
lists them), write its page as its docstring (`registry` says how; its Bad and Good examples are tests), and
run `python tests/checks/test_pages.py` for `docs/rules`. `_walk` (graph), `places` (everything a file holds)
and `weights` (statistics of stored numbers) hold the steps that rules share.
"""

"""Lifting rules, one module per family; `onnxscope.rewrite.lift` says what a rule is."""

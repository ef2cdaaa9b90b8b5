"""Equivalence of two model files, shown by running both in onnxruntime, with limits that are computed.

Rooms, by what they are for; `verify` goes through them in this order:

- Both models: `setting` (what one verification works on), `interface`, `matching` and `links` (which layer
  became which values), `weights` over `fingerprint`, `inputs` and `given` (what both are fed).
- Running them: `worker` (the parent's side), `session` (the child's), `skeleton`, `saturation`, `providers`,
  `runner`.
- Outputs: `trials` over `compare` and `bits`; limits from `jitter_runs` over `jitter`, `noise`, `means` and
  `limits`; `steps` for integers, `halves` over `twin` for half precision, `tf32`.
- Layers of a conversion: `exact` (zeros, impulses) and `local` (float64) over `layers`, `recompute`, `tails`,
  `integers`, `windows`; `values` for everything between; `extract` cuts out what is run alone.
- Larger inputs: `larger` over `dense`, `rounded`, `headmap`, `crops`; `speed` and `latency` over `timing`.
- `result`: what all of that found.
"""

"""Equivalence of two model files, shown by running both in onnxruntime, with limits that are computed."""

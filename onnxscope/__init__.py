"""What is inside an ONNX file: every shape, parameter and multiply-accumulate, with the formula that gave it."""

__version__ = "0.1.0"

"""`python -m onnxscope` is the command `onnxscope`."""

import sys

from onnxscope.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

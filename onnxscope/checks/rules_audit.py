"""Findings about the audit itself: a file that can't be read, a rule that stopped."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.checks.finding import Finding
from onnxscope.checks.registry import check


@check("OX001", "rule-failed", severity="warning")
def rule_failed() -> Iterator[Finding]:
    """A rule of the audit stopped with an exception.

    What it flags:
        A rule raised while it looked at this model. Its findings are missing; all other rules went on.

    Why it matters:
        Silence of that rule means nothing for this model. It is a bug in onnxscope, not in the model.

    Bad: see tests/checks/test_runner.py

    Good: see tests/checks/test_runner.py

    Fix and its safety:
        Report it, with the model if you may share it; `--ignore CODE` leaves the rule out meanwhile.

    Source:
        onnxscope.
    """
    yield from ()


@check("OX002", "unreadable-file", severity="error")
def unreadable_file() -> Iterator[Finding]:
    """The file can't be read as an ONNX model.

    What it flags:
        A file that is missing, empty, cut off, damaged, or of another kind; the message names the byte.

    Why it matters:
        No runtime can load it. Where several files are audited, the others are still looked at.

    Bad: see tests/test_cli_audit.py

    Good: see tests/test_cli_audit.py

    Fix and its safety:
        Export or download the file again.

    Source:
        onnx.proto, ModelProto; protobuf, "Encoding".
    """
    yield from ()

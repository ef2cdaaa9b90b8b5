"""Everything that is known, as plain documents with a schema version: what renderers and scripts read."""

from onnxscope.documents.arrange import SORT_KEYS, Selection
from onnxscope.documents.build import analyse, document, report
from onnxscope.documents.schema import REPORT, ReportDocument
from onnxscope.documents.verdict import percent, verdict

__all__ = [
    "REPORT",
    "SORT_KEYS",
    "ReportDocument",
    "Selection",
    "analyse",
    "document",
    "percent",
    "report",
    "verdict",
]

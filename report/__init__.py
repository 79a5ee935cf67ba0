"""What people look at: overlays, charts and the HTML report of a run."""

from .detection import detection_report
from .overlay import encode_jpeg, overlay, write_overlay
from .page import Report, ReportImage, write_report

__all__ = [
    "Report",
    "ReportImage",
    "detection_report",
    "encode_jpeg",
    "overlay",
    "write_overlay",
    "write_report",
]

"""What people look at: overlays, charts and the HTML report of a run."""

from .outputs import OutputFolder
from .overlay import encode_jpeg, overlay
from .page import Report, ReportImage, report_html

__all__ = ["OutputFolder", "Report", "ReportImage", "encode_jpeg", "overlay", "report_html"]

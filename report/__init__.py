"""What people look at: overlays, charts and the HTML report of a run."""

from .calibration import calibration_report
from .detection import detection_report
from .overlay import encode_jpeg, overlay, panels, write_overlay
from .page import Report, ReportImage, inlined_script, write_report
from .run_in_3d import RunIn3D, run_in_3d
from .viewer_data import ViewerData

__all__ = [
    "Report",
    "ReportImage",
    "RunIn3D",
    "ViewerData",
    "calibration_report",
    "detection_report",
    "encode_jpeg",
    "inlined_script",
    "overlay",
    "panels",
    "run_in_3d",
    "write_overlay",
    "write_report",
]

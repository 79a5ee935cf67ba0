"""What differs between a query and its rendering, and how much of a difference is too much.

Tensors and numbers in; tensors, numbers and html text out. Nothing here knows of Gaussians,
poses or files.
"""

from .features import FEATURES, Features, make_features
from .maps import anomaly_maps, image_scores, resize_maps
from .metrics import PixelStatistics, evaluate, image_figures, roc_curve
from .overlay import encode_jpeg, overlay
from .regions import Region, find_regions
from .report import Report, ReportImage, report_html

__all__ = [
    "FEATURES",
    "Features",
    "PixelStatistics",
    "Region",
    "Report",
    "ReportImage",
    "anomaly_maps",
    "encode_jpeg",
    "evaluate",
    "find_regions",
    "image_figures",
    "image_scores",
    "make_features",
    "overlay",
    "report_html",
    "resize_maps",
    "roc_curve",
]

"""What differs between a query and its rendering, and how much of a difference is too much.

Tensors and numbers in; tensors, numbers and html text out. Nothing here knows of Gaussians,
poses or files.
"""

from .calibration import Calibration, Threshold, calibrate
from .classical import signed_residual
from .features import FEATURES, Features, make_features
from .maps import anomaly_maps, image_scores, resize_maps
from .memory import Expectation, MemorySettings, ResidualMemory
from .metrics import PixelStatistics, evaluate, image_figures, roc_curve
from .overlay import encode_jpeg, overlay
from .photometric import Photometry, background_gains, fit_photometry
from .regions import Region, find_regions
from .report import Report, ReportImage, report_html
from .standardise import (
    HeldOut,
    Standardisation,
    extend_beyond_silhouette,
    fit_standardisation,
    outer,
)
from .view_gap import GapLevel, fit_gap_level, level_out

__all__ = [
    "FEATURES",
    "Calibration",
    "Expectation",
    "Features",
    "GapLevel",
    "HeldOut",
    "MemorySettings",
    "Photometry",
    "PixelStatistics",
    "Region",
    "Report",
    "ReportImage",
    "ResidualMemory",
    "Standardisation",
    "Threshold",
    "anomaly_maps",
    "background_gains",
    "calibrate",
    "encode_jpeg",
    "evaluate",
    "extend_beyond_silhouette",
    "find_regions",
    "fit_gap_level",
    "fit_photometry",
    "fit_standardisation",
    "image_figures",
    "image_scores",
    "level_out",
    "make_features",
    "outer",
    "overlay",
    "report_html",
    "resize_maps",
    "roc_curve",
    "signed_residual",
]

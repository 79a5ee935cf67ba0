"""What differs between a query and its rendering, and how much of a difference is too much.

It may use the renderer and cameras; it knows nothing of pose estimation and of the report.
"""

from .features import FEATURES, Features, make_features
from .mahalanobis import (
    HeldOut,
    Standardisation,
    extend_beyond_silhouette,
    fit_standardisation,
    outer,
)
from .maps import anomaly_maps, image_scores, resize_maps
from .metrics import PixelStatistics, evaluate, image_figures, roc_curve
from .photometric import Photometry, background_gains, fit_photometry
from .regions import Region, find_regions
from .residual import signed_residual
from .residual_memory import Expectation, MemorySettings, ResidualMemory
from .threshold import Calibration, Threshold, calibrate
from .view_distance import GapLevel, fit_gap_level, level_out

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
    "ResidualMemory",
    "Standardisation",
    "Threshold",
    "anomaly_maps",
    "background_gains",
    "calibrate",
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
    "resize_maps",
    "roc_curve",
    "signed_residual",
]

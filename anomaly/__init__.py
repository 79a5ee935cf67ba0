"""What differs between a query and its rendering, and how much of a difference is too much.

Tensors and numbers in; tensors, numbers and html text out. Nothing here knows of Gaussians,
poses or files.
"""

from .features import FEATURES, Features, make_features
from .maps import anomaly_maps, image_scores, resize_maps
from .metrics import PixelStatistics, evaluate, image_figures, roc_curve

__all__ = [
    "FEATURES",
    "Features",
    "PixelStatistics",
    "anomaly_maps",
    "evaluate",
    "image_figures",
    "image_scores",
    "make_features",
    "resize_maps",
    "roc_curve",
]

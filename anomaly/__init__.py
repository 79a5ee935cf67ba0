"""What differs between a query and its rendering, and how much of a difference is too much.

It may use the renderer and cameras; it knows nothing of pose estimation and of the report.
"""

from .evidence import (
    PlaceTail,
    agreement,
    coverage,
    flash_limit,
    flash_probability,
    merge_places,
    project,
    repeats,
    surface_areas,
)
from .features import FEATURES, Features, feature_names, make_features
from .fit_normal_model import PosedImages, build_memory, fit_normal_model
from .metrics import PixelStatistics, evaluate, image_figures, roc_curve
from .normal_model import NormalModel
from .photometry import Photometry, background_gains, fit_photometry, in_known_light
from .regions import Region, find_regions, region_positions
from .residual_memory import Expectation, MemorySettings, ResidualMemory
from .scoring import FeatureScorer, NormalModelScorer, Scored, Scorer, feature_maps, resize_maps
from .threshold import MINIMAL_COUNT, ScoreDistribution, Threshold, fit_score_distribution
from .zones import Zones, painted_members

__all__ = [
    "FEATURES",
    "MINIMAL_COUNT",
    "Expectation",
    "FeatureScorer",
    "Features",
    "MemorySettings",
    "NormalModel",
    "NormalModelScorer",
    "Photometry",
    "PixelStatistics",
    "PlaceTail",
    "PosedImages",
    "Region",
    "ResidualMemory",
    "ScoreDistribution",
    "Scored",
    "Scorer",
    "Threshold",
    "Zones",
    "agreement",
    "background_gains",
    "build_memory",
    "coverage",
    "evaluate",
    "feature_maps",
    "feature_names",
    "find_regions",
    "fit_normal_model",
    "fit_photometry",
    "fit_score_distribution",
    "flash_limit",
    "flash_probability",
    "image_figures",
    "in_known_light",
    "make_features",
    "merge_places",
    "painted_members",
    "project",
    "region_positions",
    "repeats",
    "resize_maps",
    "roc_curve",
    "surface_areas",
]

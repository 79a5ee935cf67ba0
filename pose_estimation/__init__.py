"""Where the camera stood: a gallery, coarse poses of a query, and their refinement."""

from .errors import camera_centres, rotation_error, translation_error
from .gallery import Gallery, build_gallery, load_gallery, save_gallery
from .hypotheses import Hypothesis
from .matchers import Matcher, MatcherName, Selection, select_matcher
from .refine import estimate_pose
from .settings import PAPER, PoseEstimate, PoseSettings

__all__ = [
    "PAPER",
    "Gallery",
    "Hypothesis",
    "Matcher",
    "MatcherName",
    "PoseEstimate",
    "PoseSettings",
    "Selection",
    "build_gallery",
    "camera_centres",
    "estimate_pose",
    "load_gallery",
    "rotation_error",
    "save_gallery",
    "select_matcher",
    "translation_error",
]

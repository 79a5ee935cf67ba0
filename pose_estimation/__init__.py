"""Where the camera stood: a gallery, coarse poses of a query, and their refinement."""

from .alignment import align_poses, reprojection_shift
from .appearance import Appearance
from .calibration import calibrate_pose_check
from .errors import rotation_error, translation_error
from .gallery import Gallery, build_gallery, load_gallery, save_gallery
from .hypotheses import Hypothesis
from .matchers import Matcher, MatcherName, Selection, select_matcher
from .pose_check import PoseCheck, fit_pose_check
from .refine import estimate_pose, estimate_poses
from .settings import PAPER, PoseEstimate, PoseSettings

__all__ = [
    "PAPER",
    "Appearance",
    "Gallery",
    "Hypothesis",
    "Matcher",
    "MatcherName",
    "PoseCheck",
    "PoseEstimate",
    "PoseSettings",
    "Selection",
    "align_poses",
    "build_gallery",
    "calibrate_pose_check",
    "estimate_pose",
    "estimate_poses",
    "fit_pose_check",
    "load_gallery",
    "reprojection_shift",
    "rotation_error",
    "save_gallery",
    "select_matcher",
    "translation_error",
]

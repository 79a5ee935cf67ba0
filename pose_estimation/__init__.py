"""Where the camera stood: a gallery, coarse poses of a query, and their refinement."""

from .errors import align_poses, reprojection_shift, rotation_error, translation_error
from .gallery import Gallery, load_gallery, save_gallery
from .hypotheses import Hypothesis, Matcher
from .learn_pose_check import calibrate_pose_check
from .matchers import (
    MATCHERS,
    Selection,
    matcher_names,
    matchers_in_surroundings,
    select_matcher,
)
from .multiscale import ExpectedResidual
from .pose_check import PoseCheck, fit_pose_check
from .refine import estimate_pose, estimate_poses, settle_each
from .settings import PAPER, PoseEstimate, PoseSettings
from .templates import build_gallery
from .viewpoints import object_extent
from .wrong_views import far_above_the_rest, view_residuals, wrong_views

__all__ = [
    "MATCHERS",
    "PAPER",
    "ExpectedResidual",
    "Gallery",
    "Hypothesis",
    "Matcher",
    "PoseCheck",
    "PoseEstimate",
    "PoseSettings",
    "Selection",
    "align_poses",
    "build_gallery",
    "calibrate_pose_check",
    "estimate_pose",
    "estimate_poses",
    "far_above_the_rest",
    "fit_pose_check",
    "load_gallery",
    "matcher_names",
    "matchers_in_surroundings",
    "object_extent",
    "reprojection_shift",
    "rotation_error",
    "save_gallery",
    "select_matcher",
    "settle_each",
    "translation_error",
    "view_residuals",
    "wrong_views",
]

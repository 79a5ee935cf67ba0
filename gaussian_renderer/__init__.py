"""How Gaussians become pixels, and what is learnt from pixels about Gaussians and poses.

This is the front door: other packages import from here and from no module behind it.
"""

from .backends import (
    BACKENDS,
    Registration,
    available_backends,
    backend_help,
    choose_device,
    missing,
    refusal,
    register,
    select_backend,
)
from .cpu.native import instruction_set
from .losses import photometric_loss
from .normal_equations import NormalEquations, PoseProblems, pose_normal_equations
from .object_renderer import ObjectRenderer, contributions, largest_contribution
from .optimiser import GaussianAdam, LearningRates, shrink_view_dependence
from .reference import LOW_PASS, covariance_2d
from .rendering import Rendering, RenderingBatch, render, render_batch, renders_many
from .spherical_harmonics import C0, sh_colours
from .template_matching import PLACES_AT_ONCE, template_peaks
from .variants import Variants

__all__ = [
    "BACKENDS",
    "C0",
    "LOW_PASS",
    "PLACES_AT_ONCE",
    "GaussianAdam",
    "LearningRates",
    "NormalEquations",
    "ObjectRenderer",
    "PoseProblems",
    "Registration",
    "Rendering",
    "RenderingBatch",
    "Variants",
    "available_backends",
    "backend_help",
    "choose_device",
    "contributions",
    "covariance_2d",
    "instruction_set",
    "largest_contribution",
    "missing",
    "photometric_loss",
    "pose_normal_equations",
    "refusal",
    "register",
    "render",
    "render_batch",
    "renders_many",
    "select_backend",
    "sh_colours",
    "shrink_view_dependence",
    "template_peaks",
]

"""Every knob of the refinement, and what it gives back."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

Method = Literal["auto", "lm", "adam"]
Schedule = Literal["constant", "official"]


@dataclass(frozen=True)
class PoseSettings:
    """How a pose is refined. The defaults are our recipe; `PAPER` is that of SplatPose."""

    method: Method = "auto"  # adam: the paper's; lm: second order; auto: both, robustly
    steps: int = 175  # adam: number of steps, at full resolution
    learning_rate: float = 0.001  # adam, "constant"
    schedule: Schedule = "constant"  # adam: or "official", 0.01 * 0.8^((i + 1) / 100)
    ssim_weight: float = 0.2  # adam: share of 1 - SSIM in the loss
    huber: float = 0.05  # lm: colour residual from which on a pixel counts linearly, 0..1


PAPER = PoseSettings(method="adam")


@dataclass(frozen=True)
class PoseEstimate:
    """Where the query camera stood, and what speaks for it."""

    world_to_camera: Tensor  # [4, 4] float64
    loss: float  # (1 - l) L1 + l (1 - SSIM) at full resolution, at this pose
    steps: int  # optimisation steps over all levels and hypotheses
    hypothesis: int  # index of the coarse pose that it came from
    pose_ok: bool | None = None  # None: not checked (see pose_check.py)
    covariance: Tensor | None = None  # [6, 6] of the twist (omega, v) in the camera frame; lm, auto
    # [4, 4] poses that fit the query as well, best first: the object looks alike from there
    alternatives: tuple[Tensor, ...] = ()
    fit: dict[str, float] = field(default_factory=dict)  # fit statistics, which pose_ok rests on
    seconds: dict[str, float] = field(default_factory=dict)  # wall clock per stage

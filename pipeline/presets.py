"""The settings that a name stands for. Every constant of a preset is in this file."""

from dataclasses import dataclass
from typing import Literal

PresetName = Literal["default", "paper"]


@dataclass(frozen=True)
class TrainingPreset:
    """How an object model is optimised; a field left None by the user takes its value from here."""

    iterations: int
    sh_degree: int  # 0: one colour a Gaussian; 3: colour depends on the viewing direction
    start: Literal["hull", "random"]  # "hull" needs a known background, else "random" is used
    growth: Literal["paper", "capped"]  # scene/growth_policy.py
    max_gaussians: int | None  # None: no cap
    holdout_every: int  # every n-th train view is kept out for calibration; 0 keeps none out
    position_rate: tuple[float, float] = (1.6e-4, 1.6e-6)  # first and last, times the extent
    rate_scale: float = 1.0  # times 3DGS's other learning rates
    rate_decay: float = 1.0  # the other learning rates end at this share of their start
    sh_rest_rate: float = 2.5e-3 / 20  # of the view-dependent coefficients
    start_opacity: float = 0.1  # of the first Gaussians
    growth_span: tuple[float, float] = (0.0, 0.5)  # capped: shares of the iterations
    growth_every: int = 100
    random_points: int = 100_000
    ssim_weight: float = 0.2


TRAINING: dict[str, TrainingPreset] = {
    # The paper's section 4.3 with the hyper-parameters of 3DGS (docs/method.md).
    "paper": TrainingPreset(
        iterations=30_000,
        sh_degree=0,
        start="random",
        growth="paper",
        max_gaussians=None,
        holdout_every=0,
    ),
    # The best that we know, chosen on held-out train views (docs/performance.md).
    "default": TrainingPreset(
        iterations=3_000,
        sh_degree=3,
        start="hull",
        growth="capped",
        max_gaussians=35_000,
        holdout_every=10,
        position_rate=(1e-3, 6e-6),
        rate_scale=10.0,
        rate_decay=0.01,
        sh_rest_rate=5e-4,
        start_opacity=0.5,
        growth_span=(0.1, 0.6),
    ),
}


@dataclass(frozen=True)
class DetectionPreset:
    """How queries are judged."""

    matcher: Literal["auto", "loftr", "xfeat", "classical"]
    refine: Literal["auto", "lm", "adam"]
    features: Literal["auto", "efficientnet_b4", "classical", "rgb"]
    calibrated: bool  # corrected and divided by what is normal at each place of the object


DETECTION: dict[str, DetectionPreset] = {
    "paper": DetectionPreset("loftr", "adam", "efficientnet_b4", calibrated=False),
    "default": DetectionPreset("auto", "auto", "classical", calibrated=True),
}

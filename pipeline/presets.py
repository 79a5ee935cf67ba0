"""The settings that a name stands for. Every constant of a preset is in this file."""

from dataclasses import dataclass
from typing import Literal

from gaussian_renderer import LearningRates

_DECAY_POWER = 2.0  # of the number of views, by trials with 32 to 189 views (docs/experiments.md)
_HELD_OUT = 10  # held-out views of a small capture
_LEAST_SHARE = 4  # but not more than every fourth

PresetName = Literal["default", "paper"]


_RATES_OF_3DGS = LearningRates(means=1.6e-4)


@dataclass(frozen=True)
class TrainingPreset:
    """How an object model is optimised; a field left None by the user takes its value from here."""

    iterations: int
    sh_degree: int  # 0: one colour a Gaussian; 3: colour depends on the viewing direction
    start: Literal["hull", "random"]  # "hull" needs a known background, else "random" is used
    growth: Literal["paper", "capped"]  # scene/densify.py
    max_gaussians: int | None  # None: no cap
    holdout_every: int  # every n-th train view is held out for calibration; 0 keeps none out
    rates: LearningRates = _RATES_OF_3DGS  # first ones; of positions: times the extent
    last_position_rate: float = 1.6e-6  # times the extent
    rate_decay: float = 1.0  # the other rates end at this share of their first value
    adam_betas: tuple[float, float] = (0.9, 0.999)
    start_opacity: float = 0.1  # of the first Gaussians
    growth_span: tuple[float, float] = (0.0, 0.5)  # capped: shares of the iterations
    growth_every: int = 100
    dense_share: float = 0.01  # of the extent: larger Gaussians are split, smaller ones cloned
    smallest_contribution: float = 0.0  # pixels; at the end, Gaussians that add less go
    random_points: int = 100_000
    ssim_weight: float = 0.2
    random_background: bool = False  # another colour behind transparent images in each iteration
    views_for_colour: float = 0.0  # so many views determine colours of degree 3; 0: no shrinking

    def colour_decay(self, count: int) -> float:
        """Weight decay of the view-dependent colour with so many train views."""
        return (self.views_for_colour / count) ** _DECAY_POWER

    def holdout_of(self, count: int) -> int:
        """The n of `holdout_every` for so many views, smaller where views are few.

        A threshold from fewer than ten views held out is a guess, so up to every fourth is given
        up for it; with fewer than 20 views none can be had that way.
        """
        if count < _LEAST_SHARE * _HELD_OUT // 2:
            return self.holdout_every
        return min(self.holdout_every, max(_LEAST_SHARE, count // _HELD_OUT))


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
        rates=LearningRates(
            means=1e-3,
            log_scales=0.1,
            quaternions=0.03,
            opacity_logits=0.2,
            sh_constant=0.025,
            sh_rest=0.005,
        ),
        last_position_rate=6e-6,
        rate_decay=0.01,
        adam_betas=(0.9, 0.96),
        start_opacity=0.5,
        growth_span=(0.1, 0.6),
        dense_share=0.003,
        smallest_contribution=0.5,
        random_background=True,
        views_for_colour=55.0,
    ),
}


@dataclass(frozen=True)
class DetectionPreset:
    """How queries are inspected."""

    matcher: str  # "auto", or a name of pose_estimation.MATCHERS
    refine: Literal["auto", "lm", "adam"]
    features: str  # "residual": by the normal model; "auto", or a name of anomaly.FEATURES


DETECTION: dict[str, DetectionPreset] = {
    "paper": DetectionPreset("loftr", "adam", "efficientnet_b4"),
    "default": DetectionPreset("auto", "auto", "residual"),
}

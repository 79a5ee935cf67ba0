"""Brightness and colour of the whole picture: told apart from defects by a robust fit."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

MINIMAL_GAIN = 0.1  # the median residual must fall by this share, or nothing is applied
_GAINS = (0.25, 4.0)  # believed at most
_BORDER = 0.01  # of the picture's shorter side, on each side: where the background is looked for
_PLAIN = 0.02  # by less, colours of a plain background differ
_MOSTLY = 0.75  # of the border must be plain: an object may reach over the rest
_DARK = 0.1  # background below it tells no gain
_SAMPLES = 8_000  # pixels used, about
_SATURATED = 0.99  # a clipped query pixel tells nothing of the gain
_TUKEY = 4.685  # residuals beyond so many standard deviations have no weight
_ROUNDS = 12


@dataclass(frozen=True)
class Photometry:
    """query = matrix @ rendering + offset, per pixel."""

    matrix: Tensor  # [3, 3]
    offset: Tensor  # [3]
    significant: bool  # False: matrix and offset are those of no change

    @property
    def gains(self) -> Tensor:
        """How much brighter the query is than the rendering, per channel [3]."""
        return self.matrix.diagonal().clamp(*_GAINS)

    def __call__(self, images: Tensor) -> Tensor:
        """Renderings [..., 3, H, W] as they would look under the light of the query, 0..1."""
        if not self.significant:
            return images
        changed = (self.matrix.to(images) @ images.flatten(start_dim=-2)).reshape(images.shape)
        return (changed + self.offset.to(images)[:, None, None]).clamp(0.0, 1.0)


def fit_photometry(
    query: Tensor,  # [3, H, W], 0..1
    rendering: Tensor,  # [3, H, W]
    foreground: Tensor,  # [H, W] bool, where the object is
    model: Literal["gain", "affine"] = "gain",
) -> Photometry:
    """Global change of light or camera between rendering and query.

    "gain": gain and offset per channel; "affine": a full 3x4 colour matrix. Iteratively
    reweighted least squares, first with weights 1 / |residual|, then with Tukey's biweight, so
    that a defect over a fifth of the object does not move it. Applied only if it lowers the
    median absolute residual by a tenth. Deterministic.
    """
    usable = foreground & (query.amax(dim=0) < _SATURATED)
    target = _sample(query, usable)  # [P, 3]
    source = _sample(rendering, usable)
    matrix, offset = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    none = Photometry(matrix.float(), offset.float(), False)
    if len(target) < 100:
        return none
    before = (target - source).abs().median()
    if model == "affine":
        design = torch.cat([source, torch.ones_like(source[:, :1])], dim=1)  # [P, 4]
        solution = _robust_solve(design, target)  # [4, 3]
        matrix, offset = solution[:3].T, solution[3]
    else:
        for channel in range(3):
            design = torch.stack([source[:, channel], torch.ones(len(source)).double()], dim=1)
            gain, shift = _robust_solve(design, target[:, channel : channel + 1])[:, 0]
            matrix[channel, channel], offset[channel] = gain, shift
    after = (target - source @ matrix.T - offset).abs().median()
    if after > (1.0 - MINIMAL_GAIN) * before:
        return none
    return Photometry(matrix.float(), offset.float(), True)


def background_gains(
    query: Tensor,  # [3, H, W], 0..1
    background: Tensor,  # [3] behind the object in the train views
) -> Tensor:
    """Gains [3] that give a query's plain background the colour that it had in the train views.

    Another exposure or white balance shows there without any pose being known. Ones where the
    border of the picture is not plain, is right already, or is too dark to tell a gain.
    """
    width = max(2, round(_BORDER * min(query.shape[1:])))
    inside = torch.zeros(query.shape[1:], dtype=torch.bool, device=query.device)
    inside[width:-width, width:-width] = True
    border = query[:, ~inside]
    middle = border.median(dim=1).values
    off = (border - middle[:, None]).abs().amax(dim=0)
    wanted = background.to(query)
    is_plain = bool((off < _PLAIN).float().mean() > _MOSTLY)
    if not is_plain or bool((middle - wanted).abs().max() < _PLAIN):
        return torch.ones_like(wanted)
    gains = wanted / middle.clamp_min(1e-6)
    bright = (middle > _DARK) & (wanted > _DARK)
    return torch.where(bright, gains, torch.ones_like(gains)).clamp(*_GAINS)


def _sample(image: Tensor, usable: Tensor) -> Tensor:
    """At most twice _SAMPLES usable pixels at equal distances, [P, 3] float64."""
    index = usable.flatten().nonzero()[:, 0]
    index = index[:: max(1, len(index) // _SAMPLES)]
    return image.flatten(start_dim=1)[:, index].T.to("cpu", torch.float64)


def _robust_solve(design: Tensor, target: Tensor) -> Tensor:
    """Coefficients [K, C] of design [P, K] @ coefficients = target [P, C], outliers ignored."""
    ridge = 1e-9 * len(design) * torch.eye(design.shape[1], dtype=design.dtype)
    weights = torch.ones(len(design), 1, dtype=design.dtype)
    for round_ in range(_ROUNDS):
        normal = design.T @ (weights * design) + ridge
        coefficients = torch.linalg.solve(normal, design.T @ (weights * target))
        residual = (target - design @ coefficients).square().sum(dim=1, keepdim=True).sqrt()
        deviation = 1.4826 * residual.median().clamp_min(1e-4)
        if round_ < _ROUNDS // 2:
            weights = 1.0 / residual.maximum(deviation)
        else:
            weights = (1.0 - (residual / (_TUKEY * deviation)).square()).clamp_min(0.0).square()
    return coefficients

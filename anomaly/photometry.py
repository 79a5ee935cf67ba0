"""Brightness and colour of the whole image: told apart from defects by a robust fit.

For one image or, with leading dimensions, a stack of them. A GPU is never waited for.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gaussian_renderer import RenderingBatch

from .masked import masked_median, surely_none

MINIMAL_GAIN = 0.1  # the median residual must fall by this share, or nothing is applied
_GAINS = (0.25, 4.0)  # believed at most
_BORDER = 0.01  # of the image's shorter side, on each side: where the background is read
_PLAIN = 0.02  # by less, colours of a plain background differ
_MOSTLY = 0.75  # of the border must be plain: an object may reach over the rest
_DARK = 0.1  # background below it tells no gain
_SAMPLES = 8_000  # pixels used, at least, where there are so many; fewer than twice as many
_FEWEST = 100  # pixels from which anything is fitted
_SATURATED = 0.99  # a clipped query pixel tells nothing of the gain
_TUKEY = 4.685  # residuals beyond so many standard deviations have no weight
_ROUNDS = 12
_OBJECT_ALPHA = 0.5  # where the object covers at least so much of a pixel, colours are compared
_SAME = 0.03  # of the background's colour: background, which a lamp does not reach
_CLEARLY = 0.5  # of the residual must go, or it is no matter of light


@dataclass(frozen=True)
class Photometry:
    """query = gain * rendering + offset, per pixel and channel."""

    gain: Tensor  # [..., 3]
    offset: Tensor  # [..., 3]
    significant: Tensor  # [...] bool; False: gain and offset are those of no change

    @property
    def believable_gain(self) -> Tensor:
        """How much brighter the query is than the rendering, within what is believed [..., 3]."""
        return self.gain.clamp(*_GAINS)

    def __call__(self, images: Tensor) -> Tensor:
        """Renderings [..., 3, H, W] as they would look under the light of the query, 0..1."""
        if surely_none(self.significant):
            return images
        changed = self.gain[..., None, None] * images + self.offset[..., None, None]
        changed = changed.clamp(0.0, 1.0)
        return torch.where(self.significant[..., None, None, None], changed, images)


def fit_photometry(
    query: Tensor,  # [..., 3, H, W], 0..1
    rendering: Tensor,  # [..., 3, H, W]
    foreground: Tensor,  # [..., H, W] bool, where the object is
) -> Photometry:
    """Global change of light or camera between rendering and query.

    Gain and offset per channel, by iteratively reweighted least squares, first with weights
    1 / |residual|, then with Tukey's biweight, so that a defect over a fifth of the object does
    not move them. Applied only if they lower the median absolute residual by a tenth.
    Deterministic.
    """
    usable = foreground & (query.amax(dim=-3) < _SATURATED)
    index, known = _sampled(usable)  # [..., P]
    target, source = (_colours(image, index) for image in (query, rendering))  # [..., P, 3]
    before = _median_size(target - source, known)
    ones = torch.ones_like(source[..., :1])
    each = torch.stack([source.mT, ones.mT.expand_as(source.mT)], dim=-1)  # [..., 3, P, 2]
    solution = _robust_solve(each, target.mT[..., None], known[..., None, :])  # [..., 3, 2, 1]
    gains, offset = solution[..., 0, 0], solution[..., 1, 0]
    after = _median_size(target - source * gains[..., None, :] - offset[..., None, :], known)
    significant = (after <= (1.0 - MINIMAL_GAIN) * before) & (known.sum(dim=-1) >= _FEWEST)
    gains = gains.masked_fill(~significant[..., None], 1.0)
    offset = offset.masked_fill(~significant[..., None], 0.0)
    return Photometry(gains.to(query), offset.to(query), significant)


def background_gains(
    query: Tensor,  # [..., 3, H, W], 0..1
    background: Tensor,  # [3] behind the object in the train views
) -> Tensor:
    """Gains [..., 3] that give a query's plain background its colour in the train views.

    Another exposure or white balance shows there without any pose being known. Ones where the
    border of the image is not plain, is right already, or is too dark to tell a gain.
    """
    border = _border(query)  # [..., 3, P]
    middle = border.median(dim=-1).values
    off = (border - middle[..., None]).abs().amax(dim=-2)
    wanted = background.to(query)
    is_plain = (off < _PLAIN).float().mean(dim=-1) > _MOSTLY
    is_off = (middle - wanted).abs().amax(dim=-1) >= _PLAIN
    gains = wanted / middle.clamp_min(1e-6)
    told = (middle > _DARK) & (wanted > _DARK) & (is_plain & is_off)[..., None]
    return gains.clamp(*_GAINS).masked_fill(~told, 1.0)


@torch.no_grad()
def in_known_light(
    images: Tensor,  # [B, 3, H, W] the queries
    renderings: RenderingBatch,  # of the object, at about the queries' poses
    background: Tensor,  # [3]
) -> tuple[Tensor, Tensor]:
    """The queries [B, 3, H, W] without the gain and offset that set them off the renderings.

    What has the background's colour stays. Also whether light explains at least half of what
    differs, [B] bool: not so for another object, or a pose that is too wrong to tell.
    """
    shown, on_object = renderings.images.clamp(0.0, 1.0), renderings.alphas > _OBJECT_ALPHA
    light = fit_photometry(images, shown, on_object)
    before, after = (
        masked_median(difference.abs().flatten(1), on_object[:, None].expand_as(shown).flatten(1))
        for difference in (images - shown, images - light(shown))
    )
    offset, gains = (part[..., None, None] for part in (light.offset, light.believable_gain))
    restored = ((images - offset) / gains).clamp(0.0, 1.0)
    behind = (images - background.to(images)[:, None, None]).abs().amax(dim=1, keepdim=True) < _SAME
    return torch.where(behind, images, restored), light.significant & (after <= _CLEARLY * before)


def _border(images: Tensor) -> Tensor:
    """The pixels next to the edges of images [..., H, W], [..., P]."""
    width = max(2, round(_BORDER * min(images.shape[-2:])))
    rows, between = (width, images.shape[-2] - width), slice(width, -width)
    strips = (
        images[..., : rows[0], :],
        images[..., rows[1] :, :],
        images[..., between, :width],
        images[..., between, -width:],
    )
    return torch.cat([strip.flatten(start_dim=-2) for strip in strips], dim=-1)


def _sampled(usable: Tensor) -> tuple[Tensor, Tensor]:
    """At most twice _SAMPLES usable pixels at equal distances: index [..., P], whether it is one.

    The number of usable pixels is known on the host only where that costs nothing; on a GPU there
    are places for as many as there may be.
    """
    rank = usable.flatten(start_dim=-2).cumsum(dim=-1)
    count = rank[..., -1:]
    stride = (count // _SAMPLES).clamp_min(1)
    taken = (count + stride - 1) // stride
    places = 2 * _SAMPLES if usable.is_cuda else max(1, int(taken.max()))
    place = torch.arange(places, device=usable.device).expand(*taken.shape[:-1], places)
    known = place < taken
    index = torch.searchsorted(rank, place * stride + 1)  # where the rank first reaches that
    return index.masked_fill(~known, 0), known


def _colours(image: Tensor, index: Tensor) -> Tensor:
    """Pixels [..., P, 3] float64 of images [..., 3, H, W]."""
    flat = image.flatten(start_dim=-2)
    return flat.take_along_dim(index[..., None, :], dim=-1).mT.double()


def _median_size(residual: Tensor, known: Tensor) -> Tensor:
    """Median [...] of the absolute residuals [..., P, 3] of the known pixels [..., P]."""
    sizes = residual.abs()
    return masked_median(
        sizes.flatten(start_dim=-2), known[..., None].expand_as(sizes).flatten(start_dim=-2)
    )


def _robust_solve(design: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Coefficients [..., K, C] of design [..., P, K] @ coefficients = target, outliers ignored.

    Rows that are not `known` [..., P] take no part.
    """
    part = known[..., None].to(design)
    count = known.sum(dim=-1)[..., None, None]
    ridge = 1e-9 * count * torch.eye(design.shape[-1], dtype=design.dtype, device=design.device)
    weights = part
    for round_ in range(_ROUNDS):
        normal = design.mT @ (weights * design) + ridge
        # unlike solve, solve_ex does not wait for a GPU
        coefficients = torch.linalg.solve_ex(normal, design.mT @ (weights * target)).result
        residual = (target - design @ coefficients).square().sum(dim=-1, keepdim=True).sqrt()
        middle = masked_median(residual[..., 0], known)[..., None, None]
        deviation = 1.4826 * middle.clamp_min(1e-4)
        if round_ < _ROUNDS // 2:
            weights = part / residual.maximum(deviation)
        else:
            share = (1.0 - (residual / (_TUKEY * deviation)).square()).clamp_min(0.0)
            weights = part * share.square()
    return coefficients

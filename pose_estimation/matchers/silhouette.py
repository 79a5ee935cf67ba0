"""Coarse poses without pre-trained weights: polar thumbnails against the gallery's templates."""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera

from ..gallery import Gallery
from ..hypotheses import Hypothesis, angular_scale, keep_distinct, ray_of, transfer_poses
from ..thumbnails import (
    ANGLES,
    PLAIN_GREY,
    Outline,
    PolarIndex,
    differs,
    outlines,
    planes,
    polar_thumbnails,
    whole_frame,
)

_SCALE_GUESSES = (0.92, 1.0, 1.08)  # of a whole silhouette: a defect shifts its moments
_CUT_SCALE_GUESSES = (0.8, 0.9, 1.0, 1.12, 1.25)  # of a cut one, against the gallery's median
_CUT_SHIFTS = (0.0, 0.3, 0.6, 0.9)  # of its centroid over the border, in rms radii
_PEAKS = 120  # candidates looked at before near-duplicates are dropped
_PLAUSIBLE = 3.0  # a hypothesis may lie that much farther from the query than the best one
_SEPARATION = math.radians(12.0)
_COUNT = 32  # hypotheses at most; a nearly symmetric object needs many
_QUERIES_AT_ONCE = 64  # on a GPU; bounds the memory of their similarities


class _Peaks(NamedTuple):
    """The best P candidates of each of B queries, [B, P] float64, copied to the CPU."""

    scores: Tensor
    templates: Tensor
    angles: Tensor
    offsets: Tensor  # of the angles, -0.5..0.5
    guesses: Tensor


class SilhouetteMatcher:
    """Compares queries with every template at every in-plane rotation, in one batch of FFTs."""

    name = "silhouette"

    def __init__(
        self, gallery: Gallery, count: int = _COUNT, device: torch.device | str = "cpu"
    ) -> None:
        self._gallery = gallery
        self._count = count
        self._device = torch.device(device)
        self._index = PolarIndex(gallery.thumbnails, device)
        self._at_once = _QUERIES_AT_ONCE if self._device.type == "cuda" else 1
        self._median_scale = float(gallery.template_scales.median())

    def coarse_poses(self, image: Tensor, camera: Camera) -> list[Hypothesis]:
        """The best distinct poses of a query [3, H, W] seen through the lens of `camera`.

        An image without any silhouette yields the gallery's own viewpoints with a score of 0.
        """
        return self.coarse_poses_many(image[None], camera)[0]

    def coarse_poses_many(self, images: Tensor, camera: Camera) -> list[list[Hypothesis]]:
        """`coarse_poses` of queries [B, 3, H, W]; a GPU is waited for twice for every 64 of them.

        Silhouettes, thumbnails and their comparison are computed on the device of the matcher, the
        few poses that follow from them on the host.
        """
        chunks = images.split(self._at_once)
        return [found for chunk in chunks for found in self._together(chunk, camera)]

    def _together(self, images: Tensor, camera: Camera) -> list[list[Hypothesis]]:
        images = images.to(self._device).float()
        silhouettes = self.silhouettes(images)
        shapes = outlines(silhouettes)
        shown = [number for number, shape in enumerate(shapes) if shape is not None]
        if not shown:
            return [self._blind() for _ in shapes]
        guesses = [self._guesses(shape, camera) for shape in shapes if shape is not None]
        peaks = self._compare([images[n] for n in shown], [silhouettes[n] for n in shown], guesses)
        rows = zip(self._poses(peaks, guesses, camera), peaks.scores.float(), strict=True)
        return [
            self._blind()
            if shape is None
            # what is outside of the frame was only guessed: that doubles the doubt
            else self._distinct(*next(rows), doubt=2 if shape.is_cut else 1)
            for shape in shapes
        ]

    def silhouettes(self, images: Tensor) -> Tensor:
        """What differs from the background, [..., H, W] bool; everything if that is unknown."""
        background = self._gallery.background
        return whole_frame(images) if background is None else differs(images, background)

    def _guesses(self, shape: Outline, camera: Camera) -> tuple[Tensor, Tensor]:
        """Where the whole object may lie: centres [K, 2] and rms radii [K], pixels."""
        x, y = shape.centre
        if not shape.is_cut:
            scales = torch.tensor([shape.scale * guess for guess in _SCALE_GUESSES])
            return torch.tensor([[x, y]]).expand(len(scales), 2), scales
        length = math.hypot(*shape.cut_direction)
        dx, dy = (component / length for component in shape.cut_direction)
        expected = self._median_scale / angular_scale(camera, 1.0)
        guesses = [
            (x + shift * expected * dx, y + shift * expected * dy, expected * factor)
            for factor in _CUT_SCALE_GUESSES
            for shift in _CUT_SHIFTS
        ] + [(x, y, shape.scale)]
        table = torch.tensor(guesses)
        return table[:, :2], table[:, 2]

    def _compare(
        self, images: list[Tensor], silhouettes: list[Tensor], guesses: list[tuple[Tensor, Tensor]]
    ) -> _Peaks:
        """Peaks of B queries [3, H, W] over all guesses; they come from the device in one copy."""
        background = self._gallery.background
        colour = PLAIN_GREY if background is None else background
        colour = colour.to(self._device, non_blocking=True)
        sampled = [
            polar_thumbnails(planes(image, silhouette, colour), centres, scales)
            for image, silhouette, (centres, scales) in zip(
                images, silhouettes, guesses, strict=True
            )
        ]
        thumbnails, valid = (torch.cat(parts) for parts in zip(*sampled, strict=True))
        similarity = self._index.similarities(thumbnails, valid)  # [K, T, ANGLES]
        each = similarity.split([len(scales) for _, scales in guesses])
        return _Peaks(*torch.stack([_peaks(own) for own in each], dim=1).cpu())

    def _poses(self, peaks: _Peaks, guesses: list[tuple[Tensor, Tensor]], camera: Camera) -> Tensor:
        """World_to_camera [B, P, 4, 4] float64 of the peaks."""
        gallery, template = self._gallery, peaks.templates.long().flatten()
        rolls = (peaks.angles.long() + peaks.offsets.float()) * (2 * math.pi / ANGLES)
        rays, scales = [], []
        for (centres, sizes), chosen in zip(guesses, peaks.guesses.long(), strict=True):
            own = torch.tensor([ray_of(camera, x, y) for x, y in centres.tolist()])
            rays.append(own[chosen])
            scales.append(sizes[chosen])
        poses = transfer_poses(
            gallery.template_poses[template],
            gallery.template_rays[template],
            gallery.template_scales[template],
            gallery.centre,
            torch.cat(rays).double(),
            torch.cat(scales).double() * angular_scale(camera, 1.0),
            rolls.double().flatten(),
        )
        return poses.unflatten(0, rolls.shape)

    def _distinct(self, poses: Tensor, scores: Tensor, doubt: int) -> list[Hypothesis]:
        """The best of one query's peaks [P, 4, 4] as distinct poses; more of them in `doubt`."""
        plausible = 1 - scores <= doubt * _PLAUSIBLE * (1 - scores.max())
        return keep_distinct(poses[plausible], scores[plausible], doubt * self._count, _SEPARATION)

    def _blind(self) -> list[Hypothesis]:
        poses = self._gallery.world_to_camera
        chosen = torch.linspace(0, len(poses) - 1, min(self._count, len(poses))).long()
        return [Hypothesis(poses[i], 0.0) for i in chosen.tolist()]


def make(gallery: Gallery, model: ObjectRenderer, weights: Path | None) -> SilhouetteMatcher:
    """The matcher on the device of the model; it needs no weights."""
    return SilhouetteMatcher(gallery, device=model.gaussians.means.device)


def _peaks(similarity: Tensor) -> Tensor:
    """The highest peaks of one query's similarity [K, T, ANGLES], [5, P] like `_Peaks`."""
    over_guesses, guess = similarity.max(dim=0)  # [T, ANGLES]
    is_peak = (over_guesses >= over_guesses.roll(1, -1)) & (
        over_guesses >= over_guesses.roll(-1, -1)
    )
    flat = torch.where(is_peak, over_guesses, torch.full_like(over_guesses, -1.0)).flatten()
    scores, index = flat.topk(min(_PEAKS, similarity.shape[1]))
    template, angle = index // ANGLES, index % ANGLES
    offset = _vertex(over_guesses, template, angle)
    found = (scores, template, angle, offset, guess[template, angle])
    return torch.stack([part.double() for part in found])


def _vertex(values: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Offset in -0.5..0.5 of the parabola through a peak and its two circular neighbours."""
    size = values.shape[1]
    left, here, right = (values[row, (column + step) % size] for step in (-1, 0, 1))
    curvature = left - 2 * here + right
    safe = torch.where(curvature < 0, curvature, torch.full_like(curvature, -1.0))
    offset = torch.where(curvature < 0, 0.5 * (left - right) / safe, torch.zeros_like(here))
    return offset.clamp(-0.5, 0.5)

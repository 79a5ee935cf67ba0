"""Coarse poses without pre-trained weights: polar thumbnails against the gallery's templates."""

import math

import torch
from torch import Tensor

from scene import Camera

from ..gallery import Gallery
from ..hypotheses import Hypothesis, angular_scale, keep_distinct, ray_of, transfer_poses
from ..polar import ANGLES, Outline, PolarIndex, outline, planes, polar_thumbnails
from ..templates import PLAIN_GREY, differs, whole_frame

_SCALE_GUESSES = (0.92, 1.0, 1.08)  # of a whole silhouette: a defect shifts its moments
_CUT_SCALE_GUESSES = (0.8, 0.9, 1.0, 1.12, 1.25)  # of a cut one, against the gallery's median
_CUT_SHIFTS = (0.0, 0.3, 0.6, 0.9)  # of its centroid over the border, in rms radii
_PEAKS = 120  # candidates looked at before near-duplicates are dropped
_PLAUSIBLE = 1.7  # a hypothesis may lie that much farther from the query than the best one
_SEPARATION = math.radians(12.0)


class ClassicalMatcher:
    """Compares a query with every template at every in-plane rotation, in one batch of FFTs."""

    name = "classical"

    def __init__(self, gallery: Gallery, count: int = 4) -> None:
        self._gallery = gallery
        self._count = count
        self._index = PolarIndex(gallery.thumbnails)
        self._median_scale = float(gallery.template_scales.median())

    def coarse_poses(self, image: Tensor, camera: Camera) -> list[Hypothesis]:
        """The best distinct poses of a query [3, H, W] seen through the lens of `camera`.

        An image without any silhouette yields the gallery's own viewpoints with a score of 0.
        """
        image = image.float().cpu()
        silhouette = self.silhouette(image)
        shape = outline(silhouette)
        if shape is None:
            return self._blind()
        background = self._gallery.known_background
        colour = PLAIN_GREY if background is None else background
        centres, scales = self._guesses(shape, camera)
        thumbnails, valid = polar_thumbnails(planes(image, silhouette, colour), centres, scales)
        similarity = self._index.similarities(thumbnails, valid)  # [K, T, ANGLES]
        doubt = 2 if shape.is_cut else 1  # what is outside of the frame was only guessed
        return self._best(similarity, centres, scales, camera, doubt)

    def silhouette(self, image: Tensor) -> Tensor:
        """What differs from the background, [H, W] bool; everything if that is unknown."""
        background = self._gallery.known_background
        if background is None:
            return whole_frame(image)
        return differs(image, background)

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

    def _best(
        self, similarity: Tensor, centres: Tensor, scales: Tensor, camera: Camera, doubt: int
    ) -> list[Hypothesis]:
        """Peaks over guess, template and rotation, as distinct poses; more of them in `doubt`."""
        templates = similarity.shape[1]
        over_guesses, guess = similarity.max(dim=0)  # [T, ANGLES]
        is_peak = (over_guesses >= over_guesses.roll(1, -1)) & (
            over_guesses >= over_guesses.roll(-1, -1)
        )
        flat = torch.where(is_peak, over_guesses, torch.full_like(over_guesses, -1.0)).flatten()
        scores, index = flat.topk(min(_PEAKS, templates))
        template, angle = index // ANGLES, index % ANGLES
        rolls = (angle + _vertex(over_guesses, template, angle)) * (2 * math.pi / ANGLES)
        chosen = guess[template, angle]
        rays = torch.tensor([ray_of(camera, x, y) for x, y in centres.tolist()])
        gallery = self._gallery
        poses = transfer_poses(
            gallery.template_poses[template],
            gallery.template_rays[template],
            gallery.template_scales[template],
            gallery.centre,
            rays[chosen].double(),
            scales[chosen].double() * angular_scale(camera, 1.0),
            rolls.double(),
        )
        plausible = 1 - scores <= doubt * _PLAUSIBLE * (1 - scores.max())
        return keep_distinct(poses[plausible], scores[plausible], doubt * self._count, _SEPARATION)

    def _blind(self) -> list[Hypothesis]:
        poses = self._gallery.world_to_camera
        chosen = torch.linspace(0, len(poses) - 1, min(self._count, len(poses))).long()
        return [Hypothesis(poses[i], 0.0) for i in chosen.tolist()]


def _vertex(values: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Offset in -0.5..0.5 of the parabola through a peak and its two circular neighbours."""
    size = values.shape[1]
    left, here, right = (values[row, (column + step) % size] for step in (-1, 0, 1))
    curvature = left - 2 * here + right
    safe = torch.where(curvature < 0, curvature, torch.full_like(curvature, -1.0))
    offset = torch.where(curvature < 0, 0.5 * (left - right) / safe, torch.zeros_like(here))
    return offset.clamp(-0.5, 0.5)

"""Coarse poses in any surroundings, of objects without texture too: templates of gradients."""

import math
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera
from scene.keypoints import one_opencv_thread

from ..gallery import Gallery
from ..gradient_templates import GradientTemplates, make_gradient_templates
from ..gradients import FULL, Floats, Whole, graded_maps, response_maps
from ..hypotheses import Hypothesis
from ..placements import Placements, Reals, ScoreMaps
from ..template_refinement import TemplateRefinement, distinct
from ..template_search import TemplateSearch

_COUNT = 16  # hypotheses at most
_WIDE, _NARROW = 7, (1, 3, 5)  # pixels a side over which edges are spread: in the search, then
_PEAKS = 1500  # templates looked at before near-duplicates are dropped
_CANDIDATES = 64  # that are refined
_TURN, _SHIFT = math.radians(12.0), 0.1  # candidates nearer than both are one
_MOST_PIXELS = 300 * 300  # of the image that is searched
_MARGIN = 2.0  # of maps, in sizes of the largest template


class GradientMatcher:
    """Finds the object by the directions of its edges and by its colours.

    The query is brought to the size at which the object is as large as in the templates, searched
    with a part of them at every fourth pixel, and the best are moved to where they fit better.
    """

    name = "gradients"

    def __init__(self, templates: GradientTemplates, count: int = _COUNT, threads: int = 1) -> None:
        self._templates, self._count = templates, count
        self._search = TemplateSearch(templates.thinned(), threads)
        self._refinement = TemplateRefinement(templates)

    def coarse_poses(self, image: Tensor, camera: Camera) -> list[Hypothesis]:
        """Distinct poses of a query [3, H, W] by how well templates fit, best first."""
        with one_opencv_thread():
            shrunk, lens = self._resized(image, camera)
            zoom = math.sqrt(lens.fx * lens.fy) / self._templates.focal
            maps = response_maps(shrunk, self._templates.palette, _WIDE)
            placements, scores = self._search.peaks(maps, zoom)
            best = np.argsort(-scores, kind="stable")[:_PEAKS]
            first = placements.at(best)
            _, kept = self._distinct(first, scores[best], lens, _CANDIDATES)
            fine = graded_maps(shrunk, self._templates.palette, _NARROW)
            margin = math.ceil(np.abs(self._templates.points).max() * first.scales.max() * _MARGIN)
            fine_maps = ScoreMaps(fine, self._templates, margin, FULL * len(_NARROW))
            refined, scores = self._refinement.climb(fine_maps, first.at(kept), zoom)
            poses, kept = self._distinct(refined, scores, lens, self._count)
        return [Hypothesis(poses[i], float(scores[i])) for i in kept.tolist()]

    def coarse_poses_many(self, images: Tensor, camera: Camera) -> list[list[Hypothesis]]:
        """`coarse_poses` of each of B queries [B, 3, H, W], one after the other."""
        return [self.coarse_poses(image, camera) for image in images]

    def _resized(self, image: Tensor, camera: Camera) -> tuple[Floats, Camera]:
        """The query [h, w, 3] as large as the templates, or as is searched at most; its lens."""
        zoom = math.sqrt(_MOST_PIXELS / (camera.width * camera.height))
        width, height = (
            max(1, round(side * min(zoom, self._templates.focal / focal)))
            for side, focal in ((camera.width, camera.fx), (camera.height, camera.fy))
        )
        pixels = image.detach().cpu().float().permute(1, 2, 0).contiguous().numpy()
        shrunk = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(shrunk, np.float32), camera.resized(width, height)

    def _distinct(
        self, placements: Placements, scores: Reals, lens: Camera, count: int
    ) -> tuple[Tensor, Whole]:
        """The poses [M, 4, 4] of placements, and which of them to keep, best first."""
        poses = placements.poses(self._templates, lens)
        places = poses[:, :3, :3] @ self._templates.centre + poses[:, :3, 3]
        units = (places / places.norm(dim=1).median()).numpy()
        rotations = poses[:, :3, :3].numpy()
        return poses, distinct(rotations, units, scores, count, _TURN, _SHIFT)


def make(gallery: Gallery, model: ObjectRenderer, weights: Path | None) -> GradientMatcher:
    """The matcher; it needs no weights and computes on the CPU.

    It renders the templates, which takes seconds. Raises InputError as `make_gradient_templates`.
    """
    return GradientMatcher(make_gradient_templates(model, gallery), threads=model.threads)

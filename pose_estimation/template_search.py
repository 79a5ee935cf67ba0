"""Where in an image a template lies best: every one at every place, at one go.

Response maps are sampled at every fourth pixel and stored so that the responses which a template's
point meets at all places follow each other in memory (Hinterstoisser et al. 2012): a template is
then a sum of as many runs of bytes as it has points.
"""

import math
from dataclasses import dataclass

import numpy as np

from gaussian_renderer import PLACES_AT_ONCE, template_peaks

from .gradient_templates import GradientTemplates
from .gradients import FULL, Bytes, Whole
from .placements import Placements, Reals, pixels_of
from .viewpoints import fibonacci_sphere

_STRIDE = 4  # pixels between places
_GRAIN = 2  # pixels to which the points of a template are rounded down
_PHASES = _STRIDE // _GRAIN
_DIRECTIONS = 300  # over the whole sphere: about 12 degrees apart
_ROLLS = 36
_SCALE_STEP = 1.14
_BEYOND = 1.2  # times nearer or farther than any train view


@dataclass(frozen=True)
class _Layout:
    """How maps of one size lie in memory: planes of `rows` x `columns` places, one a phase.

    Only the right border is empty: to the left of a row lies the empty end of the one before.
    """

    height: int  # places that count
    width: int
    margin: int  # empty places

    @property
    def rows(self) -> int:
        """Of a plane."""
        return self.height + 2 * self.margin

    @property
    def columns(self) -> int:
        """Of a plane."""
        return self.width + self.margin

    def memory(self, maps: Bytes) -> Bytes:
        """The responses [C, H, W], one plane after the other."""
        channels, height, width = maps.shape
        padded = np.zeros((channels, self.height * _STRIDE, self.width * _STRIDE), np.uint8)
        padded[:, :height, :width] = maps
        planes = np.zeros((channels, _PHASES, _PHASES, self.rows, self.columns), np.uint8)
        for down in range(_PHASES):
            for across in range(_PHASES):
                planes[:, down, across, self.margin : self.margin + self.height, : self.width] = (
                    padded[:, down * _GRAIN :: _STRIDE, across * _GRAIN :: _STRIDE]
                )
        before, after = np.zeros(self.margin, np.uint8), self.margin + PLACES_AT_ONCE
        return np.concatenate([before, planes.ravel(), np.zeros(after, np.uint8)])

    def starts(self, channels: Whole, columns: Whole, rows: Whole) -> Whole:
        """Where the responses of points begin, pixels from the template's own place."""
        across, down = columns // _GRAIN, rows // _GRAIN
        plane = (channels * _PHASES + down % _PHASES) * _PHASES + across % _PHASES
        right, below = across // _PHASES, down // _PHASES
        return ((plane * self.rows) + below + self.margin) * self.columns + right + self.margin

    def valid(self) -> Bytes:
        """255 at the places of a plane where a template may lie, padded to whole blocks."""
        inside = np.zeros((self.height, self.columns), np.uint8)
        inside[:, : self.width] = 255
        return np.pad(inside.ravel(), (0, -inside.size % PLACES_AT_ONCE))


class TemplateSearch:
    """Finds the best place of every template, at rolls all around and at several sizes."""

    def __init__(self, templates: GradientTemplates, threads: int = 1) -> None:
        self._templates, self._threads = templates, threads
        self._variants = _variants(templates)
        self._known: tuple[tuple[int, ...], float] | None = None
        self._layout, self._starts = _Layout(0, 0, 0), np.zeros((0, 0), np.int32)

    def peaks(self, maps: Bytes, zoom: float) -> tuple[Placements, Reals]:
        """Every template where it fits best in maps [C, H, W], and its score 0..1.

        `zoom` is by how much the image is larger than the templates at equal distance.
        """
        self._prepare(maps.shape, zoom)
        layout, starts = self._layout, self._starts
        best, where = template_peaks(layout.memory(maps), starts, layout.valid(), self._threads)
        rows, columns = np.divmod(where.astype(np.int64), layout.columns)
        variants = self._variants
        found = Placements(
            variants.views, variants.rolls, variants.scales * zoom,
            columns * _STRIDE + 0.5, rows * _STRIDE + 0.5,
        )  # fmt: skip
        return found, best / (FULL * starts.shape[1])

    def _prepare(self, shape: tuple[int, ...], zoom: float) -> None:
        """Lays out the templates for maps of this shape, unless the last ones had it as well."""
        if self._known == (shape, zoom):
            return
        height, width = (-(-side // _STRIDE) for side in shape[1:])
        some = self._variants
        placed = Placements(some.views, some.rolls, some.scales * zoom, some.x, some.y)
        reach = placed.scales.max() * np.linalg.norm(self._templates.points, axis=2).max()
        self._layout = _Layout(height, width, math.ceil(reach / _STRIDE) + 1)
        channels = self._templates.channels(placed.views, placed.rolls)
        starts = self._layout.starts(channels, *pixels_of(self._templates, placed))
        self._starts, self._known = starts.astype(np.int32), (shape, zoom)


def _variants(templates: GradientTemplates) -> Placements:
    """Some of the templates, as far apart as the spread of responses allows, rolled and scaled."""
    towards = fibonacci_sphere(_DIRECTIONS).numpy()
    axes = -templates.poses[:, 2, :3].numpy()  # from the object to the camera
    nearest = (towards @ axes.T).argmax(axis=1)
    apart = (towards @ axes.T).max(axis=1) > math.cos(math.radians(10))
    views = np.unique(nearest[apart])
    smallest = templates.distance / templates.farthest / _BEYOND
    largest = templates.distance / templates.nearest * _BEYOND
    steps = 1 + math.ceil(math.log(largest / smallest) / math.log(_SCALE_STEP))
    scales = np.geomspace(smallest, largest, steps)
    rolls = np.arange(_ROLLS) * (2 * math.pi / _ROLLS)
    # Views change slowest: those of one view read the same channels.
    each = np.meshgrid(views, scales, rolls, indexing="ij")
    flat = [part.ravel() for part in each]
    origin = np.full(len(flat[0]), 0.5)
    return Placements(flat[0], flat[2], flat[1], origin, origin)

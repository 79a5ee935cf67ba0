"""Placements of templates made better: neighbouring views, turns, sizes and shifts are tried."""

import math
from dataclasses import replace

import numpy as np

from .gradient_templates import GradientTemplates
from .gradients import Whole
from .placements import Placements, Reals, ScoreMaps

_NEIGHBOURS = 9  # views that are tried, the own one among them
# Turn (degrees), size (logarithm) and shift (pixels at zoom 1) of each round.
_ROUNDS = ((6.0, 0.06, 3.0), (4.0, 0.04, 2.0), (2.0, 0.02, 1.0))
_SIDES = (-1.0, 0.0, 1.0)


class TemplateRefinement:
    """Hill climbing from many placements at once."""

    def __init__(self, templates: GradientTemplates) -> None:
        rotations = templates.poses[:, :3, :3].numpy()
        axes = rotations[:, 2]
        nearest = np.argsort(-(axes @ axes.T), axis=1, kind="stable")
        self._near = nearest[:, : min(_NEIGHBOURS, len(axes))]  # [V, K]
        # How a neighbour has to be rolled to look most like the view: the turn about z that brings
        # its rotation nearest.
        between = rotations[self._near] @ rotations[:, None].transpose(0, 1, 3, 2)
        self._turn = np.arctan2(
            between[..., 0, 1] - between[..., 1, 0], between[..., 0, 0] + between[..., 1, 1]
        )

    def climb(self, maps: ScoreMaps, start: Placements, zoom: float) -> tuple[Placements, Reals]:
        """Better placements, and their scores 0..1, in the order of `start`."""
        here = start
        for turn, size, shift in _ROUNDS:
            here, _ = _best(maps, _shifted(self._views(here, math.radians(turn)), shift * zoom))
            here, scores = _best(maps, _shifted(_resized(here, size), shift * zoom))
        return here, scores

    def _views(self, here: Placements, turn: float) -> Placements:
        """Every neighbouring view, a little turned [M, options]."""
        near, turns = self._near[here.views], self._turn[here.views]  # [M, K]
        rolls = here.rolls[:, None, None] + turns[..., None] + turn * np.array(_SIDES)
        return _options(replace(here, views=near[..., None], rolls=rolls))


def _resized(here: Placements, size: float) -> Placements:
    scales = here.scales[:, None] * np.exp(size * np.array(_SIDES))
    return _options(replace(here, scales=scales))


def _shifted(options: Placements, shift: float) -> Placements:
    """Each option also moved by `shift` pixels to all sides."""
    across, down = (part.ravel() * shift for part in np.meshgrid(_SIDES, _SIDES))
    moved = replace(options, x=options.x[..., None] + across, y=options.y[..., None] + down)
    return _options(moved)


def _options(unequal: Placements) -> Placements:
    """Fields [M], [M, A] or [M, A, B] as [M, options] each."""
    parts = [unequal.views, unequal.rolls, unequal.scales, unequal.x, unequal.y]
    most = max(part.ndim for part in parts)
    wide = [part.reshape(part.shape + (1,) * (most - part.ndim)) for part in parts]
    return Placements(*(part.reshape(len(part), -1) for part in np.broadcast_arrays(*wide)))


def _best(maps: ScoreMaps, options: Placements) -> tuple[Placements, Reals]:
    """The best of each row of options [M, K], and its score [M]."""
    scores = maps.scores(options)
    chosen = np.arange(len(scores)), scores.argmax(axis=1)
    return options.at(chosen), scores[chosen]


def distinct(
    rotations: Reals,  # [M, 3, 3]
    places: Reals,  # [M, 3] of the object, in units of its distance
    scores: Reals,  # [M]
    count: int,
    angle: float,  # radians
    shift: float,  # in these units
) -> Whole:
    """At most `count` indices, best first, that differ from better ones by that much or more."""
    kept: list[int] = []
    left = np.argsort(-scores, kind="stable")
    while len(kept) < count and len(left):
        best = left[0]
        kept.append(int(best))
        cosine = (np.einsum("mij,ij->m", rotations[left], rotations[best]) - 1) / 2
        apart = np.linalg.norm(places[left] - places[best], axis=1) >= shift
        turned = cosine <= math.cos(angle)
        left = left[(apart | turned) & (left != best)]
    return np.array(kept, dtype=np.int64)

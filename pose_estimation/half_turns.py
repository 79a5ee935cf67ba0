"""The poses that a nearly symmetric object is most often mistaken for: half a turn away."""

import torch
from torch import Tensor

from scene import Gaussians

from .candidates import HALF, LOW, Candidates, Plan, Queries
from .viewpoints import object_extent

_GLANCE = Plan(LOW, 4, 5e-3)
_ALIKE = 1.6  # times the loss of the pose itself after a glance: more is no symmetry
_SETTLE = Plan(HALF, 16, 2e-3)


def half_turns(gaussians: Gaussians) -> Tensor:
    """Half a turn about each principal axis of the object, through its centre, [3, 4, 4] float64.

    `world_to_camera @ turn` is the pose that shows the object turned.
    """
    centre, radius = object_extent(gaussians)
    means = gaussians.means.detach().cpu().double() - centre
    weights = gaussians.opacity_logits.detach().cpu().double().sigmoid()
    weights = weights * (means.norm(dim=1) < 4 * radius)  # without floaters
    _, axes = torch.linalg.eigh((means * weights[:, None]).T @ means)
    turns = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    turns[:, :3, :3] = 2 * axes.T[:, :, None] * axes.T[:, None, :] - torch.eye(3)
    turns[:, :3, 3] = centre - turns[:, :3, :3] @ centre
    return turns


def half_turned(queries: Queries, best: Candidates) -> Candidates:
    """The best poses of queries after half a turn, settled, where the object looks alike then."""
    if not len(best):
        return best
    turns = half_turns(queries.model.gaussians)
    count = torch.arange(len(best)).repeat_interleave(len(turns))
    start = best.at(count)
    poses = (best.poses[:, None] @ turns.to(best.poses)).flatten(0, 1)
    turned = Candidates(poses, start.query, start.hypothesis, start.loss)
    glanced, _ = queries.descend(best.joined(turned), _GLANCE)
    before, after = glanced.loss[: len(best)], glanced.loss[len(best) :]
    alike = turned.at(after <= _ALIKE * before[count])  # not where they drifted at low resolution
    return queries.descend(alike, _SETTLE)[0]

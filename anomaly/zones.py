"""Zones of the object's surface where differences count less, not at all, or more.

A zone is painted on one image and kept as a set of Gaussians, so that it stays on its place of the
object at every pose.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera

from .scoring import Scored

_MOST = 0.5  # share of a Gaussian, or of a pixel, from which on it belongs to a zone
_LEAST_PIXELS = 0.05  # a Gaussian that colours less of the painted image is not seen in it
_LEAST_ALPHA = 0.1  # beside the object there is no zone


@dataclass(frozen=True)
class Zones:
    """Sets of Gaussians, each with what the map is multiplied by where it is seen."""

    members: Tensor  # [Z, N] bool
    factors: tuple[float, ...]  # [Z], >= 0; 0 ignores, above 1 is strict

    def factor_map(self, model: ObjectRenderer, camera: Camera) -> Tensor:
        """What the map is multiplied by at each pixel, [..., H, W] for poses [..., 4, 4].

        A pixel lies in a zone where most of what it shows of the object is of the zone's
        Gaussians; in several zones their factors are multiplied.
        """
        like, leading = model.gaussians.means, camera.world_to_camera.shape[:-2]
        colours = self.members.T.to(like).expand(*leading, *self.members.T.shape)
        shown = model.views(camera, colours, like.new_zeros(len(self.members)))
        cover = shown.alphas.clamp_min(_LEAST_ALPHA)[..., None, :, :]
        inside = shown.images > _MOST * cover
        factors = like.new_tensor(self.factors)[:, None, None]
        return torch.where(inside, factors, 1.0).prod(dim=-3)

    def of_gaussians(self) -> Tensor:
        """The factor of each Gaussian, [N]; NaN in no zone."""
        factors = torch.tensor(self.factors).to(self.members.device)[:, None]
        product = torch.where(self.members, factors, torch.ones_like(factors)).prod(dim=0)
        return product.masked_fill(~self.members.any(dim=0), torch.nan)

    @torch.no_grad()
    def apply(self, model: ObjectRenderer, camera: Camera, scored: Scored) -> Scored:
        """The comparison with the zones' factors in its map and score."""
        before = scored.anomaly_map.amax(dim=(-2, -1))
        anomaly_map = scored.anomaly_map * self.factor_map(model, camera)
        after = anomaly_map.amax(dim=(-2, -1))
        # Features have a score of their own resolution, which falls and rises as the map does.
        ratio = after / before.clamp_min(1e-12)
        score = torch.where(scored.score == before, after, scored.score * ratio)
        return scored._replace(anomaly_map=anomaly_map, score=score)


@torch.no_grad()
def painted_members(
    model: ObjectRenderer,
    camera: Camera,  # at the pose of the painted image
    mask: Tensor,  # [H, W] bool
) -> Tensor:
    """The Gaussians most of which lie in the painted pixels, [N] bool on the CPU."""
    mean, pixels = model.splat(camera, mask[None].to(model.gaussians.means))
    return ((mean[:, 0] > _MOST) & (pixels >= _LEAST_PIXELS)).cpu()

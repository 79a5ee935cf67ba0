"""A last look at poses: how well renderings fit their queries, of one query or of many at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gaussian_renderer import photometric_loss, select_backend
from gaussian_renderer.variants import Variants

from .evidence import FIGURES, gather_evidence
from .problem import Candidate, Problem
from .pyramid import at_level, thinned_logits


@dataclass(frozen=True)
class Look:
    """A candidate whose rendering a query wants to see, at 1 / shrink of its resolution."""

    problem: Problem
    candidate: Candidate
    shrink: int = 1


@dataclass(frozen=True)
class Seen:
    """What it shows."""

    evidence: dict[str, float]  # see evidence.py
    loss: float  # (1 - l) L1 + l (1 - SSIM)
    noise: float  # robust standard deviation of the residuals that are not zero


@torch.no_grad()
def look_together(looks: Sequence[Look]) -> list[Seen]:
    """What looks at poses of one object through one lens show; a GPU is waited for once.

    All must be of the same `shrink`.
    """
    first = looks[0].problem
    images = torch.stack([look.problem.level(look.shrink).image for look in looks])
    rendered = _rendered(looks)
    block = 1 if looks[0].shrink > 1 else 2
    evidence = gather_evidence(images, rendered, first.model.background, block)
    losses = [
        photometric_loss(
            shown, image, first.settings.ssim_weight, first.model.backend, first.model.threads
        )
        for shown, image in zip(rendered, images, strict=True)
    ]
    sizes = (rendered - images).abs().flatten(start_dim=1)
    noise = 1.4826 * sizes.masked_fill(sizes == 0, torch.nan).nanmedian(dim=1).values
    rest = torch.stack([torch.stack(losses), noise.nan_to_num(0.0)], dim=1).double()
    rows = torch.cat([evidence, rest], dim=1).tolist()
    return [
        Seen(dict(zip(FIGURES, figures, strict=True)), loss, spread)
        for *figures, loss, spread in rows
    ]


def _rendered(looks: Sequence[Look]) -> Tensor:
    """The object at every candidate's pose, [B, 3, H, W], thinned for the resolution."""
    problem, shrink = looks[0].problem, looks[0].shrink
    model, level = problem.model, problem.level(shrink)
    lens = level.camera.at(torch.stack([look.candidate.world_to_camera for look in looks]))
    rasteriser: Any = select_backend(model.backend, model.gaussians.means.device)
    if shrink == 1:
        return model.views(lens).images
    if not hasattr(rasteriser, "rasterise_views"):
        each = [level.camera.at(pose) for pose in lens.world_to_camera]
        return torch.stack(
            [at_level(model, level, camera.world_to_camera)(camera).image for camera in each]
        )
    logits = thinned_logits(model.gaussians, lens, shrink)
    variants = Variants(model.gaussians, torch.ones_like(logits, dtype=torch.bool), logits)
    owners = torch.arange(len(looks), device=logits.device)
    views = lens.world_to_camera.to(logits, non_blocking=True)
    images: Tensor = rasteriser.rasterise_views(
        model.gaussians, level.camera, views, model.background, variants=variants, owners=owners
    ).images
    return images

"""`rasterise_views` as the adapter to gsplat offers it, from a rasteriser of single views."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch


def one_after_the_other(rasterise: Callable[..., Any]) -> Callable[..., SimpleNamespace]:
    """Renders each view by itself: the variants as clouds of their own."""

    def rasterise_views(  # type: ignore[no-untyped-def]
        gaussians, camera, views, background, colours=None, with_depth=False, *,
        screen=None, absgrad=False, variants=None, owners=None,
    ) -> SimpleNamespace:  # fmt: skip
        images, alphas, depths = [], [], []
        for number, view in enumerate(views):
            cloud = gaussians if variants is None else variants.gaussians_of(int(owners[number]))
            own = colours[number] if colours is not None and colours.dim() == 3 else colours
            place = torch.zeros_like(cloud.means[:, :2]) if screen is None else screen
            image, alpha, depth, _ = rasterise(
                cloud, camera, view.contiguous(), background, own, with_depth, place, 1
            )
            images.append(image)
            alphas.append(alpha)
            depths.append(depth)
        return SimpleNamespace(
            images=torch.stack(images), alphas=torch.stack(alphas),
            depth_sums=torch.stack(depths) if with_depth else None,
        )  # fmt: skip

    return rasterise_views

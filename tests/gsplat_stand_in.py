"""A stand-in for gsplat's four stages (packed mode) that is built on the reference."""

from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from gaussian_renderer import reference
from scene import Camera, Gaussians


def fully_fused_projection(  # type: ignore[no-untyped-def]
    means, covars, quats, scales, viewmats, Ks, width, height, eps2d, near_plane, radius_clip,
    packed, opacities,
):  # fmt: skip
    assert covars is None
    assert packed
    assert (eps2d, near_plane, radius_clip) == (0.3, 0.2, 0.0)
    # None: bounds for any opacity; the variants' own ones are given to the blending only
    logits = torch.logit(torch.full_like(means[:, 0], 0.999) if opacities is None else opacities)
    gaussians = Gaussians(means, scales.log(), quats, logits, means[:, None])
    parts = []
    for number, (view, k) in enumerate(zip(viewmats, Ks, strict=True)):
        camera = Camera(view, *(k[i, j].item() for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))),
                        width, height)  # fmt: skip
        p = reference.project(gaussians, camera, view, torch.zeros_like(means[:, :2]))
        shuffled = torch.arange(len(p.index) - 1, -1, -1)  # packed output is in no order of depth
        ids = torch.full((len(p.index),), number, dtype=torch.int32)
        radii = p.half_extents.ceil().to(torch.int32)
        fields = (ids, p.index.int(), radii, p.means, p.depths, p.conics)
        parts.append([field[shuffled] for field in fields])
    ids, index, radii, centres, depths, conics = (torch.cat(c) for c in zip(*parts, strict=True))
    return torch.zeros_like(ids), ids, index, radii, centres, depths, conics, None


def isect_tiles(  # type: ignore[no-untyped-def]
    means2d, radii, depths, tile_size, tile_width, tile_height, packed, n_images, image_ids,
    gaussian_ids,
):  # fmt: skip
    """The stand-in works on whole images: every Gaussian "meets" one tile, its image."""
    assert packed
    assert radii.shape == means2d.shape
    assert gaussian_ids.shape == depths.shape
    assert (tile_width, tile_height) == (3, 3)  # 45 x 37 px in tiles of 16
    order = torch.argsort(image_ids.double() * 1e6 + depths.detach(), stable=True)
    return torch.ones_like(image_ids), image_ids[order], order


def isect_offset_encode(isect_ids, n_images, tile_width, tile_height):  # type: ignore[no-untyped-def]
    starts = torch.searchsorted(isect_ids, torch.arange(n_images, dtype=isect_ids.dtype))
    return starts[:, None, None].expand(n_images, tile_height, tile_width)


class _AbsoluteGradient(torch.autograd.Function):
    """Leaves `.absgrad` on its input after backward, as gsplat does."""

    @staticmethod
    def forward(ctx, centres):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(centres)
        return centres.view_as(centres)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        ctx.saved_tensors[0].absgrad = gradient.abs()
        return gradient


def rasterize_to_pixels(  # type: ignore[no-untyped-def]
    means2d, conics, colors, opacities, image_width, image_height, tile_size, isect_offsets,
    flatten_ids, packed, absgrad,
):  # fmt: skip
    """Without `backgrounds`: gsplat 1.5.3 takes no background for every view in packed mode."""
    assert isect_offsets.shape[1:] == (3, 3)
    if absgrad:
        means2d = _AbsoluteGradient.apply(means2d)
    projected: Any = SimpleNamespace(means=means2d, conics=conics, opacities=opacities)
    xs, ys = (torch.arange(k, dtype=colors.dtype) + 0.5 for k in (image_width, image_height))
    starts = [*isect_offsets[:, 0, 0].tolist(), len(flatten_ids)]
    images, alphas = [], []
    for number in range(len(isect_offsets)):
        mine = flatten_ids[starts[number] : starts[number + 1]]
        image, alpha = reference._blend_tile(projected, colors, mine, xs, ys)
        images.append(image.reshape(image_height, image_width, -1))
        alphas.append(alpha.reshape(image_height, image_width, 1))
    return torch.stack(images), torch.stack(alphas)


def package() -> ModuleType:
    """What `import gsplat` is to give."""
    fake = ModuleType("gsplat")
    for stage in (fully_fused_projection, isect_tiles, isect_offset_encode, rasterize_to_pixels):
        setattr(fake, stage.__name__, stage)
    return fake

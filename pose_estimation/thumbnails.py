"""Polar thumbnails: an object's image around its centroid, so that rolling it shifts an axis.

A thumbnail is centred on the silhouette's centroid and scaled by its second moment. Comparing two
thumbnails over all in-plane rotations is then one circular correlation, done by FFT for a whole
gallery at once. Samples outside the frame are unknown and take no part.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

import scene

CHANNELS = 4  # red, green, blue (minus the background, inside the silhouette) and the silhouette
RADII = 14
ANGLES = 72
REACH = 2.4  # outermost radius, in units of the silhouette's root-mean-square radius
_HARMONICS = 28  # of the angular spectrum; higher ones carry aliasing, not shape
_PIXELS_PER_SCALE = 8.0  # the image is shrunk until the rms radius is about that long
_MASK_WEIGHT = 0.6  # of the silhouette against one colour channel
_TOUCHING = 0.02  # share of a border row inside the silhouette that counts as cut off
PLAIN_GREY = torch.full((3,), 0.5)  # stands for the background where none is known


def differs(image: Tensor, background: Tensor) -> Tensor:
    """What of images [..., 3, H, W] is not of the colour `background` [3], [..., H, W] bool.

    The background is given on the host.
    """
    red, green, blue = background.tolist()
    return scene.silhouette(image, (red, green, blue))


def whole_frame(image: Tensor) -> Tensor:
    """The silhouettes [..., H, W] to use where the background is not known: everything."""
    return torch.ones_like(image[..., 0, :, :], dtype=torch.bool)


@dataclass(frozen=True)
class Outline:
    """Where a silhouette lies, in pixels."""

    centre: tuple[float, float]  # centroid
    scale: float  # root-mean-square distance of its pixels from the centroid
    cut_direction: tuple[float, float]  # towards the borders that it touches; (0, 0) if whole

    @property
    def is_cut(self) -> bool:
        """True when a part of the object probably lies outside the frame."""
        return self.cut_direction != (0.0, 0.0)


def outline(silhouette: Tensor) -> Outline | None:
    """Moments of a silhouette [H, W] bool, or None when it is (nearly) empty."""
    return outlines(silhouette[None])[0]


def outlines(silhouettes: Tensor) -> list[Outline | None]:
    """`outline` of silhouettes [B, H, W]; a GPU is waited for once."""
    height, width = silhouettes.shape[1:]
    found: list[Outline | None] = []
    for row in torch.stack([_moments(silhouette) for silhouette in silhouettes]).tolist():
        area, x, y, spread, *direction = row
        if area < max(4.0, 1e-4 * height * width):
            found.append(None)
        else:
            scale = math.sqrt(max(spread, 0.25))
            found.append(Outline((x, y), scale, (direction[0], direction[1])))
    return found


def _moments(silhouette: Tensor) -> Tensor:
    """Area, centroid x and y, mean square distance from it, cut direction x and y: [6] float64."""
    (height, width), device = silhouette.shape, silhouette.device
    rows, columns = silhouette.sum(1).float(), silhouette.sum(0).float()
    area = rows.sum().double()
    xs = torch.arange(width, device=device) + 0.5
    ys = torch.arange(height, device=device) + 0.5
    x, y = (columns @ xs).double() / area, (rows @ ys).double() / area
    spread = columns @ (xs - x.float()) ** 2 + rows @ (ys - y.float()) ** 2
    horizontal = _touches(silhouette[:, -1]) - _touches(silhouette[:, 0])
    vertical = _touches(silhouette[-1]) - _touches(silhouette[0])
    return torch.stack([area, x, y, spread.double() / area, horizontal, vertical])


def _touches(border: Tensor) -> Tensor:
    """Whether a border row lies inside of the silhouette, as 0 or 1, [] float64."""
    return (border.float().mean() > _TOUCHING).double()


def planes(image: Tensor, silhouette: Tensor, background: Tensor) -> Tensor:
    """[4, H, W]: colours [3, H, W] minus the background, and the silhouette, both masked by it."""
    mask = silhouette.to(image.dtype)
    return torch.cat([(image - background[:, None, None]) * mask, _MASK_WEIGHT * mask[None]])


def polar_thumbnails(
    stack: Tensor,  # [4, H, W] from `planes`
    centres: Tensor,  # [K, 2] pixels, on the host
    scales: Tensor,  # [K] pixels, on the host
) -> tuple[Tensor, Tensor]:
    """Samples K thumbnails [K, 4, RADII, ANGLES] and where they lie in the frame, as 0 or 1.

    Returns the thumbnails and the validity [K, RADII, ANGLES].
    """
    (height, width), device = stack.shape[1:], stack.device
    factor = max(1, int(float(scales.min()) / _PIXELS_PER_SCALE))
    small = (max(1, height // factor), max(1, width // factor))
    shrunk = stack[None]
    if small != (height, width):
        shrunk = torch.nn.functional.interpolate(shrunk, size=small, mode="area")
    radius = (torch.arange(RADII, device=device) + 0.5) * (REACH / RADII)
    angle = torch.arange(ANGLES, device=device) * (2 * math.pi / ANGLES)
    ring = torch.stack([radius[:, None] * angle.cos(), radius[:, None] * angle.sin()], dim=-1)
    centres, scales = (t.to(device, non_blocking=True) for t in (centres, scales))
    points = centres[:, None, None] + scales[:, None, None, None] * ring  # [K, R, A, 2]
    side = torch.tensor([2.0 / width, 2.0 / height]).to(device, non_blocking=True)
    grid = points * side - 1
    sampled = torch.nn.functional.grid_sample(
        shrunk, grid.reshape(1, -1, ANGLES, 2), align_corners=False, padding_mode="border"
    )
    valid = (grid.abs() <= 1).all(dim=-1).to(stack.dtype)
    thumbnails = sampled[0].reshape(CHANNELS, -1, RADII, ANGLES).transpose(0, 1)
    return thumbnails * valid[:, None], valid


class PolarIndex:
    """Spectra of a gallery's thumbnails, ready to be compared with queries over all rotations."""

    def __init__(
        self,
        thumbnails: Tensor,  # [T, 4, RADII, ANGLES]
        device: torch.device | str = "cpu",  # on which queries will be compared
    ) -> None:
        thumbnails = thumbnails.to(device).float()
        self.count = thumbnails.shape[0]
        self._plain = _spectrum(thumbnails)  # [F, T, 4 * RADII]
        self._square = _spectrum((thumbnails**2).sum(1))  # [F, T, RADII]
        # ring areas, up to a factor
        self._radii = (torch.arange(RADII, device=thumbnails.device) + 0.5) / RADII

    def similarities(self, thumbnails: Tensor, valid: Tensor) -> Tensor:
        """1 - normalised squared distance at every rotation, [K, T, ANGLES].

        thumbnails [K, 4, RADII, ANGLES], valid [K, RADII, ANGLES]. Entry [k, t, a] compares query
        k with gallery item t turned by a * 360 / ANGLES degrees from x towards y.
        """
        weights = self._radii[:, None] * valid  # [K, R, A]
        cross = self._correlate(thumbnails * weights[:, None], self._plain)
        own = (thumbnails**2 * weights[:, None]).sum((1, 2, 3))[:, None, None]
        theirs = self._correlate(weights, self._square)
        share = (weights.sum((1, 2)) / (self._radii.sum() * ANGLES))[:, None, None]
        return 2 * cross / (own + theirs).clamp_min(1e-6) * share.clamp_max(1).sqrt()

    def _correlate(self, query: Tensor, spectra: Tensor) -> Tensor:
        product = torch.matmul(_spectrum(query), spectra.conj().transpose(1, 2))  # [F, K, T]
        full = torch.nn.functional.pad(product.permute(1, 2, 0), (0, ANGLES // 2 + 1 - _HARMONICS))
        return torch.fft.irfft(full, n=ANGLES, dim=-1)


def _spectrum(samples: Tensor) -> Tensor:
    """Angular harmonics [F, B, features] of [B, ..., ANGLES]."""
    spectrum = torch.fft.rfft(samples, dim=-1)[..., :_HARMONICS]
    return spectrum.flatten(1, -2).permute(2, 0, 1).contiguous()

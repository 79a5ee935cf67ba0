"""What viewer.js draws, as one JSON document: quantised Gaussians, cameras, layers, markers.

Fields of the document (lists are JSON arrays, bytes are base64, numbers little-endian):

    version     1
    count       N Gaussians
    gaussians   26 N bytes, one block after the other: centres uint16 [N, 3], log scales uint8
                [N, 3], quaternions wxyz int8 [N, 4], opacities uint8 [N], colours uint8 [N, 3] and
                spherical harmonics of degree 1 int8 [N, 3 coefficients, 3 channels]
    ranges      what the smallest and largest numbers stand for: low and high [3] of the centres,
                log_scales and colours [2], sh the largest absolute coefficient
    background  [3] RGB, 0 to 1
    camera      lens of all cameras: fx fy cx cy width height (pixels)
    centre, radius   of the object
    start       pose where the view begins, with the object large in the middle: the 12 numbers of
                [R | t], world to camera, row by row
    train       [{name, pose}]
    images      [{name, pose, heat}]; heat holds 4 bytes for each Gaussian that differs there:
                its number (24 bits) and its value as in a layer; null without one
    heat        {low, high, stops} of the images' heat
    layers      [{name, title, low, high, data, stops, fade}]; data: uint8 [N], 0 to 254 from low
                to high, 255: not seen; stops: RGBA colours, 0 to 1, from low to high (null: heat);
                fade: how far the object's own colours turn grey, 0 to 1
    markers     [{position [3], facing [3] (from where it is seen) or null, title, image}]
    hidden      Gaussians that were left out, where there are very many

All places are in the model's frame. A station page uses the same class with layers of its own.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gaussian_renderer import C0
from scene import Camera, Gaussians, printable
from scene.world import common_point

VERSION = 1
UNSEEN = 255  # value of a layer where nothing is known
_TOP = UNSEEN - 1
_MOST = 120_000  # Gaussians; a phone still turns so many
_TAIL = 0.001  # share of numbers beyond each end of a range, which are held at the end
_DIGITS = 5
_ROOM = 1.1  # times the object's radius fits between the middle of the view and its edge
Stops = Sequence[tuple[float, float, float, float]]  # RGBA, 0 to 1
HEAT: Stops = ((1.0, 0.93, 0.55, 0.0), (1.0, 0.78, 0.2, 0.75), (0.96, 0.35, 0.1, 1.0),
               (0.75, 0.0, 0.2, 1.0), (0.42, 0.0, 0.33, 1.0))  # fmt: skip
SEEN: Stops = ((0.27, 0.0, 0.33, 0.9), (0.19, 0.41, 0.56, 0.9), (0.21, 0.72, 0.47, 0.9),
               (0.99, 0.91, 0.14, 0.9))  # fmt: skip


@dataclass
class ViewerData:
    """Gathers what the viewer draws; see the head of this file."""

    gaussians: Gaussians
    camera: Camera  # the lens; the view begins from its side
    background: Sequence[float]  # [3] RGB, 0 to 1
    heat_range: tuple[float, float] = (0.0, 1.0)  # of the images' heat
    train: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)
    markers: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gaussians = self.gaussians.detach().map(lambda t: t.cpu().float())
        self.kept = _strongest(self.gaussians)

    def add_train(self, name: str, world_to_camera: Tensor) -> None:
        """A train view, shown as a frustum; its pose is [4, 4]."""
        self.train.append({"name": printable(name), "pose": _pose(world_to_camera)})

    def add_image(self, name: str, world_to_camera: Tensor, values: Tensor | None = None) -> int:
        """A query with its values [N] on the Gaussians (NaN: not seen); its number."""
        heat = None if values is None else self._sparse(values)
        self.images.append({"name": printable(name), "pose": _pose(world_to_camera), "heat": heat})
        return len(self.images) - 1

    def add_layer(
        self, name: str, title: str, values: Tensor, limits: tuple[float, float],
        stops: Stops | None = None, fade: float = 1.0,
    ) -> None:  # fmt: skip
        """A colouring: `values` [N], NaN where nothing is known, from low to high `limits`."""
        data = _levels(values, *limits)[self.kept.numpy()]
        self.layers.append({
            "name": name, "title": title, "low": limits[0], "high": limits[1],
            "data": _base64(data), "stops": None if stops is None else [list(s) for s in stops],
            "fade": fade,
        })  # fmt: skip

    def add_marker(
        self, position: Sequence[float], title: str, image: int | None = None,
        facing: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        """A place [3] of a defect; `image` shows it from the direction `facing` [3]."""
        self.markers.append({
            "position": _rounded(position), "title": printable(title), "image": image,
            "facing": None if facing is None else _rounded(facing),
        })  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """The document."""
        content, ranges = _quantised(self.gaussians.map(lambda t: t[self.kept]))
        poses = [_matrix(view["pose"]) for view in self.train] or [self.camera.world_to_camera]
        centre, radius = _extent(self.gaussians, [self.camera.at(pose) for pose in poses])
        lens = ("fx", "fy", "cx", "cy", "width", "height")
        return {
            "version": VERSION,
            "count": len(self.kept),
            "gaussians": _base64(content),
            "ranges": ranges,
            "background": [float(value) for value in self.background],
            "camera": {name: getattr(self.camera, name) for name in lens},
            "centre": centre,
            "radius": radius,
            "start": _pose(_nearer(self.camera, centre, radius)),
            "train": self.train,
            "images": self.images,
            "heat": {"low": self.heat_range[0], "high": self.heat_range[1], "stops": HEAT},
            "layers": self.layers,
            "markers": self.markers,
            "hidden": len(self.gaussians) - len(self.kept),
        }

    def _sparse(self, values: Tensor) -> str:
        """The Gaussians that differ, by their place in the document, as base64."""
        levels = _levels(values, *self.heat_range)[self.kept.numpy()]
        (numbers,) = np.nonzero((levels > 0) & (levels != UNSEEN))
        packed = numbers.astype("<u4") | (levels[numbers].astype("<u4") << 24)
        return _base64(packed)


def in_anomaly_colours(
    gaussians: Gaussians,
    values: Tensor,  # [N], NaN where nothing is known
    limits: tuple[float, float],  # values of the coldest and the hottest colour
) -> Gaussians:
    """The Gaussians with one colour each: their own turned greyer, under the heat of the values."""
    own = (0.5 + C0 * gaussians.sh[:, 0].detach().cpu()).clamp(0, 1)
    grey = own @ torch.tensor([0.3, 0.6, 0.1])
    low, high = limits
    share = ((values.float().nan_to_num(nan=low) - low) / max(high - low, 1e-12)).clamp(0, 1)
    knots = np.linspace(0, 1, len(HEAT))
    hue = torch.from_numpy(
        np.stack([np.interp(share.numpy(), knots, column) for column in zip(*HEAT, strict=True)], 1)
    ).float()
    mixed = torch.lerp(0.5 * own + 0.5 * grey[:, None], hue[:, :3], hue[:, 3:])
    coloured = gaussians.detach().map(lambda t: t.cpu())
    return replace(coloured, sh=((mixed - 0.5) / C0)[:, None])


def _strongest(gaussians: Gaussians) -> Tensor:
    """Rows of the Gaussians that are drawn, ascending: of very many those that cover most."""
    scales = gaussians.scales.sort(dim=1).values
    cover = gaussians.opacities * scales[:, 1] * scales[:, 2]
    return cover.topk(min(_MOST, len(cover))).indices.sort().values


def _quantised(gaussians: Gaussians) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """The bytes of all Gaussians, and what their numbers stand for."""
    low, high = gaussians.means.amin(dim=0), gaussians.means.amax(dim=0)
    share = (gaussians.means - low) / (high - low).clamp_min(1e-12)
    colours = 0.5 + C0 * gaussians.sh[:, 0]
    slopes = gaussians.sh[:, 1:4]
    if slopes.shape[1] < 3:  # degree 0
        slopes = torch.zeros(len(gaussians), 3, 3)
    ends = {"log_scales": _ends(gaussians.log_scales), "colours": _ends(colours)}
    largest = max(abs(end) for end in _ends(slopes)) or 1.0
    blocks = (
        (share * 65535).round().numpy().astype("<u2"),
        _between(gaussians.log_scales, *ends["log_scales"]),
        (gaussians.rotations * 127).round().numpy().astype(np.int8),
        (gaussians.opacities * 255).round().numpy().astype(np.uint8),
        _between(colours, *ends["colours"]),
        (slopes / largest).clamp(-1, 1).mul(127).round().numpy().astype(np.int8),
    )
    content = np.concatenate([np.frombuffer(block.tobytes(), np.uint8) for block in blocks])
    ranges = {"low": low.tolist(), "high": high.tolist(), "sh": largest}
    return content, ranges | {name: list(pair) for name, pair in ends.items()}


def _ends(values: Tensor) -> tuple[float, float]:
    """Range of values without their tails."""
    ordered = values.flatten().sort().values
    cut = int(_TAIL * len(ordered))
    return float(ordered[cut]), float(ordered[-1 - cut])


def _between(values: Tensor, low: float, high: float) -> NDArray[np.uint8]:
    """0 at low, 255 at high."""
    share = ((values - low) / max(high - low, 1e-12)).clamp(0, 1)
    return (share * 255).round().numpy().astype(np.uint8)


def _levels(values: Tensor, low: float, high: float) -> NDArray[np.uint8]:
    """Values [N] as a layer keeps them: 0 at low, 254 at high, 255 where they are NaN."""
    known = values.detach().cpu().float()
    share = ((known.nan_to_num(nan=low) - low) / max(high - low, 1e-12)).clamp(0, 1)
    levels = torch.where(known.isnan(), torch.tensor(float(UNSEEN)), (share * _TOP).round())
    return levels.numpy().astype(np.uint8)


def _extent(gaussians: Gaussians, cameras: Sequence[Camera]) -> tuple[list[float], float]:
    """Centre [3] and radius of the object: of what lies between the cameras."""
    means, solid = gaussians.means, gaussians.opacities > 0.5
    means = means[solid] if solid.any() else means
    focus = common_point(cameras) if len(cameras) > 1 else None
    if focus is not None:
        distance = float(torch.stack([(c.centre - focus).norm() for c in cameras]).median())
        near = means[(means - focus.to(means)).norm(dim=1) < 0.8 * distance]
        means = near if len(near) else means
    centre = 0.5 * (means.quantile(0.02, dim=0) + means.quantile(0.98, dim=0))
    reach = (means - centre).norm(dim=1).sort().values
    return _rounded(centre.tolist()), max(float(reach[int(0.98 * (len(reach) - 1))]), 1e-6)


def _nearer(camera: Camera, centre: Sequence[float], radius: float) -> Tensor:
    """World to camera [4, 4] seen from the same side, the object large in the middle."""
    pose = camera.world_to_camera.clone()
    wide = max(2 * camera.fx / camera.width, 2 * camera.fy / camera.height)
    middle = torch.tensor([0.0, 0.0, _ROOM * radius * wide], dtype=pose.dtype)
    pose[:3, 3] = middle - pose[:3, :3] @ torch.tensor(centre, dtype=pose.dtype)
    return pose


def _pose(world_to_camera: Tensor) -> list[float]:
    """The 12 numbers of [R | t]."""
    return [round(value, 7) for value in world_to_camera[:3].flatten().tolist()]


def _matrix(pose: Sequence[float]) -> Tensor:
    """World to camera [4, 4] float64 of 12 numbers."""
    last = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    return torch.cat([torch.tensor(pose, dtype=torch.float64).reshape(3, 4), last])


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]


def _base64(values: NDArray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")

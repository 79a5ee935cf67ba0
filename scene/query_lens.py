"""A query's own camera: its images as the model's camera would have taken them from the same place.

A pinhole camera that keeps its place may change its focal length, its size and its principal point
by a homography, whatever the scene; distortion is undone on the way. What the query's camera did
not see stays unknown.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .camera import Camera
from .decode import check_aspect
from .distortion import Distortion, Values
from .errors import InputError

_FINE = 2  # samples a pixel of the model and axis, before they are averaged
_RADII = 400  # places at which it is looked whether the distortion folds rays over


@dataclass(frozen=True)
class QueryLens:
    """Intrinsics and distortion of the camera of queries, in shares of the image's sides."""

    lens: Distortion
    size: tuple[int, int]  # width, height, pixels: that of the file, and its aspect is the images'
    model: Camera  # lens and size of the train views
    source: str  # where this is known from

    def __post_init__(self) -> None:
        seen = self.seen()
        middle = seen[int(self.model.height / 2), int(self.model.width / 2)]
        if not bool(middle) or float(seen.float().mean()) < 0.02:
            raise InputError(
                f"{self.source}: such a camera sees next to nothing of what the model's camera "
                f"does (focal length {self.model.fx:.0f} of {self.model.width} pixels): correct it."
            )

    def check(self, found: tuple[int, int], path: Path) -> None:
        """Raises InputError for an image of another aspect than the camera's."""
        try:
            check_aspect(found, self.size, path)
        except InputError as error:
            raise InputError(f"{error} The camera is that of {self.source}.") from None

    def undone(
        self, channels: NDArray[np.float32], wanted: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """Channels [C, h, w] of a query, any size, as the model's camera sees them.

        [C, 2 H, 2 W] for the model's H and W; beyond the query's border its last pixels go on.
        """
        import cv2  # 0.3 s to import

        height, width = channels.shape[1:]
        for side, (focal, ours) in enumerate(
            zip(self.lens.focal, (self.model.fx, self.model.fy), strict=True)
        ):
            scale = _FINE * ours / (focal * (width, height)[side])
            if scale < 1:
                reduced = max(1, round((width, height)[side] * scale))
                width, height = (reduced, height) if side == 0 else (width, reduced)
        if (height, width) != channels.shape[1:]:
            channels = np.stack(
                [cv2.resize(c, (width, height), interpolation=cv2.INTER_AREA) for c in channels]
            )
        x, y, _ = self._places(_FINE)
        across, down = (x * width - 0.5).astype(np.float32), (y * height - 0.5).astype(np.float32)
        straight = [
            cv2.remap(channel, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            for channel in channels
        ]
        return np.stack(straight).clip(0.0, 1.0)

    def seen(self) -> Tensor:
        """Which pixels of the model's camera the query shows, [H, W] bool."""
        x, y, unfolded = self._places(1)
        inside = (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
        return torch.from_numpy(inside & unfolded)

    @property
    def text(self) -> str:
        """What queries are taken to be, one sentence."""
        width, height = self.size
        focal = self.lens.focal[0] * width
        bent = "" if not any(self.lens.radial + self.lens.tangential) else ", distortion undone"
        return (
            f"queries are taken to be of the camera of {self.source}: focal length {focal:.0f} at "
            f"{width} x {height} pixels, {focal * self.model.width / width / self.model.fx:.2f} "
            f"times the train views'{bent}; maps are in the train views' camera"
        )

    def _places(self, fine: int) -> tuple[Values, Values, NDArray[np.bool_]]:
        """Where the model's pixels lie in the query, in shares, and where no ray is folded over."""
        model = self.model
        columns = (np.arange(model.width * fine) + 0.5) / fine
        rows = (np.arange(model.height * fine) + 0.5) / fine
        x, y = np.meshgrid((columns - model.cx) / model.fx, (rows - model.cy) / model.fy)
        squared = x * x + y * y
        radii = np.linspace(0.0, float(np.sqrt(squared.max())), _RADII)
        folds = np.diff(radii * self.lens.factor(radii**2)) <= 0
        limit = radii[int(folds.argmax())] if folds.any() else np.inf
        return *self.lens.bent(x, y), squared <= limit**2

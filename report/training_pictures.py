"""Pictures of a model that is being trained: train view | rendering | difference, a row a view."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera, Gaussians, atomic_write

from .overlay import encode_jpeg

_ROWS = 3  # views, evenly spread over the capture
_GAIN = 4.0  # of the difference: a quarter of the range is white


@dataclass(frozen=True)
class TrainingPictures:
    """Writes a picture every so many iterations; what is trained is not touched."""

    folder: Path
    every: int  # iterations
    cameras: Sequence[Camera]  # of the train views
    images: Sequence[Tensor]  # [3, H, W] uint8, of the same views
    renderer: Callable[[Gaussians], ObjectRenderer]

    def is_due(self, iteration: int, last: int) -> bool:
        """Whether this iteration is one to show: every n-th, and the last."""
        return iteration % self.every == 0 or iteration == last

    @torch.no_grad()
    def write(self, iteration: int, gaussians: Gaussians) -> Path:
        """Writes iteration_<number>.jpg. Raises InputError when the disk is full."""
        model = self.renderer(gaussians.detach())
        count = len(self.cameras)
        rows = [self._row(model, k * count // _ROWS) for k in range(min(_ROWS, count))]
        width = max(row.shape[1] for row in rows)
        rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        path = self.folder / f"iteration_{iteration:06d}.jpg"
        with atomic_write(path) as file:
            file.write(encode_jpeg(np.concatenate(rows)))
        return path

    def _row(self, model: ObjectRenderer, number: int) -> NDArray[np.uint8]:
        """One view, [H, 3 W, 3]."""
        target = self.images[number].cpu().float() / 255
        shown = model(self.cameras[number]).image.cpu().clamp(0.0, 1.0)
        difference = ((shown - target).abs() * _GAIN).clamp(0.0, 1.0)
        panels = torch.cat([target, shown, difference], dim=2)
        values = panels.mul(255).round().permute(1, 2, 0).numpy().astype(np.uint8)
        return np.ascontiguousarray(values)


def newest_picture(folder: Path) -> Path | None:
    """The last one that was written; None where there is none."""
    return max(folder.glob("iteration_*.jpg"), default=None)

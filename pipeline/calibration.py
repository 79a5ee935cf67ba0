"""What calibrate.py leaves in a model folder: what is known of good images, and those images."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anomaly import ScoreDistribution, Scorer
from pose_estimation import PoseCheck
from scene import Camera, atomic_write

VERSION = 6  # raised when what calibrate.py writes changes: it renews older ones
UNSEALED = 5  # of a version that is still read; its values carry no hash


@dataclass(frozen=True)
class Calibration:
    """What is known of good images; empty where too few views were held out, or found again."""

    pose_check: PoseCheck | None = None  # None: poses are not checked
    pose_shift: float | None = None  # pixels, median, between input and estimated poses
    scores: dict[str, ScoreDistribution] = field(default_factory=dict)  # by what is compared
    unfit: str = ""  # why the model can be no measure, one sentence; then there are no scores
    good: str = ""  # folder of the photographs of good parts that it stands on (--good)
    pooled: dict[str, ScoreDistribution] = field(default_factory=dict)  # of all folds alone
    left_out: tuple[str, ...] = ()  # views at wrong poses, which none of this rests on

    def as_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            "version": VERSION,
            "pose_check": None if self.pose_check is None else self.pose_check.as_json(),
            "pose_shift": self.pose_shift,
            "scores": {name: scores.to_dict() for name, scores in self.scores.items()},
            "good": self.good,
            "pooled": {name: scores.to_dict() for name, scores in self.pooled.items()},
        } | {
            name: value
            for name, value in (("unfit", self.unfit), ("left_out", list(self.left_out)))
            if value
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Calibration":
        """The opposite of `as_json`. Raises KeyError, TypeError, ValueError or InputError."""
        check, scores = values["pose_check"], values["scores"]
        return cls(
            None if check is None else PoseCheck.from_json(check),
            values["pose_shift"],
            {name: ScoreDistribution.from_dict(each) for name, each in scores.items()},
            values.get("unfit", ""),
            str(values.get("good", "")),
            {n: ScoreDistribution.from_dict(each) for n, each in values.get("pooled", {}).items()},
            tuple(map(str, values.get("left_out", ()))),
        )


@dataclass(frozen=True)
class CalibrationViews:
    """Good images at the poses that were found: held-out views, then photographs.

    With them any scorer can be calibrated, also one that is first asked for at detection.
    """

    images: list[Tensor]  # uint8 [3, H, W] each
    cameras: list[Camera]  # at the estimated poses
    photographs: int = 0  # the last so many come from calibrate.py --good

    def __len__(self) -> int:
        return len(self.images)

    def scores(self, scorer: Scorer) -> list[float]:
        """What a scorer gives each of them."""
        device = scorer.model.gaussians.means.device
        return [
            float(scorer(image.to(device).float().div(255), camera).score)
            for image, camera in zip(self.images, self.cameras, strict=True)
        ]

    def save(self, path: Path) -> None:
        """Writes one .npz file, atomically."""
        cameras = self.cameras
        arrays = {
            "pixels": torch.cat([i.flatten() for i in self.images]).numpy(),  # of any sizes
            "world_to_camera": torch.stack([c.world_to_camera for c in cameras]).numpy(),
            "lenses": np.array([[c.fx, c.fy, c.cx, c.cy, c.width, c.height] for c in cameras]),
            "photographs": np.array(self.photographs),
        }
        with atomic_write(path) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "CalibrationViews":
        """What `save` wrote. Raises OSError, KeyError or ValueError when it is damaged."""
        with np.load(path, allow_pickle=False) as archive:
            poses = torch.from_numpy(archive["world_to_camera"])
            cameras = [
                Camera(pose, fx, fy, cx, cy, int(width), int(height))
                for pose, (fx, fy, cx, cy, width, height) in zip(
                    poses, archive["lenses"].tolist(), strict=True
                )
            ]
            sizes = [3 * camera.height * camera.width for camera in cameras]
            images = [
                pixels.reshape(3, camera.height, camera.width)
                for pixels, camera in zip(
                    torch.from_numpy(archive["pixels"]).split(sizes), cameras, strict=True
                )
            ]
            return cls(images, cameras, int(archive["photographs"]))

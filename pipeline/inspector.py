"""One query, from its file to its score. The model is read once."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from pose_estimation import (
    Gallery,
    MatcherName,
    PoseEstimate,
    PoseSettings,
    estimate_pose,
    select_matcher,
)
from scene import Camera, Gaussians, InputError, image_size, read_image

from .scoring import Scorer


@dataclass(frozen=True)
class Inspection:
    """What was found in one query."""

    image: Tensor  # [3, H, W] the query as it was compared
    rendering: Tensor  # [3, H, W] the defect-free object at the estimated pose
    anomaly_map: Tensor  # [H, W]
    score: float
    pose: PoseEstimate
    seconds: dict[str, float] = field(default_factory=dict)  # coarse, refine, score, total


class Inspector:
    """Everything needed to judge queries of one object."""

    def __init__(
        self,
        gaussians: Gaussians,
        camera: Camera,  # lens and size of the train views
        background: Tensor,  # [3]
        gallery: Gallery,
        scorer: Scorer,
        matcher: MatcherName = "auto",
        settings: PoseSettings | None = None,
        weights: Path | None = None,
    ) -> None:
        self.settings = settings or PoseSettings()
        self.gaussians, self.camera, self.background = gaussians, camera, background
        self.scorer = scorer
        selection = select_matcher(
            matcher, gallery, gaussians, weights=weights,
            backend=self.settings.backend, threads=self.settings.threads,
        )  # fmt: skip
        self.matcher, self.notes = selection.matcher, [selection.reason] if selection.reason else []

    def read(self, path: Path) -> tuple[Tensor, Camera]:
        """A query at the size of the model, and its lens.

        A query of another size but the same aspect is taken to show the same field of view.
        Raises InputError if the file cannot be read or has another aspect.
        """
        width, height = image_size(path)
        camera = self.camera
        if abs(width * camera.height - height * camera.width) > max(width, height):
            raise InputError(
                f"'{path}' is {width} x {height}, the model was trained on "
                f"{camera.width} x {camera.height}: crop the image to that aspect"
            )
        background = tuple(self.background.tolist())
        return read_image(path, (camera.width, camera.height), background), camera

    def inspect(self, path: Path) -> Inspection:
        """Pose, rendering, anomaly map and score of one image file. Raises InputError."""
        started = time.perf_counter()
        image, camera = self.read(path)
        image = image.to(self.gaussians.means)
        hypotheses = self.matcher.coarse_poses(image, camera)
        coarse_done = time.perf_counter()
        pose = estimate_pose(
            self.gaussians, camera, image, hypotheses, self.background, self.settings
        )
        refine_done = time.perf_counter()
        with torch.no_grad():
            rendering, anomaly_map, score = self.scorer(image, camera.at(pose.world_to_camera))
        ended = time.perf_counter()
        seconds = {
            "coarse": coarse_done - started,
            "refine": refine_done - coarse_done,
            "score": ended - refine_done,
            "total": ended - started,
        }
        return Inspection(image, rendering, anomaly_map, score, pose, seconds)

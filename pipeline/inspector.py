"""Queries, from their files to their scores. The model is read once."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from anomaly import background_gains
from gaussian_renderer.object_renderer import ObjectRenderer
from pose_estimation import (
    Appearance,
    Gallery,
    Hypothesis,
    MatcherName,
    PoseCheck,
    PoseEstimate,
    PoseSettings,
    estimate_pose,
    estimate_poses,
    select_matcher,
)
from scene import Camera, InputError, image_size, read_image

from .light import in_known_light
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
        model: ObjectRenderer,
        camera: Camera,  # lens and size of the train views
        gallery: Gallery,
        scorer: Scorer,
        matcher: MatcherName = "auto",
        settings: PoseSettings | None = None,  # backend and threads are those of the model
        weights: Path | None = None,
        pose_check: PoseCheck | None = None,  # None: poses are not judged
        appearance: Appearance | None = None,  # what is known of the object's residuals
    ) -> None:
        self.settings = replace(
            settings or PoseSettings(), backend=model.backend, threads=model.threads
        )
        self.model, self.camera, self.scorer = model, camera, scorer
        self.pose_check, self.appearance = pose_check, appearance
        selection = select_matcher(
            matcher, gallery, model.gaussians, weights=weights,
            backend=model.backend, threads=model.threads,
        )  # fmt: skip
        self.matcher, self.notes = selection.matcher, [selection.reason] if selection.reason else []

    def read(self, path: Path) -> tuple[Tensor, Camera]:
        """A query at the size of the model, and its lens.

        A query of another size but the same aspect is taken to show the same field of view. One in
        which the plain background has another colour (exposure, white balance) is brought back to
        that of the train views, which silhouettes and poses rest on.
        Raises InputError if the file cannot be read or has another aspect.
        """
        width, height = image_size(path)
        camera = self.camera
        if abs(width * camera.height - height * camera.width) > max(width, height):
            raise InputError(
                f"'{path}' is {width} x {height}, the model was trained on "
                f"{camera.width} x {camera.height}: crop the image to that aspect"
            )
        background = tuple(self.model.background.tolist())
        image = read_image(path, (camera.width, camera.height), background)
        gains = background_gains(image, self.model.background)
        return (image * gains[:, None, None]).clamp(0.0, 1.0), camera

    def locate(self, image: Tensor, camera: Camera) -> PoseEstimate:
        """Pose of the camera that took a query [3, H, W] through the lens of `camera`."""
        started = time.perf_counter()
        hypotheses = self.matcher.coarse_poses(image, camera)
        coarse = time.perf_counter() - started
        pose = estimate_pose(
            self.model.gaussians, camera, image, hypotheses, self.model.background,
            self.settings, self.pose_check, self.appearance,
        )  # fmt: skip
        return replace(pose, seconds=pose.seconds | {"coarse": coarse})

    def inspect(self, path: Path) -> Inspection:
        """Pose, rendering, anomaly map and score of one image file. Raises InputError."""
        started = time.perf_counter()
        image, camera = self.read(path)
        image = image.to(self.model.gaussians.means)
        read = time.perf_counter() - started
        pose = self._doubtful_again(image, camera, self.locate(image, camera))
        return self._judge(image, camera, pose, read + pose.seconds["coarse"])

    def inspect_many(self, paths: Sequence[Path]) -> list[Inspection | InputError]:
        """`inspect` for several files, whose poses are refined in lock step.

        In the place of a file that cannot be judged stands what `inspect` would raise. The seconds
        of the refinement are equal shares of those of the batch.
        """
        opened: dict[int, tuple[Tensor, Camera, list[Hypothesis], float]] = {}
        results: dict[int, Inspection | InputError] = {}
        for number, path in enumerate(paths):
            started = time.perf_counter()
            try:
                image, camera = self.read(path)
                image = image.to(self.model.gaussians.means)
                hypotheses = self.matcher.coarse_poses(image, camera)
            except InputError as error:
                results[number] = error
            else:
                opened[number] = image, camera, hypotheses, time.perf_counter() - started
        try:
            poses = self._locate_many([query[0] for query in opened.values()],
                                      [query[2] for query in opened.values()])  # fmt: skip
        except InputError as error:
            results |= dict.fromkeys(opened, error)
        else:
            for (number, (image, camera, _, coarse)), pose in zip(
                opened.items(), poses, strict=True
            ):
                pose = self._doubtful_again(image, camera, pose)
                coarse += pose.seconds.get("coarse", 0.0)
                results[number] = self._judge(image, camera, pose, coarse)
        return [results[number] for number in range(len(paths))]

    def _doubtful_again(self, image: Tensor, camera: Camera, pose: PoseEstimate) -> PoseEstimate:
        """A pose that is not trusted, searched once more in the light of the train views.

        A brighter or darker object does not fit anywhere. The better of both is returned.
        """
        if pose.pose_ok is not False:
            return pose
        rendering = self.model(camera.at(pose.world_to_camera))
        changed = in_known_light(image, rendering, self.model.background)
        if changed is None:
            return pose
        again = self.locate(changed, camera)
        spent = {
            stage: pose.seconds.get(stage, 0.0) + again.seconds[stage] for stage in again.seconds
        }
        return replace(again if again.pose_ok else pose, seconds=spent)

    def _locate_many(
        self, images: list[Tensor], hypotheses: list[list[Hypothesis]]
    ) -> list[PoseEstimate]:
        return estimate_poses(
            self.model.gaussians, self.camera, images, hypotheses, self.model.background,
            self.settings, self.pose_check, self.appearance,
        )  # fmt: skip

    def _judge(
        self, image: Tensor, camera: Camera, pose: PoseEstimate, coarse: float
    ) -> Inspection:
        """Compares a query with the object at its pose."""
        started = time.perf_counter()
        with torch.no_grad():
            rendering, anomaly_map, score = self.scorer(image, camera.at(pose.world_to_camera))
        seconds = {
            "coarse": coarse,
            "refine": pose.seconds["refine"],
            "score": time.perf_counter() - started,
        }
        seconds["total"] = sum(seconds.values())
        return Inspection(image, rendering, anomaly_map, score, pose, seconds)

"""Queries, from their files to their scores. The model is read once.

Several queries go through every stage together; one query is a batch of one.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from anomaly import background_gains
from anomaly.light import in_known_light
from anomaly.scoring import Scorer
from gaussian_renderer.batch import renders_many
from gaussian_renderer.object_renderer import ObjectRenderer
from pose_estimation import (
    Appearance,
    Gallery,
    MatcherName,
    PoseCheck,
    PoseEstimate,
    PoseSettings,
    estimate_poses,
    select_matcher,
)
from scene import Camera, InputError, image_size, read_image

from .transfer import to_host

_READERS = 4  # threads that decode files
_VALUES_AT_ONCE = 2**22  # pixels, or Gaussians, of queries compared in one go: bounds the memory


@dataclass(frozen=True)
class Inspection:
    """What was found in one query; tensors on the CPU."""

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
        self._background = model.background.cpu()
        size = max(camera.width * camera.height, len(model.gaussians))
        together = renders_many(model.backend, model.gaussians.means.device)
        self._at_once = max(1, _VALUES_AT_ONCE // size) if together else 1
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
        red, green, blue = self._background.tolist()
        image = read_image(path, (camera.width, camera.height), (red, green, blue))
        gains = background_gains(image, self._background)
        return (image * gains[:, None, None]).clamp(0.0, 1.0), camera

    def locate(self, image: Tensor, camera: Camera) -> PoseEstimate:
        """Pose of the camera that took a query [3, H, W] through the lens of `camera`."""
        return self.locate_many(image[None], camera)[0]

    def locate_many(self, images: Tensor, camera: Camera) -> list[PoseEstimate]:
        """`locate` for B queries [B, 3, H, W]; the seconds are equal shares of the batch's."""
        started = time.perf_counter()
        hypotheses = self.matcher.coarse_poses_many(images, camera)
        coarse = (time.perf_counter() - started) / len(images)
        poses = estimate_poses(
            self.model.gaussians, camera, list(images), hypotheses, self.model.background,
            self.settings, self.pose_check, self.appearance,
        )  # fmt: skip
        return [replace(pose, seconds=pose.seconds | {"coarse": coarse}) for pose in poses]

    def inspect(self, path: Path) -> Inspection:
        """Pose, rendering, anomaly map and score of one image file. Raises InputError."""
        (found,) = self.inspect_many([path])
        if isinstance(found, InputError):
            raise found
        return found

    def inspect_many(self, paths: Sequence[Path]) -> list[Inspection | InputError]:
        """`inspect` for several files, which go through every stage together.

        In the place of a file that cannot be judged stands what `inspect` would raise. The seconds
        are equal shares of those of the batch.
        """
        started = time.perf_counter()
        with ThreadPoolExecutor(_READERS) as pool:
            opened = list(pool.map(self._try_to_read, paths))
        read = (time.perf_counter() - started) / max(1, len(paths))
        images = [image for image in opened if isinstance(image, Tensor)]
        judged: Iterator[Inspection | InputError]
        try:
            judged = iter(self._judge(images, read))
        except InputError as error:
            judged = itertools.repeat(error)
        return [next(judged) if isinstance(image, Tensor) else image for image in opened]

    def _try_to_read(self, path: Path) -> Tensor | InputError:
        """What `read` gives, or raises."""
        try:
            return self.read(path)[0]
        except InputError as error:
            return error

    def _judge(self, opened: Sequence[Tensor], read: float) -> list[Inspection]:
        """Poses, maps and scores of pictures [3, H, W] that took `read` seconds each to read."""
        if not opened:
            return []
        images = torch.stack(list(opened)).to(self.model.gaussians.means, non_blocking=True)
        poses = self._doubtful_again(images, self.locate_many(images, self.camera))
        found: list[Inspection] = []
        for start in range(0, len(images), self._at_once):
            chunk = slice(start, start + self._at_once)
            found += self._compare(images[chunk], poses[chunk], read)
        return found

    def _doubtful_again(self, images: Tensor, poses: list[PoseEstimate]) -> list[PoseEstimate]:
        """Poses that are not trusted, searched once more in the light of the train views.

        A brighter or darker object does not fit anywhere. The better of both is returned.
        """
        doubtful = [number for number, pose in enumerate(poses) if pose.pose_ok is False]
        if not doubtful:
            return poses
        camera = self.camera.at(torch.stack([poses[n].world_to_camera for n in doubtful]))
        changed, explained = in_known_light(
            torch.stack([images[n] for n in doubtful]), self.model.views(camera),
            self.model.background,
        )  # fmt: skip
        chosen = [place for place, is_light in enumerate(explained.tolist()) if is_light]
        if not chosen:
            return poses
        poses = list(poses)
        again = self.locate_many(torch.stack([changed[place] for place in chosen]), self.camera)
        for place, second in zip(chosen, again, strict=True):
            first = poses[doubtful[place]]
            spent = {stage: first.seconds[stage] + second.seconds[stage] for stage in first.seconds}
            better = second if second.pose_ok else first
            poses[doubtful[place]] = replace(better, seconds=spent)
        return poses

    @torch.no_grad()
    def _compare(
        self, images: Tensor, poses: Sequence[PoseEstimate], read: float
    ) -> list[Inspection]:
        """Compares queries with the object at their poses; the device is waited for at the end."""
        started = time.perf_counter()
        camera = self.camera.at(torch.stack([pose.world_to_camera for pose in poses]))
        parts = to_host([images, *self.scorer(images, camera)])
        score = (time.perf_counter() - started) / len(poses)
        found = []
        for pose, image, rendering, anomaly_map, value in zip(poses, *parts, strict=True):
            seconds = {
                "coarse": read + pose.seconds["coarse"],
                "refine": pose.seconds["refine"],
                "score": score,
            }
            seconds["total"] = sum(seconds.values())
            found.append(Inspection(image, rendering, anomaly_map, float(value), pose, seconds))
        return found

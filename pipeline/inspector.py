"""Queries, from their files to their verdicts. The model is read once.

Several queries go through every stage together; one query is a batch of one.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anomaly import (
    ScoreDistribution,
    Scorer,
    Threshold,
    background_gains,
    find_regions,
    in_known_light,
    region_positions,
)
from gaussian_renderer import ObjectRenderer, renders_many
from pose_estimation import (
    ExpectedResidual,
    Matcher,
    PoseCheck,
    PoseEstimate,
    PoseSettings,
    estimate_poses,
)
from scene import Camera, Distortion, InputError, World, read_image
from scene.decode import Header, read_header

_READERS = 4  # threads that decode files
_VALUES_AT_ONCE = 2**22  # pixels, or Gaussians, of queries compared in one go: bounds the memory
_NEAR, _BEHIND = 8 / 255, 0.4  # colours so near, of so much of the border: the plain background
_ONE_COLOUR = 4 / 255  # between the darkest and the brightest pixel of an image of nothing
_SMALLEST_REGION = 9  # pixels; smaller specks are not listed


@dataclass(frozen=True)
class OtherPose:
    """A pose that fits an image as well as the one it was inspected at: the object is symmetric."""

    world_to_camera: Tensor  # [4, 4] in the frame of the capture's files
    score: float  # of the image there
    is_anomalous: bool | None  # as `Inspection.is_anomalous`


@dataclass(frozen=True)
class Inspection:
    """What was found in one image, or why it could not be inspected; tensors on the CPU."""

    path: Path
    error: str | None = None  # one sentence; then nothing below is known
    image: Tensor | None = None  # [3, H, W] as it was compared
    rendering: Tensor | None = None  # [3, H, W] the defect-free object at the estimated pose
    anomaly_map: Tensor | None = None  # [H, W]
    score: float | None = None
    tail_probability: float | None = None  # of a good image to score so high
    is_anomalous: bool | None = None  # None: there is no threshold, or the pose is not trusted
    pose: PoseEstimate | None = None  # in the frame of the model
    world_to_camera: Tensor | None = None  # [4, 4] the same in the frame of the capture's files
    regions: list[dict[str, Any]] = field(default_factory=list)  # flagged, highest peak first
    seconds: dict[str, float] = field(default_factory=dict)  # coarse, refine, score, total
    other_poses: tuple[OtherPose, ...] = ()
    note: str = ""  # what to know of the image, one sentence


@dataclass(frozen=True)
class Inspector:
    """Everything needed to inspect images of one object (see open_inspector.py)."""

    name: str  # of the object
    model: ObjectRenderer
    camera: Camera  # lens and size of the train views
    world: World  # the model's frame in that of the capture's files
    matcher: Matcher
    settings: PoseSettings
    scorer: Scorer
    last_matcher: Matcher | None = None  # for queries whose poses by `matcher` are not trusted
    pose_check: PoseCheck | None = None  # None: poses are not checked
    expected_residual: ExpectedResidual | None = None  # what is known of the object's gloss
    scores: ScoreDistribution | None = None  # of good images; None: no threshold can be given
    false_alarm_rate: float = 0.01
    notes: tuple[str, ...] = ()  # one line each: which parts run, and why
    is_plain: bool = False  # one colour stands behind the object in the train views
    white: float | None = None  # `Capture.white` of the capture that was trained on
    lens: Distortion | None = None  # of the train views' camera, to be undone in queries
    turns: bool = True  # queries by their EXIF; not where that of the train views was ignored

    @property
    def threshold(self) -> Threshold | None:
        """The score above which an image is called anomalous."""
        return None if self.scores is None else self.scores.threshold(self.false_alarm_rate)

    def inspect(self, paths: Sequence[Path]) -> list[Inspection]:
        """Pose, map, score and verdict of every file; a file that fails costs itself alone.

        The seconds are equal shares of those of the batch.
        """
        started = time.perf_counter()
        with ThreadPoolExecutor(_READERS) as pool:
            opened = list(pool.map(self._try_to_read, paths))
        read = (time.perf_counter() - started) / max(1, len(paths))
        whole = [(path, image) for path, image in zip(paths, opened, strict=True)
                 if isinstance(image, Tensor)]  # fmt: skip
        found = iter(self._inspect_images(whole, read))
        return [
            next(found) if isinstance(image, Tensor) else Inspection(path, str(image))
            for path, image in zip(paths, opened, strict=True)
        ]

    def read(self, path: Path) -> Tensor:
        """A query [3, H, W] at the size of the model.

        A query of another size but the same aspect is taken to show the same field of view. One in
        which the plain background has another colour (exposure, white balance) is brought back to
        that of the train views, which silhouettes and poses rest on. The distortion of the train
        views' lens is undone. EXIF orientation counts as it did for the train views, or where the
        image has the right aspect in no other way.
        Raises InputError if the file cannot be read or has another aspect.
        """
        camera, background = self.camera, self.model.background.cpu()
        orientation = self._orientation(read_header(path), path)
        red, green, blue = background.tolist()
        size = (camera.width, camera.height)
        image = read_image(path, size, (red, green, blue), self.white, self.lens, orientation)
        if float((image.amax(dim=(1, 2)) - image.amin(dim=(1, 2))).max()) <= _ONE_COLOUR:
            raise InputError(f"'{path}' shows a single colour and no object: take it again")
        gains = background_gains(image, background)
        return (image * gains[:, None, None]).clamp(0.0, 1.0)

    def _orientation(self, header: Header, path: Path) -> int:
        """The EXIF orientation by which a query is to be turned, 1 for none. Raises InputError."""
        (width, height), camera = header.size, self.camera
        stored, turned = (
            abs(w * camera.height - h * camera.width) <= max(w, h)
            for w, h in (header.size, header.turned_size)
        )
        if not (stored or turned):
            raise InputError(
                f"'{path}' is {width} x {height}, the model was trained on "
                f"{camera.width} x {camera.height}: crop the image to that aspect"
            )
        return header.orientation if turned and (self.turns or not stored) else 1

    def _try_to_read(self, path: Path) -> Tensor | InputError:
        """What `read` gives, or raises."""
        try:
            return self.read(path)
        except InputError as error:
            return error

    def _inspect_images(
        self, opened: Sequence[tuple[Path, Tensor]], read: float
    ) -> list[Inspection]:
        """Poses, maps and verdicts of images [3, H, W] that took `read` seconds each to read."""
        if not opened:
            return []
        paths = [path for path, _ in opened]
        images = torch.stack([image for _, image in opened])
        images = images.to(self.model.gaussians.means, non_blocking=True)
        try:
            poses = self._doubtful_again(images, self.locate(images))
        except InputError as error:
            return [Inspection(path, str(error)) for path in paths]
        found: list[Inspection] = []
        for start in range(0, len(images), self._at_once):
            chunk = slice(start, start + self._at_once)
            found += self._compare(paths[chunk], images[chunk], poses[chunk], read)
        return found

    def locate(self, images: Tensor) -> list[PoseEstimate]:
        """Poses of the cameras that took queries [B, 3, H, W] through the lens of the model."""
        poses = self._located(images, self.matcher)
        doubtful = [number for number, pose in enumerate(poses) if pose.pose_ok is False]
        if self.last_matcher is None or not doubtful:
            return poses
        again = self._located(images[doubtful], self.last_matcher)
        for number, second in zip(doubtful, again, strict=True):
            poses[number] = _better(poses[number], second)
        return poses

    def _located(self, images: Tensor, matcher: Matcher) -> list[PoseEstimate]:
        """Coarse poses by one matcher, refined."""
        started = time.perf_counter()
        hypotheses = matcher.coarse_poses_many(images, self.camera)
        coarse = (time.perf_counter() - started) / len(images)
        poses = estimate_poses(
            self.model, self.camera, images, hypotheses, self.settings, self.pose_check,
            self.expected_residual,
        )  # fmt: skip
        return [replace(pose, seconds=pose.seconds | {"coarse": coarse}) for pose in poses]

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
        again = self._located(torch.stack([changed[place] for place in chosen]), self.matcher)
        for place, second in zip(chosen, again, strict=True):
            poses[doubtful[place]] = _better(poses[doubtful[place]], second)
        return poses

    @property
    def _at_once(self) -> int:
        """Queries compared in one go: several where a call renders many views (a GPU)."""
        if not renders_many(self.model.backend, self.model.gaussians.means.device):
            return 1
        size = max(self.camera.width * self.camera.height, len(self.model.gaussians))
        return max(1, _VALUES_AT_ONCE // size)

    @torch.no_grad()
    def _compare(
        self, paths: Sequence[Path], images: Tensor, poses: Sequence[PoseEstimate], read: float
    ) -> list[Inspection]:
        """Compares queries with the object at their poses; the device is waited for at the end."""
        started = time.perf_counter()
        camera = self.camera.at(torch.stack([pose.world_to_camera for pose in poses]))
        scored = _to_host([images, *self.scorer(images, camera)])
        others = [self._at_others(i, pose) for i, pose in zip(images, poses, strict=True)]
        score = (time.perf_counter() - started) / len(poses)
        found = []
        for path, pose, other, *parts in zip(paths, poses, others, *scored, strict=True):
            seconds = {
                "coarse": read + pose.seconds["coarse"],
                "refine": pose.seconds["refine"],
                "score": score,
            }
            seconds["total"] = sum(seconds.values())
            verdict = self._verdict(path, pose, parts, seconds)
            found.append(replace(verdict, other_poses=other))
        return found

    def _at_others(self, image: Tensor, pose: PoseEstimate) -> tuple[OtherPose, ...]:
        """What an image [3, H, W] would score at the other poses that fit it as well."""
        found = []
        for other in pose.alternatives:
            score = float(self.scorer(image, self.camera.at(other)).score)
            is_known = self.threshold is not None and pose.pose_ok is not False
            flagged = score > self.threshold.value if is_known and self.threshold else None
            found.append(OtherPose(self.world.into_files(other), score, flagged))
        return tuple(found)

    def _verdict(
        self, path: Path, pose: PoseEstimate, parts: list[Tensor], seconds: dict[str, float]
    ) -> Inspection:
        """One inspection; without a trusted pose there is no verdict."""
        image, rendering, anomaly_map, depth, value = parts
        score, chance, flagged, regions = float(value), None, None, []
        threshold = self.threshold
        if threshold is not None:
            regions = self._regions(anomaly_map, depth, pose, threshold.value)
        if threshold is not None and self.scores is not None and pose.pose_ok is not False:
            chance = float(self.scores.tail_probability(score))
            flagged = score > threshold.value
        return Inspection(
            path, None, image, rendering, anomaly_map, score, chance, flagged, pose,
            self.world.into_files(pose.world_to_camera), regions, seconds,
            note=self._surroundings(image),
        )  # fmt: skip

    def _surroundings(self, image: Tensor) -> str:
        """What to say of an image [3, H, W] whose surroundings are not those of the train views."""
        if not self.is_plain:
            return ""
        border = torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], dim=1)
        behind = self.model.background.cpu()[:, None]
        if float(((border - behind).abs() <= _NEAR).all(dim=0).float().mean()) >= _BEHIND:
            return ""
        return (
            "what stands behind the object is not the plain background of the train images, and "
            "counts as a difference: cut the object out (a transparent image)"
        )

    def _regions(
        self, anomaly_map: Tensor, depth: Tensor, pose: PoseEstimate, limit: float
    ) -> list[dict[str, Any]]:
        """Flagged regions as JSON values, with their place on the object."""
        regions = find_regions(anomaly_map.numpy(), limit, _SMALLEST_REGION)
        if not regions:
            return []
        camera = self.camera.at(pose.world_to_camera)
        positions = region_positions(regions, depth, camera, self.world)
        return [
            asdict(region) | {"position": position}
            for region, position in zip(regions, positions, strict=True)
        ]


def _better(first: PoseEstimate, second: PoseEstimate) -> PoseEstimate:
    """The second of two estimates if it is trusted, else the first, with the seconds of both."""
    spent = {stage: first.seconds[stage] + second.seconds[stage] for stage in first.seconds}
    return replace(second if second.pose_ok else first, seconds=spent)


def _to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors [B, ...] on the CPU, from a GPU in one copy: each of its own makes the host wait."""
    if not tensors[0].is_cuda:
        return list(tensors)
    rows = torch.cat([tensor.reshape(len(tensor), -1) for tensor in tensors], dim=1).cpu()
    parts = rows.split([tensor[0].numel() for tensor in tensors], dim=1)
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

"""Queries, from their files to their verdicts. The model is read once.

Several queries go through every stage together; one query is a batch of one.
"""

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anomaly import (
    NormalModelScorer,
    Scored,
    ScoreDistribution,
    Scorer,
    Threshold,
    Zones,
    find_regions,
    in_known_light,
    region_positions,
)
from gaussian_renderer import ObjectRenderer, renders_many
from pose_estimation import (
    ExpectedResidual,
    Hypothesis,
    Matcher,
    PoseCheck,
    PoseEstimate,
    PoseSettings,
    estimate_poses,
)
from scene import Camera, Distortion, InputError, World

from .reading import PLAIN, UNEVEN, UNKNOWN, QueryReader, QuerySetup, ReadQuery
from .surroundings import SurroundingsSearch

_READERS = 4  # threads that decode files
_VALUES_AT_ONCE = 2**22  # pixels, or Gaussians, of queries compared in one go: bounds the memory
_NOT_PLAIN = (
    "what stands behind the object is not the plain background of the train images, and counts as "
    "a difference: cut the object out (a transparent image, --masks), or give --background"
)
_BESIDE = 7  # hypotheses of an image in the light of the train views, beside the pose found before
_FOUND = "unknown: the object is cut out where it was found; what protrudes is not inspected"
_COVERED, _HALF = 0.02, 0.5  # of a pixel, by the object, at least
_GUESSED = (PLAIN, UNEVEN, UNKNOWN)  # rules by which the background may be taken wrongly
_MOSTLY = 0.5  # of the object: where more is not inspected, it is not called good
_RIM, _OFF = 7, 0.01  # pixels of an outline, share of the object beyond: another one
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
    background: str = ""  # how object and background were told apart
    not_inspected: float = 0.0  # share of what the object covers
    photograph: Tensor | None = None  # [3, H, W] before the object was cut out, where it was


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
    setup: QuerySetup = field(default_factory=QuerySetup)  # how queries were taken
    search: SurroundingsSearch | None = None  # for queries whose background is not known
    zones: Zones | None = None  # of the surface, with factors on the map
    own_threshold: Threshold | None = None  # chosen by a person, instead of that of `scores`

    @property
    def threshold(self) -> Threshold | None:
        """The score above which an image is called anomalous."""
        if self.own_threshold is not None:
            return self.own_threshold
        return None if self.scores is None else self.scores.threshold(self.false_alarm_rate)

    def inspect(self, paths: Sequence[Path]) -> list[Inspection]:
        """Pose, map, score and verdict of every file; a file that fails costs itself alone.

        The seconds are equal shares of those of the batch.
        """
        started = time.perf_counter()
        with ThreadPoolExecutor(_READERS) as pool:
            opened = list(pool.map(self._try_to_read, paths))
        read = (time.perf_counter() - started) / max(1, len(paths))
        whole = [(path, query) for path, query in zip(paths, opened, strict=True)
                 if isinstance(query, ReadQuery)]  # fmt: skip
        found = iter(self._inspect_images(whole, read))
        return [
            next(found) if isinstance(query, ReadQuery) else Inspection(path, str(query))
            for path, query in zip(paths, opened, strict=True)
        ]

    @cached_property
    def reader(self) -> QueryReader:
        """Reads queries for this model."""
        return QueryReader(
            self.camera, self.model.background.cpu(), self.is_plain, self.white, self.lens,
            self.turns, self.setup,
        )  # fmt: skip

    def read(self, path: Path) -> Tensor:
        """A query [3, H, W] at the size of the model (see reading.py).

        Raises InputError if the file cannot be read or has another aspect.
        """
        return self.reader(path).image

    def _try_to_read(self, path: Path) -> ReadQuery | InputError:
        """What the reader gives, or raises."""
        try:
            return self.reader(path)
        except InputError as error:
            return error

    def _inspect_images(
        self, opened: Sequence[tuple[Path, ReadQuery]], read: float
    ) -> list[Inspection]:
        """Poses, maps and verdicts of queries that took `read` seconds each to read."""
        if not opened:
            return []
        paths, queries = [path for path, _ in opened], [query for _, query in opened]
        images = torch.stack([query.image for query in queries])
        images = images.to(self.model.gaussians.means, non_blocking=True)
        try:
            images, poses, queries = self._found(images, queries)
        except InputError as error:
            if len(opened) > 1:  # one of them: each for itself
                return [each for one in opened for each in self._inspect_images([one], read)]
            return [Inspection(paths[0], str(error))]
        found: list[Inspection] = []
        for start in range(0, len(images), self._at_once):
            chunk = slice(start, start + self._at_once)
            found += self._compare(paths[chunk], queries[chunk], images[chunk], poses[chunk], read)
        return found

    def _found(
        self, images: Tensor, queries: Sequence[ReadQuery]
    ) -> tuple[Tensor, list[PoseEstimate], list[ReadQuery]]:
        """Queries [B, 3, H, W] as they are compared, and their poses."""
        found: dict[int, PoseEstimate] = {}
        plain = [n for n, query in enumerate(queries) if query.rule != UNKNOWN or not self.search]
        if plain:
            poses = self._doubtful_again(images[plain], self.locate(images[plain]))
            found |= dict(zip(plain, poses, strict=True))
        images, queries = images.clone(), list(queries)
        for number, pose in found.items():
            images[number], found[number] = self._settled(images[number], queries[number], pose)
        for number, query in enumerate(queries):
            searched = self._searched(query, found.get(number))
            if searched is not None:
                queries[number], pose = searched
                image = queries[number].image.to(images)
                images[number], found[number] = self._settled(image, queries[number], pose)
        return images, [found[number] for number in range(len(queries))], queries

    def _searched(
        self, query: ReadQuery, known: PoseEstimate | None
    ) -> tuple[ReadQuery, PoseEstimate] | None:
        """A query whose background is not known, cut out, and its pose; None where that is no gain.

        A background that only seems plain, as a table may, is not known where the pose that was
        found before it is not trusted, or shows another outline. Raises InputError where there is
        no pose at all.
        """
        if not self.search or query.rule not in _GUESSED or query.uncut is None:
            return None
        if known is not None and known.pose_ok is not False and self._agrees(query, known):
            return None
        try:
            image, pose = self.search(query.uncut.to(self.model.gaussians.means))
        except InputError:
            if known is None:
                raise
            return None
        if known is not None and not pose.pose_ok:
            return None
        cut = replace(
            query, image=image.cpu(), mask=None, rule=UNKNOWN, background=_FOUND, sure=None
        )
        return cut, pose

    @torch.no_grad()
    def _agrees(self, query: ReadQuery, pose: PoseEstimate) -> bool:
        """Whether the object that was cut out has the outline that the pose gives it.

        What is left of the background beside it, or was taken for background inside, would count
        as a defect.
        """
        if query.mask is None:
            return True
        covered = self.model(self.camera.at(pose.world_to_camera)).alpha.cpu() > _HALF
        outer, inner = (
            torch.nn.functional.max_pool2d(each[None, None].float(), _RIM, 1, _RIM // 2)[0, 0] > 0
            for each in (covered, ~covered)
        )
        cut = query.mask > _HALF
        off = (cut & ~outer) | (~cut & ~inner)
        return int(off.sum()) <= _OFF * int(covered.sum())

    def _settled(
        self, image: Tensor, query: ReadQuery, pose: PoseEstimate
    ) -> tuple[Tensor, PoseEstimate]:
        """A query [3, H, W] and its pose once more, where the pose says what the query shows.

        Within the rendered silhouette nothing is shadow; what is not inspected takes the model's
        colours, which pull the pose nowhere, where before it seemed empty.
        """
        if query.ignored is None and query.sure is None:
            return image, pose
        with torch.no_grad():
            shown = self.model.views(self.camera.at(pose.world_to_camera[None]))
        covered = (shown.alphas[0] > _COVERED).cpu()
        if query.ignored is not None and query.sure is None and not (covered & query.ignored).any():
            return image, pose
        image = self._seen(query, pose.world_to_camera)
        again = self.refined(image, pose.world_to_camera)
        if again.pose_ok is False:  # in the light of the train views, as at first
            camera = self.camera.at(again.world_to_camera[None])
            changed, explained = in_known_light(
                image[None], self.model.views(camera), self.model.background
            )
            if bool(explained[0]):
                again = _better(again, self.refined(changed[0], again.world_to_camera))
        spent = {stage: pose.seconds[stage] + again.seconds[stage] for stage in pose.seconds}
        return self._seen(query, again.world_to_camera), replace(again, seconds=spent)

    def refined(self, image: Tensor, world_to_camera: Tensor) -> PoseEstimate:
        """The pose of an image [3, H, W] that is nearly known [4, 4]."""
        found = estimate_poses(
            self.model, self.camera, image[None], [[Hypothesis(world_to_camera, 1.0)]],
            self.settings, self.pose_check, self.expected_residual,
        )[0]  # fmt: skip
        return replace(found, seconds=found.seconds | {"coarse": 0.0})

    @torch.no_grad()
    def _seen(self, query: ReadQuery, world_to_camera: Tensor) -> Tensor:
        """What a query shows if its pose [4, 4] is right, [3, H, W]."""
        shown = self.model.views(self.camera.at(world_to_camera[None]))
        background = self.model.background
        image = query.at_pose(shown.alphas[0] > _HALF, background).to(background.device)
        if query.ignored is None:
            return image
        return torch.where(query.ignored.to(image.device), shown.images[0].clamp(0, 1), image)

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

    def _located(
        self, images: Tensor, matcher: Matcher, first: Sequence[PoseEstimate] = ()
    ) -> list[PoseEstimate]:
        """Coarse poses by one matcher, refined; where there are `first` ones, a few beside them."""
        started = time.perf_counter()
        hypotheses = matcher.coarse_poses_many(images, self.camera)
        for number, pose in enumerate(first):
            known = Hypothesis(pose.world_to_camera, 1.0)
            hypotheses[number] = [known, *hypotheses[number][:_BESIDE]]
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
        first = [poses[doubtful[place]] for place in chosen]
        again = self._located(torch.stack([changed[p] for p in chosen]), self.matcher, first)
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
        self, paths: Sequence[Path], queries: Sequence[ReadQuery], images: Tensor,
        poses: Sequence[PoseEstimate], read: float,
    ) -> list[Inspection]:  # fmt: skip
        """Compares queries with the object at their poses; the device is waited for at the end."""
        started = time.perf_counter()
        camera = self.camera.at(torch.stack([pose.world_to_camera for pose in poses]))
        first = self._scored(images, camera)
        images, is_filled = _filled(images, queries, first.rendering)
        last = self._scored(images, camera) if is_filled else first
        scored = _to_host([images, *last])
        others = [self._at_others(i, pose) for i, pose in zip(images, poses, strict=True)]
        score = (time.perf_counter() - started) / len(poses)
        found = []
        for path, query, pose, other, *parts in zip(
            paths, queries, poses, others, *scored, strict=True
        ):
            seconds = {
                "coarse": read + pose.seconds["coarse"],
                "refine": pose.seconds["refine"],
                "score": score,
            }
            seconds["total"] = sum(seconds.values())
            verdict = self._verdict(path, query, pose, parts, seconds)
            found.append(replace(verdict, other_poses=other))
        return found

    def _scored(self, images: Tensor, camera: Camera) -> Scored:
        """THE MAP with the zones' factors."""
        scored = self.scorer(images, camera)
        return scored if self.zones is None else self.zones.apply(self.model, camera, scored)

    def _at_others(self, image: Tensor, pose: PoseEstimate) -> tuple[OtherPose, ...]:
        """What an image [3, H, W] would score at the other poses that fit it as well."""
        found = []
        for other in pose.alternatives:
            score = float(self._scored(image, self.camera.at(other)).score)
            is_known = self.threshold is not None and pose.pose_ok is not False
            flagged = score > self.threshold.value if is_known and self.threshold else None
            found.append(OtherPose(self.world.into_files(other), score, flagged))
        return tuple(found)

    def _verdict(
        self, path: Path, query: ReadQuery, pose: PoseEstimate, parts: list[Tensor],
        seconds: dict[str, float],
    ) -> Inspection:  # fmt: skip
        """One inspection; without a trusted pose there is no verdict."""
        image, rendering, anomaly_map, depth, value = parts
        score, chance, flagged, regions, missed = float(value), None, None, [], 0.0
        if query.ignored is not None:
            anomaly_map = anomaly_map.masked_fill(query.ignored, 0.0)
            covered = depth > 0
            missed = float((query.ignored & covered).sum() / covered.sum().clamp_min(1))
        threshold = self.threshold
        if threshold is not None:
            regions = self._regions(anomaly_map, depth, pose, threshold.value)
        if threshold is not None and self.scores is not None and pose.pose_ok is not False:
            chance = float(self.scores.tail_probability(score))
            flagged = score > threshold.value
            if not flagged and missed > _MOSTLY:  # of what was not looked at nothing is known
                flagged, chance = None, None
        return Inspection(
            path, None, image, rendering, anomaly_map, score, chance, flagged, pose,
            self.world.into_files(pose.world_to_camera), regions, seconds,
            note=self._note(query, pose, missed),
            background=query.background,
            not_inspected=missed, photograph=query.uncut,
        )  # fmt: skip

    def _note(self, query: ReadQuery, pose: PoseEstimate, missed: float) -> str:
        """What to know of the background, of what is not inspected and of the direction."""
        notes = [_NOT_PLAIN] if query.rule == UNKNOWN and self.search is None else []
        if missed > _MOSTLY:
            notes.append(f"{missed:.0%} of the object was not inspected: it cannot be called good")
        if isinstance(self.scorer, NormalModelScorer):
            angle = self.scorer.beyond_views(pose.world_to_camera[:3, :3])
            if angle is not None:
                notes.append(
                    f"seen from {math.degrees(angle):.0f} degrees off the nearest train view: what "
                    "is normal there is hardly known"
                )
        return "; ".join(notes)

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


def _filled(
    images: Tensor, queries: Sequence[ReadQuery], renderings: Tensor
) -> tuple[Tensor, bool]:
    """Queries [B, 3, H, W] that show the rendering, in their light, where nothing is inspected."""
    if all(query.ignored is None for query in queries):
        return images, False
    nothing = torch.zeros(images.shape[-2:], dtype=torch.bool)
    ignored = torch.stack([nothing if q.ignored is None else q.ignored for q in queries])
    return torch.where(ignored[:, None].to(images.device), renderings, images), True


def _to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors [B, ...] on the CPU, from a GPU in one copy: each of its own makes the host wait."""
    if not tensors[0].is_cuda:
        return list(tensors)
    rows = torch.cat([tensor.reshape(len(tensor), -1) for tensor in tensors], dim=1).cpu()
    parts = rows.split([tensor[0].numel() for tensor in tensors], dim=1)
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

"""A query in unknown surroundings: its pose and its outline, found in turns.

Before a known background the outline of the object is evidence of its pose. Here it is not known,
and without it a pose could shrink the object onto anything. So GrabCut moves the outline of the
rendered object to where the colours of the query change, within a band; the object that it cuts
out stands before the model's background like a train view, and the pose is refined on that. The
band narrows with every turn.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from anomaly import in_known_light
from gaussian_renderer import ObjectRenderer
from pose_estimation import (
    ExpectedResidual,
    Hypothesis,
    Matcher,
    PoseCheck,
    PoseEstimate,
    PoseSettings,
    estimate_pose,
    settle_each,
)
from scene import Camera, InputError, before_colour, edge_tolerance, grabcut_outline, soft_edge

_WIDE, _MIDDLE, _NARROW = 0.05, 0.03, 0.015  # half the width of the band, of the longer side
_MARGIN = 0.08  # of it around the band: tells GrabCut the colours of the surroundings
_MOST, _TOGETHER, _KEPT = 8, 4, 2  # hypotheses of a matcher, that start together, that go on
_CLEAR = 1.5  # excess of a pose that is right beyond doubt: half of every limit
_HOPELESS = 18.0, 9.0  # excess after a turn: before images of something else it is larger
_OPAQUE, _EMPTY = 0.5, 0.02  # how much of a pixel the object covers, inside and off its outline
_FEWEST = 40  # pixels that an object has, at least


@dataclass(frozen=True)
class SurroundingsSearch:
    """Finds one object in any surroundings, and cuts it out."""

    model: ObjectRenderer
    camera: Camera
    matchers: tuple[Matcher, ...]  # that need no silhouette, asked in turn until a pose is trusted
    settings: PoseSettings
    check: PoseCheck  # see `PoseCheck.in_surroundings`
    expected_residual: ExpectedResidual | None

    def __call__(self, image: Tensor) -> tuple[Tensor, PoseEstimate]:
        """The object of a query [3, H, W] before the model's background, and its pose.

        Raises InputError when there is no pose to start from.
        """
        started, coarse = time.perf_counter(), 0.0
        best: PoseEstimate | None = None
        for matcher in self.matchers:
            began = time.perf_counter()
            hypotheses = matcher.coarse_poses(image, self.camera)
            coarse += time.perf_counter() - began
            for start in range(0, min(_MOST, len(hypotheses)), _TOGETHER):
                found = self._among(image, hypotheses[start : start + _TOGETHER])
                best = self._better(best, found)
                if best is not None and best.pose_ok:
                    return self._finished(image, best, coarse, started)
        if best is None:
            raise InputError("nothing like the object is found in the image: check what it shows")
        return self._finished(image, best, coarse, started)

    def _finished(
        self, image: Tensor, found: PoseEstimate, coarse: float, started: float
    ) -> tuple[Tensor, PoseEstimate]:
        """What is compared, cut out by the final pose, which takes no side about the outline."""
        shown = self._cut_by_pose(image, found.world_to_camera)
        seconds = {"coarse": coarse, "refine": time.perf_counter() - started - coarse}
        return shown, replace(found, seconds=seconds)

    def _among(self, image: Tensor, hypotheses: Sequence[Hypothesis]) -> PoseEstimate | None:
        """The best of some hypotheses, as the first is and after all turns; None if none shows it.

        Turns reach from afar, but a fine pattern may draw them aside where the pose was good.
        """
        best = self._finish(image, hypotheses[0].world_to_camera)
        if self._is_clear(best):
            return best
        poses = [each.world_to_camera for each in hypotheses]
        poses = self._turn(image, poses, _WIDE, in_light=False)
        for pose in self._turn(image, poses, _MIDDLE, in_light=True):
            best = self._better(best, self._finish(image, pose))
            if self._is_clear(best):
                break
        return best

    def _is_clear(self, found: PoseEstimate | None) -> bool:
        """Whether a pose fits so well that no other needs to be tried."""
        return bool(found and found.pose_ok and self.check.excess(found.fit) <= _CLEAR)

    def _finish(self, image: Tensor, pose: Tensor) -> PoseEstimate | None:
        """The pose at full resolution, in the light of the train views."""
        cut = self._cut_by_colours(image, pose, _NARROW)
        if cut is None:
            return None
        return estimate_pose(
            self.model, self.camera, self._in_light(cut[None], pose[None])[0],
            [Hypothesis(pose, 1.0)], self.settings, self.check, self.expected_residual,
        )  # fmt: skip

    def _turn(
        self, image: Tensor, poses: Sequence[Tensor], band: float, in_light: bool
    ) -> list[Tensor]:
        """The object is cut out at every pose, and the pose refined on that: the best of them.

        The light is only told from poses that are near: it would explain anything else.
        """
        cut = [(pose, self._cut_by_colours(image, pose, band)) for pose in poses]
        shown = [(pose, each) for pose, each in cut if each is not None]
        if not shown:
            return []
        starts, images = torch.stack([p for p, _ in shown]), torch.stack([i for _, i in shown])
        if in_light:
            images = self._in_light(images, starts)
        found, fits = settle_each(self.model, self.camera, images, starts, self.settings)
        excess = [self.check.excess(fit.statistics) for fit in fits]
        order = sorted(range(len(fits)), key=lambda n: excess[n])
        return [found[number] for number in order[:_KEPT] if excess[number] <= _HOPELESS[in_light]]

    def _better(
        self, first: PoseEstimate | None, second: PoseEstimate | None
    ) -> PoseEstimate | None:
        """A trusted one, else the one that fits better."""
        if first is None or second is None:
            return first or second
        keys = [(not each.pose_ok, self.check.excess(each.fit)) for each in (first, second)]
        return first if keys[0] <= keys[1] else second

    def _in_light(self, images: Tensor, poses: Tensor) -> Tensor:
        """Cut-out objects [B, 3, H, W] in the light of the train views."""
        shown = self.model.views(self.camera.at(poses))
        return in_known_light(images, shown, self.model.background)[0]

    def _cut_by_colours(self, image: Tensor, pose: Tensor, band: float) -> Tensor | None:
        """The object [3, H, W] about where a pose [4, 4] shows it; None where it shows none."""
        camera, small = self.camera, image
        if band > _NARROW:  # half the size does, in a quarter of the time
            camera = camera.resized(max(1, camera.width // 2), max(1, camera.height // 2))
            size = (camera.height, camera.width)
            small = torch.nn.functional.interpolate(image[None], size=size, mode="area")[0]
        with torch.no_grad():
            outline = self.model(camera.at(pose)).alpha.cpu().numpy() > _OPAQUE
        if outline.sum() < _FEWEST:
            return None
        side = max(outline.shape)
        photograph = (small.permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        reach, margin = max(1, round(band * side)), round(_MARGIN * side)
        found = torch.from_numpy(grabcut_outline(photograph, outline, reach, margin)).float()
        if small is not image:
            size = (image.shape[1], image.shape[2])
            found = torch.nn.functional.interpolate(found[None, None], size=size, mode="bilinear")
            found = (found[0, 0] > _OPAQUE).float()
        values = image.permute(1, 2, 0).cpu().numpy()
        alpha = soft_edge(values, found.numpy() > _OPAQUE)
        return before_colour(values, alpha, self._background).to(image)

    @torch.no_grad()
    def _cut_by_pose(self, image: Tensor, pose: Tensor) -> Tensor:
        """The object [3, H, W] within its outline at a pose; nothing beyond that is left.

        At the edge, pixels show the object and what stands behind it. What that may be is read
        beside them; a difference that it could explain is none.
        """
        shown = self.model(self.camera.at(pose))
        alpha = shown.alpha.cpu().numpy()
        values = image.permute(1, 2, 0).cpu().numpy()
        alpha = np.where(alpha > _EMPTY, alpha, 0.0).astype(np.float32)
        cut = before_colour(values, alpha, self._background).to(image)
        tolerance = torch.from_numpy(edge_tolerance(values, alpha)).to(image)
        rendering = shown.image.clamp(0.0, 1.0)
        difference = cut - rendering
        left = (difference.abs() - tolerance).clamp_min(0.0) * difference.sign()
        return rendering + left

    @property
    def _background(self) -> tuple[float, float, float]:
        red, green, blue = self.model.background.tolist()
        return red, green, blue

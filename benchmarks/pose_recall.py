"""What the coarse stage finds, apart from what the refinement makes of it: one row an object."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import Tensor

from pipeline.inspector import Inspector
from pose_estimation import Hypothesis, estimate_pose, rotation_error, translation_error
from scene import Capture, InputError, true_poses

from .common import ANGLE_LIMIT, DISTANCE_LIMIT

_NEAR, _WITHIN_REACH = math.radians(5.0), math.radians(10.0)  # of the true rotation
_LOST = math.radians(2.0)  # farther off: another pose, not an inexact one


@dataclass(frozen=True)
class Recall:
    """The queries of one object. Right: the pose, or one that is told to fit as well."""

    name: str
    images: int
    within_5: int  # queries with a hypothesis that near, degrees
    within_10: int
    found: int  # within 2 degrees
    right: int  # within 1 degree and 0.02 units
    right_from_truth: int  # refined from the true pose: what the model allows
    ambiguous: int  # where the image fits other poses as well, which are told
    refused: int  # pose_ok is False
    wrong_trusted: int  # pose_ok is True, and no pose that is told is within 2 degrees
    rotation_median: float  # degrees
    cpu_seconds_median: float
    cpu_seconds_worst: float


def recall(name: str, inspector: Inspector, capture: Capture, most: int) -> Recall:
    """Locates queries with known poses. Raises InputError where there are none."""
    truth = true_poses(capture)
    known = [query for query in capture.queries if query.name in truth][:most]
    if not known:
        raise InputError(f"the capture of '{name}' has no queries with known poses")
    coarse, found, from_truth, seconds = [], [], 0, []
    for query in known:
        image = inspector.read(query.image_path)[None]
        hypotheses = inspector.matcher.coarse_poses_many(image, inspector.camera)[0]
        began = time.process_time()
        found.append(inspector.locate(image)[0])
        seconds.append(time.process_time() - began)
        true = truth[query.name]
        coarse.append(_nearest(hypotheses, true))
        start = [Hypothesis(true, 1.0)]
        best = estimate_pose(
            inspector.model, inspector.camera, image[0], start, inspector.settings, None,
            inspector.expected_residual,
        )  # fmt: skip
        from_truth += _right(best.world_to_camera, true)
    angles, nearest, rights = [], [], []
    for pose, query in zip(found, known, strict=True):
        true, told = truth[query.name], (pose.world_to_camera, *pose.alternatives)
        angles.append(float(rotation_error(pose.world_to_camera, true)))
        nearest.append(min(float(rotation_error(one, true)) for one in told))
        rights.append(any(_right(one, true) for one in told))
    return Recall(
        name=name,
        images=len(known),
        within_5=sum(angle < _NEAR for angle in coarse),
        within_10=sum(angle < _WITHIN_REACH for angle in coarse),
        found=sum(angle < _LOST for angle in nearest),
        right=sum(rights),
        right_from_truth=from_truth,
        ambiguous=sum(bool(pose.alternatives) for pose in found),
        refused=sum(pose.pose_ok is False for pose in found),
        wrong_trusted=sum(
            pose.pose_ok is True and angle > _LOST
            for pose, angle in zip(found, nearest, strict=True)
        ),
        rotation_median=math.degrees(statistics.median(angles)),
        cpu_seconds_median=statistics.median(seconds),
        cpu_seconds_worst=max(seconds),
    )


def _nearest(hypotheses: Sequence[Hypothesis], true: Tensor) -> float:
    """The least error of any hypothesis, radians."""
    errors = [float(rotation_error(h.world_to_camera, true)) for h in hypotheses]
    return min(errors, default=math.inf)


def _right(pose: Tensor, true: Tensor) -> bool:
    return (
        float(rotation_error(pose, true)) < ANGLE_LIMIT
        and float(translation_error(pose, true)) < DISTANCE_LIMIT
    )


def table(rows: Sequence[Recall]) -> str:
    """Markdown: one line per object."""
    heads = (
        "object", "queries", "hypothesis within 5 deg", "10 deg", "found", "right",
        "right from the truth", "ambiguous", "refused", "wrong and trusted", "rotation, deg",
        "CPU s a query", "worst",
    )  # fmt: skip
    lines = [" | ".join(heads), "|".join(["---"] * len(heads))]
    for row in rows:
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in asdict(row).values()]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)

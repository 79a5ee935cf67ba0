"""Maps, scores and looks of several queries through our Triton kernels, against the reference."""

import pytest
import torch
from interpreted_triton import DEVICE
from pose_scenes import WHITE, lens, tiny_object
from query_scenes import SMALL, normality_of_the_object, queries_to_compare
from torch import Tensor

import gaussian_renderer.triton as ours
from anomaly.normal_model import Normality
from anomaly.scoring import CalibratedScorer, Scored
from gaussian_renderer import batch
from gaussian_renderer.object_renderer import ObjectRenderer
from pose_estimation import PoseSettings, look
from pose_estimation.look import Look, Seen, look_together
from pose_estimation.problem import LOW, Candidate, Problem


def judged(
    images: Tensor, poses: Tensor, known: Normality, backend: str
) -> tuple[Scored, list[list[Seen]]]:
    """Scores of queries at their poses, and looks at both resolutions."""
    cloud = tiny_object().map(lambda tensor: tensor.to(DEVICE))
    model = ObjectRenderer(cloud, WHITE.to(DEVICE), backend)
    scored = CalibratedScorer(model, known.to(DEVICE))(
        images.to(DEVICE), lens(size=SMALL).at(poses)
    )
    settings = PoseSettings("lm", backend=backend)
    problems = [
        Problem(cloud, lens(size=SMALL), image.to(DEVICE), WHITE, settings) for image in images
    ]
    near = poses.roll(1, dims=0)  # not their own: something is to be seen
    looks = [
        look_together(
            [Look(p, Candidate(0, pose), shrink) for p, pose in zip(problems, near, strict=True)]
        )
        for shrink in (LOW, 1)
    ]
    return scored, looks


def test_a_batch_is_judged_as_by_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    images, poses = (part[2:4] for part in queries_to_compare())
    known = normality_of_the_object()
    expected, expected_looks = judged(images, poses, known, "reference")
    for module in (batch, look):
        monkeypatch.setattr(module, "select_backend", lambda name, device: ours)
    found, looks = judged(images, poses, known, "triton")
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    for ours_there, theirs_there in zip(looks, expected_looks, strict=True):
        for mine, theirs in zip(ours_there, theirs_there, strict=True):
            assert mine.evidence == pytest.approx(theirs.evidence, abs=1e-5)
            assert mine.loss == pytest.approx(theirs.loss, abs=1e-5)

"""Queries in a batch, where a backend renders many views: as each of them alone."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from other_backends import registered
from pose_scenes import WHITE, lens, orbit, picture, tiny_object
from query_scenes import SMALL, normal_model_of_the_object, queries_to_compare
from test_pose_refine import disturbed

from anomaly import NormalModelScorer
from gaussian_renderer import ObjectRenderer, renders_many, select_backend
from gaussian_renderer.backend import one_by_one
from pose_estimation import Hypothesis, PoseCheck, estimate_pose, estimate_poses
from scene import InputError

CHECK = PoseCheck({"median": 0.06, "upper": 0.2, "mismatch": 0.12}, 3, 3)


@pytest.fixture
def many() -> Iterator[str]:
    """The CPU kernel as a backend that takes many views in a call."""
    kernel = select_backend("cpu")
    views = one_by_one(kernel.rasterise)
    with registered("many", lambda: replace(kernel, name="many", rasterise_views=views)):
        assert renders_many("many", "cpu")
        yield "many"


def test_poses_end_where_each_ends_alone(many: str) -> None:
    gaussians, cameras = tiny_object(), orbit(7)
    truths = [cameras[number].world_to_camera for number in (1, 2, 4)]
    images = [picture(gaussians, lens(pose)) for pose in truths]
    images[2] = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    hypotheses = [
        [Hypothesis(disturbed(true, angle, seed=n), -n) for n, angle in enumerate(angles)]
        for true, angles in zip(truths, ([8.0], [35.0, 6.0, 12.0], [10.0, 20.0]), strict=True)
    ]
    batch = ObjectRenderer(gaussians, WHITE, many)
    together = estimate_poses(batch, lens(), torch.stack(images), hypotheses, check=CHECK)
    assert [found.pose_ok for found in together] == [True, True, False]
    for found, image, own in zip(together, images, hypotheses, strict=True):
        model = ObjectRenderer(gaussians, WHITE, "cpu")
        alone = estimate_pose(model, lens(), image, own, check=CHECK)
        assert found.pose_ok == alone.pose_ok
        assert found.loss == pytest.approx(alone.loss, rel=1e-3)
        if alone.pose_ok:  # a pose that was not found may lie anywhere
            torch.testing.assert_close(
                found.world_to_camera, alone.world_to_camera, rtol=0, atol=1e-4
            )


def test_a_query_of_another_size_is_refused(many: str) -> None:
    image = picture(tiny_object(), orbit(7)[1])
    own = [Hypothesis(orbit(7)[1].world_to_camera, 0.0)]
    model = ObjectRenderer(tiny_object(), WHITE, many)
    with pytest.raises(InputError, match="resize"):
        estimate_poses(model, lens(), image[None, :, :-1], [own])


def test_scores_are_those_of_each_query(many: str) -> None:
    images, poses = queries_to_compare()
    known = normal_model_of_the_object()
    together = NormalModelScorer(ObjectRenderer(tiny_object(), WHITE, many), known)(
        images, lens(size=SMALL).at(poses)
    )
    scorer = NormalModelScorer(ObjectRenderer(tiny_object(), WHITE, "cpu"), known)
    for number, pose in enumerate(poses):
        alone = scorer(images[number], lens(pose, SMALL))
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[number], theirs, rtol=1e-4, atol=1e-5)

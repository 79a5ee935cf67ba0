"""Batches of queries on a pretended GPU: as one by one, and without waiting query by query."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from pose_scenes import SIZE, WHITE, lens, orbit, picture, tiny_object, visible
from pretend_cuda import Waits, on_gpu, pretended_gpu
from query_scenes import SMALL, VIEWS, normality_of_the_object, queries_to_compare
from torch import Tensor

from anomaly import make_features
from anomaly.normal_model import Normality
from anomaly.scoring import CalibratedScorer, RawScorer, Scored, Scorer
from gaussian_renderer.object_renderer import ObjectRenderer
from pipeline.inspector import Inspection, Inspector
from pipeline.transfer import to_host
from pose_estimation import (
    Gallery,
    Hypothesis,
    PoseCheck,
    PoseSettings,
    build_gallery,
)
from pose_estimation.matchers.classical import ClassicalMatcher
from scene import InputError

LENIENT = PoseCheck({"median": 0.3, "upper": 0.5, "mismatch": 0.5}, 3, 3)


@pytest.fixture(scope="module")
def normality() -> Normality:
    return normality_of_the_object()


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    cloud = tiny_object()
    images = [picture(cloud, camera) for camera in VIEWS]
    shapes = [visible(image) for image in images]
    return build_gallery(cloud, VIEWS, images, shapes, WHITE, rendered_directions=40)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectRenderer]:
    """The tiny object there."""
    with pretended_gpu(monkeypatch):
        cloud = tiny_object().map(lambda tensor: tensor.to("cuda"))
        yield ObjectRenderer(cloud, WHITE.to("cuda"), "gsplat")


@pytest.fixture(scope="module")
def compared() -> tuple[Tensor, Tensor]:
    return queries_to_compare()


def scorers(model: ObjectRenderer, known: Normality) -> dict[str, Scorer]:
    features = make_features("classical")[0]
    return {"calibrated": CalibratedScorer(model, known), "raw": RawScorer(model, features)}


@pytest.fixture(scope="module")
def scored(compared: tuple[Tensor, Tensor], normality: Normality) -> dict[str, Scored]:
    """What scorers on the CPU say, without a pretended GPU about."""
    images, poses = compared
    both = scorers(ObjectRenderer(tiny_object(), WHITE, "reference"), normality)
    return {name: scorer(images, lens(size=SMALL).at(poses)) for name, scorer in both.items()}


@pytest.mark.parametrize("name", ["calibrated", "raw"])
def test_scores_of_a_batch_are_those_of_each_query_and_wait_for_nothing(
    name: str,
    compared: tuple[Tensor, Tensor],
    scored: dict[str, Scored],
    normality: Normality,
    gpu: ObjectRenderer,
) -> None:
    scorer = scorers(gpu, normality.to("cuda"))[name]
    poses, there = compared[1], compared[0].to("cuda")
    with Waits() as waits:
        together = scorer(there, lens(size=SMALL).at(poses))
    assert waits.names == []
    for number, pose in enumerate(poses):
        alone = scorer(there[number], lens(pose, SMALL))
        for ours, theirs in zip(together, alone, strict=True):
            assert on_gpu(ours)
            torch.testing.assert_close(ours[number].cpu(), theirs.cpu(), rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(together, scored[name], strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-4)


def test_a_memory_on_the_gpu_expects_the_same_without_waiting(
    normality: Normality, gpu: ObjectRenderer
) -> None:
    rotations = torch.stack([view.world_to_camera[:3, :3] for view in orbit(7)])
    memory = normality.memory.to("cuda")
    with Waits() as waits:
        together = memory.expect(rotations, exclude=2)
    assert waits.names == []
    for number, rotation in enumerate(rotations):
        for ours, theirs in zip(together, normality.memory.expect(rotation, exclude=2),
                                strict=True):  # fmt: skip
            assert on_gpu(ours)
            assert torch.equal(ours[number].cpu(), theirs)


@pytest.fixture(scope="module")
def coarse() -> Tensor:
    """Five queries: two whole objects, one cut off by the frame, noise, and an empty picture."""
    whole = torch.stack([picture(tiny_object(), VIEWS[number]) for number in (0, 3, 9)])
    whole[2] = whole[2].roll(20, dims=-1)
    noise = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return torch.cat([whole, noise, torch.ones(1, 3, SIZE, SIZE)])


def same(ours: list[Hypothesis], theirs: list[Hypothesis]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        torch.testing.assert_close(one.world_to_camera, other.world_to_camera, rtol=0, atol=1e-4)


def test_coarse_poses_of_a_batch_are_those_of_each_query(
    coarse: Tensor, gallery: Gallery, gpu: ObjectRenderer
) -> None:
    matcher, host = ClassicalMatcher(gallery, device="cuda"), ClassicalMatcher(gallery)
    there = coarse.to("cuda")
    for count in (2, 5):
        with Waits() as waits:
            together = matcher.coarse_poses_many(there[:count], lens())
        assert waits.names == ["tolist", "cpu"]  # outlines, then peaks
        for number, ours in enumerate(together):
            same(ours, matcher.coarse_poses(there[number], lens()))
            same(ours, host.coarse_poses(coarse[number], lens()))


def test_a_cpu_computes_queries_one_after_the_other_to_the_bit(
    coarse: Tensor, gallery: Gallery
) -> None:
    matcher = ClassicalMatcher(gallery)
    for image, found in zip(coarse, matcher.coarse_poses_many(coarse, lens()), strict=True):
        alone = matcher.coarse_poses(image, lens())
        assert [ours.score for ours in found] == [theirs.score for theirs in alone]
        for ours, theirs in zip(found, alone, strict=True):
            assert torch.equal(ours.world_to_camera, theirs.world_to_camera)


def test_files_are_judged_together_as_one_by_one(
    compared: tuple[Tensor, Tensor],
    normality: Normality,
    gallery: Gallery,
    gpu: ObjectRenderer,
    tmp_path: Path,
) -> None:
    pixels = (255 * compared[0][0].permute(1, 2, 0)).round().to(torch.uint8).numpy()
    paths = [tmp_path / f"{name}.png" for name in ("one", "missing", "other")]
    for path in (paths[0], paths[2]):
        Image.fromarray(pixels).save(path)
    known = normality.to("cuda")
    inspector = Inspector(
        gpu, lens(size=SMALL), gallery, CalibratedScorer(gpu, known), "classical",
        PoseSettings("lm"), pose_check=LENIENT, appearance=known.memory,
    )  # fmt: skip
    with Waits() as waits:
        first, missing, other = inspector.inspect_many(paths)
    with Waits() as alone_waits:
        alone = inspector.inspect(paths[0])
    assert waits.names == alone_waits.names  # steps are waited for, and taken together
    assert isinstance(missing, InputError)
    for found in (first, other):
        assert isinstance(found, Inspection)
        assert not any(map(on_gpu, (found.image, found.rendering, found.anomaly_map)))
        assert found.score == pytest.approx(alone.score, rel=1e-3)
        assert torch.allclose(found.pose.world_to_camera, alone.pose.world_to_camera, atol=1e-4)
        assert set(found.seconds) == {"coarse", "refine", "score", "total"}


def test_tensors_travel_in_one_copy(gpu: ObjectRenderer) -> None:
    tensors = [torch.rand(3, 2, 4), torch.rand(3), torch.rand(3, 5)]
    with Waits() as waits:
        found = to_host([tensor.to("cuda", non_blocking=True) for tensor in tensors])
    assert waits.names == ["cpu"]
    for ours, theirs in zip(found, tensors, strict=True):
        assert not on_gpu(ours)
        assert torch.equal(ours, theirs)
    assert to_host(tensors)[0] is tensors[0]
    with pytest.raises(ValueError, match="as many rows"):
        to_host([torch.rand(3), torch.rand(4)])

"""The whole way, from photographs to a verdict, on a pretended GPU: nothing may mix devices."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from pose_scenes import WHITE, lens, orbit, picture, tiny_object, visible
from pretend_cuda import PretendCuda, on_gpu, pretended_gpu

from detect import DetectConfig, detect
from gaussian_renderer import cuda_pose, graphdeco
from pipeline import optimise
from pose_estimation import build_gallery, select_matcher, stages, templates
from pose_estimation.matchers import loftr, xfeat
from scene import Camera, Gaussians
from train import TrainConfig, train

BRICK_DOG = Path(__file__).parent.parent / "data" / "brick_dog"


def test_the_pretended_gpu_raises_where_a_real_one_does() -> None:
    with PretendCuda():
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        assert there.device.type == "cuda"
        assert here.device.type == "cpu"
        assert on_gpu((2 * there + torch.tensor(1.0))[1:].sum())
        assert on_gpu(here.to("cuda"))
        assert not on_gpu(there.cpu())
        assert on_gpu(torch.zeros_like(there))
        assert on_gpu(here.to(there))
        for mistake in (lambda: here + there, lambda: torch.stack([there, here]), there.numpy):
            with pytest.raises((RuntimeError, TypeError)):
                mistake()


def test_training_and_detection_keep_to_their_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = optimise.start_gaussians
    monkeypatch.setattr(  # few of everything: the stand-in for the rasteriser is slow
        optimise, "start_gaussians", lambda *a, **k: start(*a, **k).map(lambda t: t[::8].clone())
    )
    monkeypatch.setattr(templates, "_DIRECTIONS", 40, raising=False)
    monkeypatch.setattr(stages, "_ADAM_FIRST", 2)
    monkeypatch.setattr(stages, "_ADAM_THEN", 2)
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(BRICK_DOG / "test" / "Burrs" / "0.png", images)
    with pretended_gpu(monkeypatch):
        model = train(
            TrainConfig(
                source=BRICK_DOG, model=tmp_path / "model", resolution=24, views_fraction=0.05,
                iterations=101, max_gaussians=60, holdout_every=9, device="cuda", backend="gsplat",
            )
        )  # fmt: skip
        found = detect(
            DetectConfig(model=model, images=images, device="cuda", backend="gsplat")
        )  # fmt: skip
    assert found.failures == []
    assert found.results["images"][0]["score"] is not None


def test_adapters_and_pose_equations_hand_over_what_cuda_wants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    g = torch.Generator().manual_seed(0)
    camera = Camera(torch.eye(4, dtype=torch.float64), 20.0, 20.0, 8.0, 8.0, 16, 16)
    camera.world_to_camera[2, 3] = 3.0
    with pretended_gpu(monkeypatch):
        cloud = Gaussians(
            means=0.3 * torch.randn(9, 3, generator=g), log_scales=torch.full((9, 3), -1.5),
            quaternions=torch.randn(9, 4, generator=g), opacity_logits=torch.zeros(9),
            sh=torch.randn(9, 4, 3, generator=g),
        ).map(lambda t: t.to("cuda"))  # fmt: skip
        target = torch.zeros(3, 16, 16, device="cuda")
        sums = cuda_pose.normal_sums(
            cloud, camera, camera.world_to_camera, target, torch.ones(3), 0.1
        )
        assert all(torch.isfinite(torch.tensor(sums.jtj)))
        points, covariances = graphdeco.in_camera_frame(
            cloud, camera.world_to_camera.to(cloud.means)
        )
        assert on_gpu(points)
        assert on_gpu(covariances)
        assert on_gpu(graphdeco.screen_to_ndc(torch.zeros(9, 2, device="cuda"), camera))


@pytest.mark.parametrize("name", ["loftr", "xfeat"])
def test_matching_networks_run_on_the_device_of_the_gaussians(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kornia = pytest.importorskip("kornia.feature")
    cloud, cameras = tiny_object(), orbit(3)
    images = [picture(cloud, camera) for camera in cameras]
    shapes = [visible(image) for image in images]
    gallery = build_gallery(cloud, cameras, images, shapes, WHITE, rendered_directions=0)
    query = picture(cloud, orbit(5)[2])
    monkeypatch.setattr(loftr, "load_loftr", lambda folder: loftr.make_loftr())
    monkeypatch.setattr(xfeat, "load_xfeat", lambda folder: kornia.XFeat().eval())
    found = {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        is_gpu = device == "cuda"
        with monkeypatch.context() as patch, pretended_gpu(patch) if is_gpu else nullcontext():
            there = cloud.map(lambda t, device=device: t.to(device))
            backend = "gsplat" if is_gpu else "reference"
            matcher = select_matcher(name, gallery, there, backend=backend).matcher  # type: ignore[arg-type]
            if is_gpu:
                assert all(map(on_gpu, matcher._model.parameters()))  # type: ignore[attr-defined]
            found[device] = matcher.coarse_poses(query.to(device), lens())
    for here, far in zip(found["cpu"], found["cuda"], strict=True):
        assert here.score == far.score
        assert torch.equal(here.world_to_camera, far.world_to_camera)

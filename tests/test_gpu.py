"""Checks on a real GPU: `pytest -m gpu`. Without one they are skipped and say so."""

import importlib.util

import pytest
import torch
from pose_scenes import WHITE, lens, orbit, picture, tiny_object

from gaussian_renderer import (
    BACKENDS,
    GaussianAdam,
    LearningRates,
    ObjectRenderer,
    backend_check,
    photometric_loss,
    pose_normal_equations,
    refusal,
    render,
    render_batch,
)
from scene import Gaussians
from scene.initialise import mean_squared_distances

pytestmark = pytest.mark.gpu
NAMES = [name for name, entry in BACKENDS.items() if "cuda" in entry.devices and entry.checked]


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend for GPUs that is installed here."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU: PyTorch sees no CUDA device")
    why = refusal(request.param, "cuda")
    if why.startswith("it needs"):
        pytest.skip(f"backend {request.param}: {why}")
    return str(request.param)


def on_gpu() -> Gaussians:
    return tiny_object().map(lambda tensor: tensor.to("cuda"))


def test_images_and_gradients_are_those_of_the_reference(backend: str) -> None:
    assert backend_check.disagreement(BACKENDS[backend].load(), "cuda") == ""


def test_pose_equations_are_those_of_the_reference(backend: str) -> None:
    camera, near = orbit(7)[1], orbit(60)[9]
    target = picture(tiny_object(), near).to("cuda")
    found, exact = (
        pose_normal_equations(on_gpu(), camera, target, WHITE.to("cuda"), backend=name)
        for name in (backend, "reference")
    )
    assert (found.jtr - exact.jtr).norm() < 0.02 * exact.jtr.norm()
    assert (found.jtj - exact.jtj).norm() < 0.15 * exact.jtj.norm()  # by rendering: 10 %
    assert found.loss == pytest.approx(exact.loss, rel=0.01)
    assert found.pixels == exact.pixels


def test_training_steps_lower_the_loss_as_on_the_cpu(backend: str) -> None:
    camera = orbit(7)[1]
    target = 0.8 * picture(tiny_object(), camera)
    ends = []
    for device, name in (("cuda", backend), ("cpu", "cpu")):
        cloud = tiny_object().map(lambda tensor, device=device: tensor.to(device)).requires_grad_()
        adam, aim, losses = GaussianAdam(cloud), target.to(device), []
        for _ in range(20):
            image = render(cloud, camera, WHITE.to(device), backend=name).image
            loss = photometric_loss(image, aim)
            losses.append(float(loss.detach()))
            loss.backward()
            adam.step(cloud, LearningRates(means=1e-3))
        assert losses[-1] < 0.97 * losses[0]
        ends.append(losses[-1])
    assert ends[0] == pytest.approx(ends[1], rel=0.05)


def test_a_batch_of_views_is_each_view(backend: str) -> None:
    views = torch.stack([camera.world_to_camera for camera in orbit(5)])
    model = ObjectRenderer(on_gpu(), WHITE.to("cuda"), backend)
    batch = render_batch(
        model.gaussians, lens(), views, model.background, backend=backend, depth=True, at_once=2
    )
    assert batch.depths is not None
    for number, camera in enumerate(orbit(5)):
        alone = model(camera, depth=True)
        torch.testing.assert_close(batch.images[number], alone.image, rtol=0, atol=1e-5)
        torch.testing.assert_close(batch.depths[number], alone.depth, rtol=0, atol=1e-4)


def test_neighbours_by_simple_knn_are_those_by_scipy() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU: PyTorch sees no CUDA device")
    if importlib.util.find_spec("simple_knn") is None:
        pytest.skip("simple-knn is not installed")
    points = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        mean_squared_distances(points, "cuda"), mean_squared_distances(points), rtol=1e-4, atol=1e-9
    )

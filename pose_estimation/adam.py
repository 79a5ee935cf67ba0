"""SplatPose's own refinement: Adam on a rigid motion of the object, through the renderer."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer, photometric_loss, render
from scene import Camera
from scene.se3 import screw_exp, twist_exp

from .settings import Schedule

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # the defaults of Kingma and Ba 2015
_START = 1e-3  # not zero, where the gradient of the screw's axis vanishes


class Adam:
    """Kingma and Ba 2015 for a handful of numbers: importing PyTorch's own takes seconds."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._first = [torch.zeros_like(parameter) for parameter in parameters]
        self._second = [torch.zeros_like(parameter) for parameter in parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Moves every parameter, in place, by at most about `rate`."""
        self._steps += 1
        short, long = (1 - beta**self._steps for beta in _BETAS)  # both averages began at zero
        for parameter, gradient, first, second in zip(
            self._parameters, gradients, self._first, self._second, strict=True
        ):
            first.lerp_(gradient, 1 - _BETAS[0])
            second.lerp_(gradient * gradient, 1 - _BETAS[1])
            parameter -= rate / short * first / ((second / long).sqrt() + _EPSILON)


def refine_screw(
    model: ObjectRenderer,
    camera: Camera,  # the lens of the query; its pose is not used
    image: Tensor,  # [3, H, W] the query
    start: Tensor,  # [4, 4] float64 world_to_camera, the coarse pose; the camera stays there
    centre: Tensor,  # [3] of the object, world: screws are expressed about it
    *,
    steps: int = 175,
    learning_rate: float = 0.001,
    schedule: Schedule = "constant",
    ssim_weight: float = 0.2,
) -> tuple[Tensor, list[float]]:
    """SplatPose, section 3: `steps` of Adam on (omega, v, theta) of eq. 4-6 with the loss of eq. 7.

    The object moves by screw_exp(omega, v, theta) about `centre` (the paper's objects lie at the
    origin, where this is the same). Returns the pose after the last step as world_to_camera [4, 4]
    float64, and the loss before every step.
    """
    like = model.gaussians.means
    # Only the direction of omega counts: a short one can still turn anywhere in the first steps.
    omega = torch.full((3,), _START, dtype=like.dtype, device=like.device, requires_grad=True)
    v = torch.zeros(3, dtype=like.dtype, device=like.device, requires_grad=True)
    theta = torch.tensor(_START, dtype=like.dtype, device=like.device, requires_grad=True)
    if schedule == "constant":
        rates = [learning_rate] * steps
    else:
        rates = [0.01 * 0.8 ** ((step + 1) / 100) for step in range(steps)]
    return _optimise(
        model, camera, image, start, centre, lambda: screw_exp(omega, v, theta), [omega, v, theta],
        rates, ssim_weight,
    )  # fmt: skip


def refine_twist(
    model: ObjectRenderer,
    camera: Camera,  # the lens of the query; its pose is not used
    image: Tensor,  # [3, H, W] the query
    start: Tensor,  # [4, 4] float64 world_to_camera
    centre: Tensor,  # [3] of the object, world
    radius: float,  # of the object: the unit of translations, so that one rate fits both halves
    *,
    steps: int = 60,
    learning_rate: float = 0.02,
    final_share: float = 0.1,
    ssim_weight: float = 0.2,
) -> tuple[Tensor, list[float]]:
    """Adam on the six components of a twist about `centre`, at a rate that falls to `final_share`.

    There is no axis to be found first, so it needs about a third of the steps of `refine_screw`.
    Returns as `refine_screw`.
    """
    like = model.gaussians.means
    twist = torch.zeros(6, dtype=like.dtype, device=like.device, requires_grad=True)
    unit = torch.tensor([1.0] * 3 + [radius] * 3).to(like, non_blocking=True)
    rates = [learning_rate * final_share ** (step / max(1, steps - 1)) for step in range(steps)]
    return _optimise(
        model,
        camera,
        image,
        start,
        centre,
        lambda: twist_exp(twist * unit),
        [twist],
        rates,
        ssim_weight,
    )


def _optimise(
    model: ObjectRenderer,
    camera: Camera,  # the lens of the query; its pose is not used
    image: Tensor,  # [3, H, W] the query
    start: Tensor,
    centre: Tensor,
    motion: Callable[[], Tensor],  # of the object about `centre`, [4, 4]
    parameters: Sequence[Tensor],
    rates: Sequence[float],  # one per step
    ssim_weight: float,
) -> tuple[Tensor, list[float]]:
    """The loop of both parametrisations."""
    camera = camera.at(start @ _shift(centre))
    to_centre = _shift(-centre).to(model.gaussians.means, non_blocking=True)
    optimiser = Adam(parameters)
    losses = []
    for rate in rates:
        shown = render(
            model.gaussians, camera, model.background, motion() @ to_centre,
            backend=model.backend, threads=model.threads,
        ).image  # fmt: skip
        loss = photometric_loss(shown, image, ssim_weight, model.backend, model.threads)
        losses.append(loss.detach())
        if not loss.requires_grad:  # nothing of the object is in the frame: nothing to follow
            break
        optimiser.step(torch.autograd.grad(loss, parameters), rate)
    final = motion().detach().to("cpu", torch.float64)
    return start @ _shift(centre) @ final @ _shift(-centre), torch.stack(losses).tolist()


def _shift(offset: Tensor) -> Tensor:
    """A pure translation, [4, 4] float64."""
    transform = torch.eye(4, dtype=torch.float64)
    transform[:3, 3] = offset
    return transform

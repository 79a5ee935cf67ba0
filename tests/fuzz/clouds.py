"""Extreme Gaussians, lenses, images and cotangents through everything that the CPU kernel does.

The rule: no crash, no hang; finite numbers out where finite numbers go in; Gaussians that are not
finite are not drawn; one thread and two give the same bits.
"""

import faulthandler
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gaussian_renderer.cpu import fused_adam, instruction_set, photometric_gradient
from gaussian_renderer.cpu.pose import pose_rows
from gaussian_renderer.cpu.rasteriser import rasterise
from gaussian_renderer.optimiser import AdamGroup
from scene import Camera, Gaussians, InputError

PATIENCE = 120  # seconds for one case, under a sanitizer on a busy machine
SIZES = [(1, 1), (1, 300), (517, 1), (3, 65), (32, 32), (65, 70), (97, 61), (200, 257), (640, 480)]
COUNTS = [0, 1, 2, 17, 40, 100, 300, 300, 1025, 3000]
FOCALS = [1e-6, 0.1, 20.0, 600.0, 1e5, 1e12, 1e30, 1e300, 0.0, -70.0, math.nan]
ODD = [math.nan, math.inf, -math.inf]
FAR = [1e3, 1e8, 3e9, 1e15, 1e19, 1e30, 3e38]
EXTREMES = {  # of each field, in place of its values
    "means": [0.0, -2.8, -2.7999, *FAR, *(-x for x in FAR), *ODD],
    "log_scales": [-1e30, -200.0, -88.0, -20.0, 3.0, 10.0, 22.0, 42.0, 88.0, 1e30, *ODD],
    "quaternions": [0.0, 1e-38, 1e-20, 1e-12, 1e10, 1e19, 3e38, *ODD],
    "opacity_logits": [-3e38, -1e30, -88.0, -5.55, 20.0, 88.0, 1e30, 3e38, *ODD],
    "sh": [-1e30, -1e3, 1e3, 1e17, 1e19, 1e30, 3e38, *ODD],
}


class Dice:
    """Random choices of one case."""

    def __init__(self, seed: int, case: int) -> None:
        self.generator = torch.Generator().manual_seed(1_000_003 * seed + case)

    def below(self, limit: int) -> int:
        return int(torch.randint(limit, (), generator=self.generator))

    def one(self, choices: list[Any]) -> Any:
        return choices[self.below(len(choices))]

    def mostly(self, ordinary: Any, extremes: list[Any]) -> Any:
        return self.one(extremes) if self.below(8) == 0 else ordinary

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)


@dataclass
class Case:
    """One set of inputs."""

    gaussians: Gaussians
    camera: Camera
    view: Tensor  # [4, 4]
    background: Tensor  # [C]
    colours: Tensor | None  # [N, C]
    depth: bool
    screen: Tensor  # [N, 2]
    cotangents: float  # their size
    target: Tensor  # [3, H, W]
    weights: Tensor | None  # [H, W]
    huber: float


def make(dice: Dice) -> Case:
    """Ordinary inputs with extreme values here and there."""
    width, height = dice.one(SIZES)
    count = dice.one(COUNTS)
    gaussians = _cloud(dice, count, degree=dice.below(4))
    fx, fy = dice.mostly(70.0, FOCALS), dice.mostly(75.0, FOCALS)
    centre = dice.mostly(0.5, [-0.2, 1e9, 1e30])
    view = torch.eye(4)
    view[:3, :3] = torch.linalg.qr(dice.normal(3, 3))[0] * dice.mostly(1.0, [0.0, 1e10])
    view[2, 3] = dice.mostly(3.0, [0.2, 0.0, 1e10, 3e38, math.nan])
    camera = Camera(view.double(), fx, fy, centre * width, centre * height, width, height)
    channels = dice.one([0, 0, 0, 1, 4, 6])
    colours = dice.uniform(count, channels) * dice.mostly(1.0, [1e16]) if channels else None
    return Case(
        gaussians, camera, view, dice.uniform(channels or 3) * dice.mostly(1.0, [1e30]),
        colours, depth=dice.below(2) == 0,
        screen=dice.mostly(0.0, [1e17, 1e20]) * dice.normal(count, 2),
        cotangents=dice.mostly(1.0, [1e-30, 1e12, 1e30]),
        target=dice.uniform(3, height, width) * dice.mostly(1.0, [300.0, 1e12, 1e38]),
        weights=dice.uniform(height, width) * dice.mostly(1.0, [0.0, 1e30])
        if dice.below(2)
        else None,
        huber=dice.mostly(0.1, [math.inf, 1e-30, 1e30]),
    )  # fmt: skip


def _cloud(dice: Dice, count: int, degree: int) -> Gaussians:
    gaussians = Gaussians(
        means=0.5 * dice.normal(count, 3),
        log_scales=0.5 * dice.normal(count, 3) - dice.one([0.5, 2.5, 5.0]),
        quaternions=dice.normal(count, 4),
        opacity_logits=2.0 * dice.normal(count),
        sh=0.4 * dice.normal(count, (degree + 1) ** 2, 3),
    )
    for _ in range(dice.below(4)):
        name, values = dice.one(list(EXTREMES.items()))
        tensor = getattr(gaussians, name)
        share = dice.one([0.01, 0.05, 0.3, 1.0])  # of its numbers, or of its rows
        chosen = dice.uniform(*(tensor.shape if dice.below(2) else tensor.shape[:1])) < share
        tensor[chosen] = dice.one(values)
    return gaussians


def run_case(case: Case, threads: int, dice: Dice) -> dict[str, Tensor]:
    """All that the kernel makes of it, named."""
    camera = case.camera
    leaves = case.gaussians.map(torch.clone).requires_grad_()
    view, screen = case.view.clone().requires_grad_(), case.screen.clone().requires_grad_()
    colours = None if case.colours is None else case.colours.clone().requires_grad_()
    image, alpha, depth, radii = rasterise(
        leaves, camera, view, case.background, colours, case.depth, screen, threads
    )
    outputs = [o for o in (image, alpha, depth) if o is not None]
    wanted = [o for o in outputs if dice.below(4)] or [image]
    torch.autograd.backward(wanted, [case.cotangents * dice.normal(*o.shape) for o in wanted])
    found = {"image": image.detach(), "alpha": alpha.detach(), "radii": radii}
    if depth is not None:
        found["depth"] = depth.detach()
    tensors = leaves.named_tensors() | {"view": view, "screen": screen}
    if colours is not None:
        tensors |= {"colours": colours}
    found |= {f"gradient of {k}": t.grad for k, t in tensors.items() if t.grad is not None}
    if colours is None:
        found["normal equations"] = pose_rows(
            case.gaussians, camera, view.detach()[None], case.target[None], case.background,
            case.huber, owners=torch.zeros(1, dtype=torch.int64),
            weights=None if case.weights is None else case.weights[None], threads=threads,
        )  # fmt: skip
        loss, gradient = photometric_gradient(image, case.target, threads=threads)
        found |= {"loss": torch.tensor(loss), "gradient of the loss": gradient}
    return found | _adam(leaves, threads)


def _adam(leaves: Gaussians, threads: int) -> dict[str, Tensor]:
    """Three steps from the gradients; numbers that were not finite before are left out."""
    state = {
        name: AdamGroup(t.detach().clone(), t.grad, torch.zeros_like(t), torch.zeros_like(t), 0.01)
        for name, t in leaves.named_tensors().items()
        if t.grad is not None
    }
    for step in (1, 2, 3):
        fused_adam([replace(g, gradient=g.gradient.contiguous()) for g in state.values()], step,
                   threads=threads)  # fmt: skip
    found = {f"first moment of {k}": g.first for k, g in state.items()}
    found |= {f"second moment of {k}": g.second for k, g in state.items()}
    before = leaves.named_tensors()
    return found | {f"{k} after Adam": g.values[before[k].isfinite()] for k, g in state.items()}


def broken_rules(case: Case, one: dict[str, Tensor], two: dict[str, Tensor]) -> list[str]:
    """What is wrong with the answers of one thread and of two."""
    wrong = [f"{name} is not finite" for name, t in one.items() if not t.isfinite().all()]
    wrong += [
        f"{name} differs with two threads"
        for name, t in one.items()
        if not torch.equal(t.nan_to_num(), two[name].nan_to_num())
    ]
    rows = [tensor[:, None].flatten(1).isfinite().all(dim=1) for tensor in _rows(case)]
    if (one["radii"][~torch.stack(rows).all(dim=0)] != 0).any():
        wrong.append("a Gaussian that is not finite is drawn")
    if one["alpha"].min() < 0 or one["alpha"].max() > 1.0001:
        wrong.append("alpha lies outside of 0 to 1")
    return wrong


def _rows(case: Case) -> list[Tensor]:
    """The tensors with a row for each Gaussian that is rendered."""
    tensors = case.gaussians.named_tensors()
    if case.colours is not None:
        tensors |= {"sh": case.colours}
    return [*tensors.values(), case.screen]


def run(cases: int, seed: int) -> int:
    """Runs the cases and prints what fails; the number printed last is that of a crash."""
    torch.set_num_threads(1)
    faulthandler.enable()
    failed = refused = drawn = 0
    for number in range(cases):
        print(f"clouds: case {number}", end="\r", flush=True)
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        case = make(Dice(seed, number))
        try:
            one, two = (run_case(case, threads, Dice(seed + 1, number)) for threads in (1, 2))
            wrong = broken_rules(case, one, two)
            drawn += int((one["radii"] > 0).any())
        except InputError as error:
            refused += 1
            wrong = [] if "do not fit" in str(error) else [f"refused: {error}"]
        faulthandler.cancel_dump_traceback_later()
        if wrong:
            failed += 1
            print(f"clouds: seed {seed}, case {number}: {'; '.join(wrong)}")
    print(f"clouds: {cases} cases of seed {seed} ({instruction_set()}): {failed} failed, "
          f"{refused} refused, Gaussians drawn in {drawn}")  # fmt: skip
    return failed

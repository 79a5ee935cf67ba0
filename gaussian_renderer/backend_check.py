"""Whether a backend computes what `reference` computes: tried once on every device, remembered.

Tolerances, float32 against float64 on a scene of 400 Gaussians whose opacities stay under 0.35, so
that few pixels lie at the cuts in which backends differ (docs/gpu.md): maps may differ by 1e-3 of
their scale, and by 1e-2 in one value of two hundred, where splats end at alpha = 1/255 or, with
graphdeco, up to a pixel earlier; gradients and sums may differ by 1 % (relative L2).
"""

import functools
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scene import Camera, Gaussians
from scene.se3 import twist_exp

from .backend import Backend, one_by_one
from .outcomes import remember, remembered
from .variants import Variants

_MAP, _FAR_MAP, _FAR_SHARE = 1e-3, 1e-2, 5e-3
_NORM = 1e-2
_OPACITY_MAX = 0.35
_MAPS = ("image", "alpha", "depth")


def objection(name: str, package: str, load: Callable[[], Backend], device: str) -> str:
    """Why the backend must not be used on this device, as one clause; empty if it agrees.

    What was measured is remembered on disk. What raised is tried again by the next process, since
    its cause may be gone by then, unless it took the device with it.
    """
    key = f"{name} {_version(package)}, torch {torch.__version__}, {_device_name(device)}"
    known = remembered()
    if key in known:
        return known[key]
    try:
        why = disagreement(load(), device)
    except Exception as error:  # whatever a foreign package raises: another backend takes over
        lines = str(error).strip().splitlines() or [""]
        why = f"it raised {type(error).__name__}: {lines[0]}"
        if _works(device):
            return why
    remember({**known, key: why})
    return why


def disagreement(backend: Backend, device: str) -> str:
    """The first thing in which a backend is too far from the reference; empty if there is none."""
    scene = _scene(device, torch.float32)
    for compute in (_one_view, _many_views, _pose_equations, _loss, _adam_step):
        for name, value in compute(backend, scene).items():
            if why := _too_far(name, value.detach().double(), _expected(device)[name]):
                return why
    return ""


@functools.cache
def _expected(device: str) -> dict[str, Tensor]:
    """Everything that is compared, by the reference in float64."""
    from .reference import BACKEND as reference

    scene = _scene(device, torch.float64)
    parts = [
        compute(replace(reference, rasterise_views=one_by_one(reference.rasterise)), scene)
        for compute in (_one_view, _many_views, _pose_equations, _loss, _adam_step)
    ]
    return {name: value.detach() for part in parts for name, value in part.items()}


@dataclass(frozen=True)
class _Scene:
    gaussians: Gaussians
    camera: Camera  # its principal point is off the centre
    views: Tensor  # [2, 4, 4]
    background: Tensor  # [3]

    def random(self, *shape: int) -> Tensor:
        """The same numbers for every type."""
        g = torch.Generator().manual_seed(1)
        return torch.rand(*shape, generator=g).to(self.gaussians.means)


def _scene(device: str, dtype: torch.dtype, count: int = 400) -> _Scene:
    g = torch.Generator().manual_seed(0)
    gaussians = Gaussians(
        means=0.5 * torch.randn(count, 3, generator=g),
        log_scales=-2.8 + 0.5 * torch.randn(count, 3, generator=g),
        quaternions=torch.randn(count, 4, generator=g),
        opacity_logits=torch.logit(0.02 + (_OPACITY_MAX - 0.03) * torch.rand(count, generator=g)),
        sh=0.4 * torch.randn(count, 16, 3, generator=g),
    ).map(lambda t: t.to(device, dtype))
    twists = torch.tensor([[0.1, 0.4, -0.2, 0.1, -0.05, 3.0], [-0.3, 0.2, 0.1, 0.0, 0.1, 3.2]])
    views = twist_exp(twists.double())
    camera = Camera(views[0], 114.0, 108.0, 49.2, 37.8, 96, 77)
    background = torch.tensor([0.9, 0.6, 0.3])
    return _Scene(gaussians, camera, views.to(device, dtype), background.to(device, dtype))


def _one_view(backend: Backend, scene: _Scene) -> dict[str, Tensor]:
    """Image, alpha, depth; gradients of all parameters, the pose and the projected means."""
    leaves = scene.gaussians.map(lambda t: t.clone().requires_grad_(True))
    view = scene.views[0].clone().requires_grad_(True)
    screen = torch.zeros_like(scene.gaussians.means[:, :2]).requires_grad_(True)
    with torch.enable_grad():
        image, alpha, depth, _ = backend.rasterise(
            leaves, scene.camera, view, scene.background, None, True, screen, 1
        )
        assert depth is not None
        maps = {"image": image, "alpha": alpha, "depth": depth}
        loss = torch.stack([(m * (scene.random(*m.shape) - 0.3)).sum() for m in maps.values()])
        tensors = {**leaves.named_tensors(), "pose": view, "projected means": screen}
        gradients = torch.autograd.grad(loss.sum(), list(tensors.values()))
    named = zip(tensors, gradients, strict=True)
    return maps | {f"gradient of the {name}": gradient for name, gradient in named}


def _variants(scene: _Scene) -> Variants:
    """Two, of which each hides a third of the Gaussians."""
    count = len(scene.gaussians)
    visible = torch.arange(2 * count, device=scene.views.device).reshape(2, count) % 3 > 0
    logits = scene.gaussians.opacity_logits.expand(2, -1) - 0.3
    return Variants(
        scene.gaussians, visible, logits, 0.5 * scene.gaussians.sh[:, 0].expand(2, -1, -1)
    )


def _many_views(backend: Backend, scene: _Scene) -> dict[str, Tensor]:
    """Images of two variants in one call, and the gradient of their poses."""
    if backend.rasterise_views is None:
        return {}
    views = scene.views.clone().requires_grad_(True)
    owners = torch.tensor([1, 0], device=views.device)
    with torch.enable_grad():
        images = backend.rasterise_views(
            scene.gaussians, scene.camera, views, scene.background,
            variants=_variants(scene), owners=owners,
        ).images  # fmt: skip
        (gradient,) = torch.autograd.grad((images * scene.random(*images.shape)).sum(), views)
    return {"image of many views": images, "gradient of the poses of many views": gradient}


def _pose_equations(backend: Backend, scene: _Scene) -> dict[str, Tensor]:
    """J^T W J, J^T W r and the other sums of the two variants."""
    if backend.pose_rows is None:
        return {}
    rows = backend.pose_rows(
        scene.gaussians, scene.camera, scene.views,
        scene.random(2, 3, scene.camera.height, scene.camera.width), scene.background, 0.3,
        owners=torch.tensor([0, 1], device=scene.views.device), variants=_variants(scene),
    )  # fmt: skip
    parts = rows.split([36, 6, 4], dim=1)
    return dict(zip(("J^T W J of the pose", "J^T W r of the pose", "loss of the pose"), parts,
                    strict=True))  # fmt: skip


def _loss(backend: Backend, scene: _Scene) -> dict[str, Tensor]:
    """The photometric loss and its gradient."""
    if backend.photometric_loss is None:
        return {}
    target = scene.random(3, 40, 50)
    image = (0.7 * target + 0.3 * target.flip(2)).requires_grad_(True)
    with torch.enable_grad():
        loss = backend.photometric_loss(image, target, 0.2)
        (gradient,) = torch.autograd.grad(loss, image)
    return {"photometric loss": loss, "gradient of the photometric loss": gradient}


def _adam_step(backend: Backend, scene: _Scene) -> dict[str, Tensor]:
    """What two steps of Adam change."""
    from .optimiser import AdamGroup

    if backend.adam is None:
        return {}
    values = scene.random(50, 4, 3)
    before, zero = values.clone(), torch.zeros_like(values)
    group = AdamGroup(values, values - 0.4, zero, zero.clone(), [0.1] * 3 + [0.01] * 9)
    for step in (1, 2):
        backend.adam([group], step)
    return {"step of Adam": group.values - before}


def _too_far(name: str, found: Tensor, expected: Tensor) -> str:
    """Why two results do not agree; empty if they do."""
    if found.shape != expected.shape:
        return f"its {name} has shape {list(found.shape)} instead of {list(expected.shape)}"
    off = (found - expected).abs()
    if not bool(torch.isfinite(off).all()):
        return f"its {name} is not finite"
    if name.startswith(_MAPS):
        off = off / expected.abs().max().clamp_min(1.0)
        many, most = float(off.flatten().quantile(1 - _FAR_SHARE)), float(off.max())
        if many <= _MAP and most <= _FAR_MAP:
            return ""
        return f"its {name} is off by up to {most:.2g} of the reference's scale"
    relative = float(off.norm() / expected.norm().clamp_min(1e-12))
    if relative <= _NORM:
        return ""
    return f"its {name} is {relative:.1%} off the reference's ({_NORM:.0%} is allowed)"


def _works(device: str) -> bool:
    """Whether the device still computes: a faulty kernel can take it down for the whole process."""
    try:
        return float(torch.ones(1, device=device).sum()) == 1.0
    except Exception:  # whatever a device raises that is gone
        return False


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device

"""Every instruction set gives the same pictures, and a kernel from elsewhere is refused."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cpu_scenes import cloud, differentiate, relative_error
from test_template_matching import responses

from gaussian_renderer.cpu import native, photometric_gradient
from gaussian_renderer.cpu.templates import template_peaks
from scene import InputError

ROOT = Path(__file__).parent.parent
AGREEMENT = 1e-5  # relative L2 between variants: they round differently, the algorithm is one
LOSS_AGREEMENT = 5e-5  # of the loss's gradient: each variant starts from its own picture

_RUN = """
import sys
import torch
from cpu_scenes import cloud, differentiate
from gaussian_renderer.cpu import instruction_set, photometric_gradient
from gaussian_renderer.cpu.templates import template_peaks
from test_template_matching import responses
torch.set_num_threads(1)
found = differentiate(cloud(degree=3), "cpu", depth=True)
image = found.rendering.image.detach()
loss, gradient = photometric_gradient(image, image.flip(2).contiguous())
saved = found.gradients | {"image": image, "loss": torch.tensor(loss), "loss_gradient": gradient}
best, where = template_peaks(*responses(40, 512))
saved |= {"best": torch.from_numpy(best), "where": torch.from_numpy(where)}
torch.save(saved, sys.argv[1])
print(instruction_set())
"""


def _variant(name: str, out: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """Runs the scene in a process of its own; skips when the processor lacks the variant."""
    environment = os.environ | {
        "SPLATPOSE_ISA": name,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(out)],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "cannot run here" in done.stderr:
        pytest.skip(f"this processor does not have {name}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), torch.load(out, weights_only=True)


@pytest.mark.parametrize("name", ["v4", "v3", "generic"])
def test_variants_agree(name: str, tmp_path: Path) -> None:
    chosen, saved = _variant(name, tmp_path / "saved.pt")
    assert chosen == name
    here = differentiate(cloud(degree=3), "cpu", depth=True)
    assert relative_error(saved["image"], here.rendering.image) < AGREEMENT
    for key, gradient in here.gradients.items():
        assert relative_error(saved[key], gradient) < AGREEMENT, key
    image = here.rendering.image.detach()
    loss, gradient = photometric_gradient(image, image.flip(2).contiguous())
    assert float(saved["loss"]) == pytest.approx(loss, rel=AGREEMENT)
    best, where = template_peaks(*responses(40, 512))
    assert np.array_equal(saved["best"], best)
    assert np.array_equal(saved["where"], where)
    assert relative_error(saved["loss_gradient"], gradient) < LOSS_AGREEMENT


def test_a_kernel_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    native.kernel.cache_clear()
    monkeypatch.setattr(native, "INTERFACE", native.INTERFACE + 1)
    with pytest.raises(InputError, match=r"another version: run pip install \. again"):
        native.kernel()
    native.kernel.cache_clear()


def test_a_missing_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    native.kernel.cache_clear()
    monkeypatch.setitem(sys.modules, "splatpose_cpu", None)
    with pytest.raises(InputError, match="not installed: run pip install"):
        native.kernel()
    native.kernel.cache_clear()

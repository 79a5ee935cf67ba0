"""The registry: what `auto` takes, who is passed over and why; one entry adds a backend."""

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cut_reference
import pytest
import torch
from cpu_scenes import camera, cloud
from other_backends import registered

import doctor
from gaussian_renderer import (
    BACKENDS,
    available_backends,
    backend_check,
    backends,
    choose_device,
    outcomes,
    reference,
    render,
    select_backend,
)
from gaussian_renderer.backend import Backend, Outputs
from gaussian_renderer.losses import photometric_loss_reference
from scene import InputError

ROOT = Path(__file__).parent.parent
HONEST = replace(reference.BACKEND, name="mine")


@pytest.fixture(scope="module", autouse=True)
def few_gaussians() -> Iterator[None]:
    """A check that takes less time."""
    with pytest.MonkeyPatch.context() as patch:
        small = functools.partial(backend_check._scene, count=60)
        patch.setattr(backend_check, "_scene", small)
        backend_check._expected.cache_clear()
        yield
    backend_check._expected.cache_clear()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of outcomes."""
    path = tmp_path / "cache" / "backend_checks.json"
    monkeypatch.setattr(outcomes, "cache_file", lambda: path)
    backends.forget()
    yield path
    backends.forget()


def with_wrong(what: str) -> Backend:
    """The reference, but for one thing that is 10 % off."""

    def rasterise(gaussians, camera, view, *rest: Any) -> Outputs:  # type: ignore[no-untyped-def]
        if what == "gradient":  # of the pose: its image is right
            view = 1.1 * view - 0.1 * view.detach()
        image, *others = reference.rasterise(gaussians, camera, view, *rest)
        return (0.9 * image if what == "image" else image), *others  # type: ignore[return-value]

    def loss(*arguments: Any) -> torch.Tensor:
        return 1.1 * photometric_loss_reference(*arguments)

    def adam(groups, step, *rest: Any) -> None:  # type: ignore[no-untyped-def]
        reference.BACKEND.adam([replace(g, rate=0.12) for g in groups], step)  # type: ignore[misc]

    def pose_rows(*arguments: Any, **named: Any) -> torch.Tensor:
        return reference.pose_rows(*arguments, **named).flip(0)

    wrong = {"loss": {"photometric_loss": loss}, "adam": {"adam": adam},
             "pose": {"pose_rows": pose_rows}}  # fmt: skip
    return replace(HONEST, rasterise=rasterise, **wrong.get(what, {}))  # type: ignore[arg-type]


def failing() -> Backend:
    raise OSError("libcudart.so.12: cannot open shared object file\nand more")


def test_an_entry_adds_a_backend_that_auto_then_takes() -> None:
    with registered("mine", lambda: HONEST, checked=True):
        assert select_backend().name == "mine"
        assert available_backends()[0] == "mine"
        assert choose_device()[1] == "backend mine (no GPU found)" or torch.cuda.is_available()
        with pytest.raises(InputError, match="choose one of auto, mine, "):
            select_backend("yours")
    assert "mine" not in available_backends()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("image", "its image is off by up to"),
        ("gradient", "its gradient of the pose is 10.0% off"),
        ("pose", "its J^T W J of the pose is"),
        ("loss", "its photometric loss is 10.0% off"),
        ("adam", "its step of Adam is"),
    ],
)
def test_a_backend_that_is_wrong_is_passed_over_and_named(what: str, words: str) -> None:
    with registered("mine", lambda: with_wrong(what), checked=True):
        assert "mine" not in available_backends()
        assert select_backend().name == available_backends()[0] != "mine"
        with pytest.raises(InputError) as raised:
            select_backend("mine")
    assert f"backend 'mine' cannot run on cpu: {words}" in str(raised.value)


def test_a_backend_that_raises_is_passed_over_and_tried_again_by_the_next_process(
    cache: Path,
) -> None:
    with registered("mine", failing, checked=True):
        assert "mine" not in available_backends()
        with pytest.raises(InputError, match=r"it raised OSError: libcudart.so.12: cannot open"):
            render(cloud(3), camera(), torch.ones(3), backend="mine")
    assert not cache.exists()


def test_outcomes_are_remembered_until_the_sources_change(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registered("mine", lambda: with_wrong("loss"), checked=True):
        assert "mine" not in available_backends()
    assert [torch.__version__ in key for key in json.loads(cache.read_text())["outcomes"]] == [True]
    with registered("mine", failing, checked=True), pytest.raises(InputError, match="loss"):
        select_backend("mine")  # without loading it
    monkeypatch.setattr(outcomes, "sources", lambda: "others")
    with registered("mine", failing, checked=True), pytest.raises(InputError, match="OSError"):
        select_backend("mine")


@pytest.mark.parametrize("content", ["{", "[]", '{"sources": 3}'])
def test_a_damaged_cache_is_no_error(content: str, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text(content)
    with registered("mine", lambda: HONEST, checked=True):
        assert select_backend().name == "mine"
    assert list(json.loads(cache.read_text())["outcomes"].values()) == [""]


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path) -> None:
    cache.parent.write_text("a file where the folder should be")
    with registered("mine", lambda: HONEST, checked=True):
        assert select_backend().name == "mine"


def test_the_earlier_cut_of_graphdeco_is_within_the_tolerances() -> None:
    cut = Backend("cut", cut_reference.rasterise)
    found = backend_check._one_view(cut, backend_check._scene("cpu", torch.float32, count=2000))
    exact = backend_check._one_view(
        reference.BACKEND, backend_check._scene("cpu", torch.float64, count=2000)
    )
    assert (found["image"] - exact["image"]).abs().max() > 1e-3  # it is felt
    for name, value in found.items():
        assert backend_check._too_far(name, value, exact[name]) == ""


def test_the_cpu_kernel_agrees_in_everything_that_is_checked() -> None:
    assert backend_check.disagreement(select_backend("cpu"), "cpu") == ""


def test_what_others_have_proven_comes_first_on_a_gpu() -> None:
    on_gpu = [name for name, entry in BACKENDS.items() if "cuda" in entry.devices]
    assert on_gpu == ["gsplat", "graphdeco", "triton", "reference"]
    assert [name for name in on_gpu if not BACKENDS[name].checked] == ["reference"]


def test_without_its_package_a_backend_is_refused_by_name() -> None:
    if not backends.missing("gsplat"):
        pytest.skip("gsplat is installed here")
    with pytest.raises(InputError, match="cannot run on cuda: it needs the package 'gsplat'"):
        select_backend("gsplat", "cuda")


def test_help_and_doctor_take_the_names_from_the_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = (
        "import sys, gaussian_renderer as g\n"
        "g.register('mine', g.Registration(lambda: None, 'torch', ('cuda',)))\n"
        "sys.argv = ['detect.py', '--help']\n"
        "import detect; detect.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    words = " ".join(done.stdout.replace("│", " ").split())
    assert "auto, mine, gsplat, graphdeco, triton, cpu or reference" in words, done.stderr
    mine = replace(BACKENDS["gsplat"], package="nowhere_to_be_found", remedy="pip install it")
    monkeypatch.setitem(BACKENDS, "mine", mine)
    found = {finding.what: finding for finding in doctor.check_gpu_backends()}
    assert found["backend mine"].state == "it needs the package 'nowhere_to_be_found'"
    assert found["backend mine"].remedy == "pip install it"
    assert set(found) == {f"backend {n}" for n in ("gsplat", "graphdeco", "triton", "mine")}


PROBE = """
import sys
import torch
before = set(sys.modules)
import anomaly, gaussian_renderer, pose_estimation, scene
import train, detect
from gaussian_renderer import photometric_loss, render
from scene import Camera, Gaussians
camera = Camera(torch.eye(4, dtype=torch.float64), 20.0, 20.0, 8.0, 8.0, 16, 16)
g = Gaussians(torch.tensor([[0.0, 0.0, 2.0]]), torch.full((1, 3), -1.0),
              torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.ones(1), torch.ones(1, 1, 3))
g.requires_grad_()
image = render(g, camera, torch.ones(3)).image
photometric_loss(image, torch.zeros_like(image)).backward()
assert g.means.grad is not None
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(" ".join(sorted(loaded)))
"""


def test_training_on_the_cpu_loads_no_gpu_package() -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    never = {"gsplat", "diff_gaussian_rasterization", "simple_knn", "triton"}
    assert not never & set(result.stdout.split())


@pytest.mark.parametrize(
    ("refused", "line"),
    [
        ({}, "backend gsplat (on RTX of the test)"),
        (
            {"gsplat": "its image is off"},
            "backend graphdeco (on RTX of the test; gsplat is passed over: its image is off)",
        ),
        (
            dict.fromkeys(("gsplat", "graphdeco", "triton"), "it raised OSError: no driver"),
            "backend cpu (a GPU is there, but no backend for it can run; "
            "gsplat is passed over: it raised OSError: no driver; "
            "graphdeco is passed over: it raised OSError: no driver; "
            "triton is passed over: it raised OSError: no driver)",
        ),
    ],
)
def test_on_a_gpu_one_line_says_which_backend_runs_and_why_others_do_not(
    refused: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(name: str, device: str) -> str:
        return refused.get(name, "" if device in BACKENDS[name].devices else "it runs elsewhere")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "RTX of the test")
    monkeypatch.setattr(backends, "refusal", functools.cache(refusal))
    monkeypatch.setattr(backends, "missing", functools.cache(lambda name: ""))
    monkeypatch.setattr(backends, "_load", functools.cache(lambda name: replace(HONEST, name=name)))
    backends._usable.cache_clear()
    try:
        device, words = choose_device()
        assert words == line
        assert device.type == ("cpu" if "backend cpu" in line else "cuda")
        if refused:
            with pytest.raises(InputError, match="backend 'gsplat' cannot run on cuda: it"):
                choose_device(backend="gsplat")
    finally:
        backends._usable.cache_clear()

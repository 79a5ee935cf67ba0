"""benchmarks/gpu_check.py as far as a machine without a GPU can run it."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu_check, gpu_paths, gpu_steps
from benchmarks.gpu_table import table, within_limits
from gaussian_renderer import available_backends

MACHINE = {"gpu": "GPU of the test", "capability": "8.9", "cuda": "0", "torch": "0", "commit": "0"}


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_comparison_accepts_what_is_right(backend: str) -> None:
    if backend not in available_backends("cpu"):
        pytest.skip("the CPU kernel is not installed")
    found = gpu_steps.compare_backend(backend, device="cpu")
    assert within_limits(found)
    assert found["image_max"] < 1e-4
    assert set(found["gradients"]) == {
        "means", "log_scales", "quaternions", "opacity_logits", "sh", "view", "screen",
    }  # fmt: skip


def test_the_comparison_refuses_a_wrong_gradient() -> None:
    found = {"image_max": 1e-5, "gradients": {"means": 1e-4, "view": 0.02}}
    assert not within_limits(found)
    assert not within_limits({"image_max": 1e-5, "gradients": {"view": float("nan")}})
    assert not within_limits({"image_max": 2e-3, "gradients": {"view": 1e-4}})


def test_a_step_that_fails_is_told_and_does_not_stop_the_check() -> None:
    found = gpu_check.run_step("build", ["no such package"], 60)
    assert found["error"].startswith("status 1")
    assert "no such package" in found["error"]


def test_a_step_that_hangs_is_stopped() -> None:
    started = time.monotonic()
    found = gpu_check.run_step("compare", ["reference", "cpu"], 0.2)
    assert "was stopped" in found["error"]
    assert time.monotonic() - started < 10


def test_an_empty_submodule_is_named() -> None:
    if any((gpu_steps.ROOT / "submodules" / "simple-knn").glob("setup.py")):
        pytest.skip("the submodule has been fetched")
    assert "git submodule update --init" in gpu_steps.build("simple_knn")["state"]


def test_without_a_gpu_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = gpu_check.CheckConfig(json=tmp_path / "found.json")
    assert gpu_check.check(config) == 2
    assert "no GPU" in capsys.readouterr().err
    assert not config.json.exists()


def test_a_whole_check_with_recorded_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ms = {"median": 1.5, "min": 1.4, "max": 2.0}
    by = {"means": 1e-4, "view": 2e-4}
    recorded: dict[str, dict[str, Any]] = {
        "compare": {"image_max": 1e-5, "alpha_max": 1e-5, "depth_max": 1e-5, "gradients": by},
        "loss": {"gradient": 1e-5},
        "half": {
            "largest_relative_change": 1e-4, "same_to_3_digits": True, "single_ms": ms,
            "half_ms": ms,
        },
        "train": {
            "training_seconds": 20.0, "held_out_quality": {"psnr": 38.0}, "n_gaussians": 9,
            "training_peak_mib": 900.0, "hot_paths": {"forward_loss_backward_ms": ms},
            "detection": {"image_auroc": 0.9, "seconds": {"coarse": 0.1, "total": 0.25}},
        },
    }  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_check, "machine", lambda: dict(MACHINE))
    monkeypatch.setattr(gpu_check, "_is_there", lambda run, config, name: name == "gsplat")
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    monkeypatch.setattr(gpu_check, "run_step", lambda name, a, s: dict(recorded[name]))
    config = gpu_check.CheckConfig(json=tmp_path / "found.json", build=False, paper_iterations=0)
    assert gpu_check.check(config) == 0
    document = json.loads(config.json.read_text())
    assert document["good"]
    assert list(document["steps"]) == [
        "compare gsplat", "default gsplat", "loss", "half precision",
    ]  # fmt: skip
    out = capsys.readouterr().out
    assert out.strip() == table(document)
    assert "| gsplat | 1.0e-05 | 1.0e-05 | 1.0e-05 | 2.0e-04 view | ok |" in out
    assert "| default gsplat | 20.0 | 38.00 | 900 | 0.100, -, - | 4.0 | 0.9000 |" in out
    assert "scores unchanged to 3 digits (at most 1.0e-04)" in out
    assert os.environ["TORCH_CUDA_ARCH_LIST"] == "8.9"
    recorded["compare"]["gradients"]["view"] = 1.0
    assert gpu_check.check(config) == 1


def test_steps_beyond_the_time_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_check, "machine", dict)
    run = gpu_check.Check(gpu_check.CheckConfig(json=tmp_path / "found.json", minutes=0))
    assert "left out" in run.step("late", "loss", limit=60)["error"]


def test_what_is_missing_is_left_out_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_check, "machine", lambda: dict(MACHINE))
    monkeypatch.setattr(gpu_check, "PACKAGES", dict.fromkeys(gpu_check.PACKAGES, "no_such_module"))
    monkeypatch.setattr(gpu_check, "run_step", lambda name, a, s: {"gradient": 0.0})
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.9")
    assert gpu_check.check(gpu_check.CheckConfig(json=tmp_path / "found.json")) == 1
    out = capsys.readouterr().out
    assert "build gsplat: left out: not installed, and no nvcc to build it: conda install" in out
    assert "build simple_knn: left out" in out


def test_a_check_that_is_cut_off_leaves_what_it_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_check, "machine", lambda: dict(MACHINE))
    monkeypatch.setattr(gpu_check, "_is_there", lambda run, config, name: False)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.9")

    def step(name: str, arguments: list[Any], seconds: float) -> dict[str, Any]:
        if name == "half":
            raise KeyboardInterrupt
        return {"error": "wrong"}

    monkeypatch.setattr(gpu_check, "run_step", step)
    with pytest.raises(KeyboardInterrupt):
        gpu_check.check(gpu_check.CheckConfig(json=tmp_path / "found.json"))
    assert list(json.loads((tmp_path / "found.json").read_text())["steps"]) == ["loss"]
    assert "loss: wrong" in capsys.readouterr().out


def test_half_precision_is_compared_or_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert gpu_paths.half_precision("cpu")["state"].startswith("left out: no weights")
    network = pytest.importorskip("efficientnet_pytorch").EfficientNet.from_name("efficientnet-b4")
    found = gpu_paths.half_precision("cpu", network)
    assert 0 < found["largest_relative_change"] < 0.2  # bfloat16: some change, the same network

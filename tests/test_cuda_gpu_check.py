"""benchmarks/gpu_check.py as far as a machine without a GPU can run it."""

import json
import os
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu_check, gpu_paths, gpu_run, gpu_steps
from benchmarks.gpu_table import table, within_limits
from gaussian_renderer import available_backends
from scene import InputError

MACHINE = {"gpu": "GPU of the test", "capability": "8.9", "cuda": "0", "torch": "0", "commit": "0"}


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_comparison_accepts_what_is_right(backend: str) -> None:
    if backend not in available_backends("cpu"):
        pytest.skip("the CPU kernel is not installed")
    found = gpu_steps.compare_backend(backend, device="cpu")
    assert within_limits(found)
    assert found["image_max"] < 1e-4
    assert found["same_bits"]
    assert set(found["gradients"]) == {
        "means", "log_scales", "quaternions", "opacity_logits", "sh", "view", "screen",
    }  # fmt: skip


def test_the_comparison_refuses_what_is_wrong() -> None:
    right = {"image_max": 3e-3, "image_far": 1e-4, "gradients": {"means": 1e-4, "view": 1e-4}}
    assert within_limits(right)
    assert not within_limits(right | {"gradients": {"means": 1e-4, "view": 0.02}})
    assert not within_limits(right | {"gradients": {"view": float("nan")}})
    assert not within_limits(right | {"image_max": 2e-2})
    assert not within_limits(right | {"image_max": float("nan")})
    assert not within_limits(right | {"image_far": 2e-3})


def test_a_step_that_fails_is_told_and_does_not_stop_the_check() -> None:
    found = gpu_run.run_step("build", ["no such package"], 60)
    assert found["error"].startswith("status 1")
    assert "no such package" in found["error"]


def test_a_step_that_hangs_is_stopped() -> None:
    started = time.monotonic()
    found = gpu_run.run_step("compare", ["reference", "cpu"], 0.2)
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
    config = gpu_run.CheckConfig(json=tmp_path / "found.json")
    assert gpu_run.check(config) == 2
    assert "no GPU" in capsys.readouterr().err
    assert not config.json.exists()


def test_waits_are_counted_as_pytorch_warns_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def twice() -> None:
        for message in (gpu_paths._WAITED, "something else", gpu_paths._WAITED):
            warnings.warn(message, stacklevel=1)

    assert gpu_paths.device_waits(twice) == 2
    assert modes == ["warn", "default"]


def test_a_whole_check_with_recorded_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ms = {"median": 1.5, "min": 1.4, "max": 2.0}
    by = {"means": 1e-4, "view": 2e-4}
    recorded: dict[str, dict[str, Any]] = {
        "compare": {
            "image_max": 1e-5, "image_far": 0, "alpha_max": 1e-5, "depth_max": 1e-5,
            "gradients": by, "same_bits": True,
        },
        "loss": {"gradient": 1e-5},
        "half": {
            "largest_relative_change": 1e-4, "same_to_3_digits": True, "single_ms": ms,
            "half_ms": ms,
        },
        "train": {
            "training_seconds": 20.0, "held_out_quality": {"psnr": 38.0}, "n_gaussians": 9,
            "peak_mib": 900.0,
        },
        "detect": {"image_auroc": 0.9, "seconds": {"coarse": 0.1, "total": 0.25}},
        "batches": {
            size: {
                "queries_per_second": 4.0 * int(size), "peak_mib": 100.0, "rotation_deg": 1e-4,
                "mean_ms": {"coarse": 20.0, "refine": 200.0, "score": 5.0}, "position": 1e-5,
                "relative_score": 1e-5, "other_verdicts": 0, "waits_per_batch": 37,
            }
            for size in ("1", "4")
        },
        "hot": {"forward_loss_backward_ms": ms},
        "settings": {"blending": {"8, 4": {"forward": 0.5, "both": 1.5}},
                     "pose": {"2, 8": {"forward": 0.25}}},
    }  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_run, "machine", lambda: dict(MACHINE))
    monkeypatch.setattr(gpu_run, "_is_there", lambda run, config, name: name == "triton")
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    monkeypatch.setattr(gpu_run, "run_step", lambda name, a, s: dict(recorded[name]))
    config = gpu_run.CheckConfig(json=tmp_path / "found.json", build=False, paper_iterations=0)
    assert gpu_run.check(config) == 0
    document = json.loads(config.json.read_text())
    assert document["good"]
    assert list(document["steps"]) == [
        "compare triton", "default triton", "detect triton", "batches triton", "hot paths triton",
        "loss", "half precision", "settings triton",
    ]  # fmt: skip
    out = capsys.readouterr().out
    assert out.strip() == table(document)
    assert "| triton | 1.0e-05 | 1.0e-05 | 1.0e-05 | 2.0e-04 view | yes | ok |" in out
    assert "| default triton | 20.0 | 38.00 | 900 | 0.100, -, - | 4.0 | 0.9000 |" in out
    assert "| 4 | 16.0 | 20.0, 200.0, 5.0 | 100 | 37 | 1.0e-04 deg, 1.0e-05 | 1.0e-05 | ok |" in out
    assert "| blending | 8, 4 | 0.500 | 1.500 |" in out
    assert "| pose | 2, 8 | 0.250 | - |" in out
    assert "scores unchanged to 3 digits (at most 1.0e-04)" in out
    assert os.environ["TORCH_CUDA_ARCH_LIST"] == "8.9"
    recorded["batches"]["4"]["other_verdicts"] = 1
    assert gpu_run.check(config) == 1
    assert "OTHER RESULTS" in capsys.readouterr().out
    recorded["batches"]["4"]["other_verdicts"] = 0
    recorded["compare"]["gradients"]["view"] = 1.0
    assert gpu_run.check(config) == 1


def test_without_the_packages_one_sentence_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "REQUIRED", {"torch": "torch", "no_such_module": "tyro"})
    with pytest.raises(SystemExit) as ended:
        gpu_check.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: tyro missing: pip install -r requirements")


def test_the_cause_is_taken_from_the_log() -> None:
    pip = "Collecting gsplat\nERROR: no version found\nerror: pip could not install gsplat==1.5.3"
    assert gpu_run.cause(pip) == "error: pip could not install gsplat==1.5.3"
    build = """[2/9] nvcc -c a.cu
a.cu(12): error: identifier "uint32_t" is undefined
1 error detected
ninja: build stopped: subcommand failed.
Traceback (most recent call last):
  File "x.py", line 1, in <module>
RuntimeError: Error building extension 'gsplat_cuda': [1/9] nvcc
[2/9] nvcc -c a.cu
"""
    words = gpu_run.cause(build)
    assert words.startswith("RuntimeError: Error building extension 'gsplat_cuda'")
    assert words.endswith('; a.cu(12): error: identifier "uint32_t" is undefined')
    assert gpu_run.cause("\n") == "no message"
    assert gpu_run.cause("Killed") == "Killed"


def test_a_package_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setitem(gpu_steps._BUILDS, "gsplat", ["no-such-package-anywhere==1"])
    with pytest.raises(InputError, match="pip could not install no-such-package-anywhere==1"):
        gpu_steps.build("gsplat")


def test_steps_beyond_the_time_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_run, "machine", dict)
    run = gpu_run.Check(gpu_run.CheckConfig(json=tmp_path / "found.json", minutes=0))
    assert "left out" in run.step("late", "loss", limit=60)["error"]


def test_what_is_missing_is_left_out_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_run, "machine", lambda: dict(MACHINE))
    monkeypatch.setattr(gpu_run, "PACKAGES", dict.fromkeys(gpu_run.PACKAGES, "no_such_module"))
    monkeypatch.setattr(gpu_run, "run_step", lambda name, a, s: {"gradient": 0.0})
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.9")
    assert gpu_run.check(gpu_run.CheckConfig(json=tmp_path / "found.json")) == 1
    out = capsys.readouterr().out
    assert "build gsplat: left out: not installed, and no nvcc to build it: conda install" in out
    assert "build simple_knn: left out" in out


def test_a_check_that_is_cut_off_leaves_what_it_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_run, "machine", lambda: dict(MACHINE))
    monkeypatch.setattr(gpu_run, "_is_there", lambda run, config, name: False)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.9")

    def step(name: str, arguments: list[Any], seconds: float) -> dict[str, Any]:
        if name == "half":
            raise KeyboardInterrupt
        return {"error": "wrong"}

    monkeypatch.setattr(gpu_run, "run_step", step)
    with pytest.raises(KeyboardInterrupt):
        gpu_run.check(gpu_run.CheckConfig(json=tmp_path / "found.json"))
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

"""The benchmarks run from end to end on a tiny scene and write what they promise."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cpu_scenes import camera, cloud

from benchmarks import gpu, kernels
from scene import InputError, save_ply


def test_kernels_benchmark_writes_its_figures(tmp_path: Path) -> None:
    view = camera(40, 36)
    save_ply(cloud(60), tmp_path / "scene.ply")
    (tmp_path / "camera.json").write_text(
        json.dumps(
            {
                "world_to_camera": view.world_to_camera.tolist(),
                "fx": view.fx,
                "width": view.width,
                "height": view.height,
            }
        )
    )
    config = kernels.Config(
        tmp_path / "scene.ply", tmp_path / "camera.json", inference_sizes=(20, 80), repeats=2,
        json=tmp_path / "out.json",
    )  # fmt: skip
    kernels.main(config)
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["workload"]["gaussians"] == 60
    assert {"cpu", "commit", "instruction_set", "threads"} <= result["machine"].keys()
    for name in ("inference", "forward_backward", "training_iteration", "loss", "stage_blend"):
        assert result["figures"][name]["min_ms"] > 0
    for name in ("inference_with_depth", "inference_with_depth_20", "inference_with_depth_80"):
        assert result["figures"][name]["frames_per_second"] > 0
    assert result["ratios"]["reference_to_cpu"] > 1
    assert result["peak_memory_mib"] > 10


def test_camera_can_be_resized(tmp_path: Path) -> None:
    path = tmp_path / "camera.json"
    path.write_text('{"world_to_camera": [], "fx": 50, "width": 40, "height": 20}')
    resized = kernels.read_camera(path, 80)
    assert (resized.width, resized.height, resized.fx) == (80, 40, 100)


def test_gpu_benchmark_runs_on_the_cpu(tmp_path: Path) -> None:
    config = gpu.Config(
        "cpu", gaussians=(200,), size=32, repeats=1, backends=("cpu", "triton"),
        json=tmp_path / "out.json",
    )  # fmt: skip
    gpu.run(config)
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["device"] == "CPU"
    assert result["cpu"]["200_gaussians"]["iterations_per_second"] > 0
    assert result["cpu"]["200_gaussians"]["pose_step_ms"]["min"] > 0
    assert result["triton"].keys() == {"check"}
    with pytest.raises(InputError, match="unknown backend 'nothing'"):
        gpu.run(replace(config, backends=("nothing",)))

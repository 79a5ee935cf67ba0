"""doctor.py: what it finds, what it advises, how it ends."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import doctor
from gaussian_renderer import backends
from preparation.sfm import PIP
from scene import InputError

ROOT = Path(doctor.__file__).parent


def test_here_detection_can_run() -> None:
    result = subprocess.run(
        [sys.executable, "doctor.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("detection can run\n")
    assert "will run" in result.stdout
    assert "backend" in result.stdout


def test_without_torch_it_still_speaks_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else find_spec(name)
    )
    assert doctor.main() == 1
    out = capsys.readouterr().out
    assert "FAIL torch" in out
    assert "pip install -r requirements.txt" in out
    assert out.endswith("detection cannot run: fix the lines marked FAIL\n")


def test_without_pycolmap_it_names_the_command_that_prepare_py_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pycolmap" else find_spec(name)
    )
    finding = {finding.what: finding for finding in doctor.check_packages()}["pycolmap"]
    assert finding.state == "missing"
    assert finding.remedy == f"{PIP} (for prepare.py only)"
    assert not finding.fatal


def test_on_a_gpu_it_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "RTX of the test")
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda i: SimpleNamespace(total_memory=24 * 2**30)
    )
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_86", "sm_120"])
    monkeypatch.setattr(doctor, "installed", lambda module, package: None)
    monkeypatch.setattr("gaussian_renderer.missing", lambda name: "its package")
    monkeypatch.setattr("gaussian_renderer.refusal", lambda name, device: "it needs its package")
    monkeypatch.setattr("shutil.which", lambda name: None)
    findings = {finding.what: finding for finding in doctor.check_gpu()}
    assert "RTX of the test, 24 GiB, sm_89" in findings["GPU"].state
    assert findings["GPU"].remedy == ""  # sm_86 binaries run on sm_89
    assert "gsplat==1.5.3" in findings["backend gsplat"].remedy
    rasteriser = findings["backend graphdeco"].remedy
    assert "--no-build-isolation" in rasteriser
    assert "-include cstdint" in rasteriser
    assert "-include cfloat" in findings["simple_knn"].remedy
    assert findings["nvcc"].remedy
    assert not any(f.fatal for f in findings.values())


def test_triton_wants_a_c_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    backends.forget()
    try:
        found = {finding.what: finding for finding in doctor.check_gpu_backends()}
        assert "a C compiler" in found["backend triton"].state
        assert "gcc" in found["backend triton"].remedy
        with pytest.raises(InputError, match="'triton' cannot run on cuda: it needs a C compiler"):
            backends.select_backend("triton", "cuda")
    finally:
        backends.forget()


@pytest.mark.parametrize(
    ("architectures", "fits"),
    [(["sm_120"], True), (["sm_90", "compute_90"], False), (["sm_120a"], True), ([], False)],
)
def test_binaries_for_an_rtx_50(architectures: list[str], fits: bool) -> None:
    assert doctor.runs_on(architectures, 12, 0) is fits


def test_nvcc_must_have_the_major_version_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Cuda compilation tools, release 12.4, V12.4.99"
    monkeypatch.setattr("shutil.which", lambda name: "/cuda/bin/nvcc")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(stdout=text))
    assert doctor.check_nvcc("12.8") == doctor.Finding("nvcc", "12.4")
    assert "install that nvcc" in doctor.check_nvcc("13.0").remedy

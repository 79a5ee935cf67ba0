"""What a machine without a GPU can compile: our Triton kernels, and CUDA sources with nvcc."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import compile_cuda

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="needs triton: pip install triton",
)
def test_triton_kernels_compile_to_machine_code(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "scripts.compile_triton", "--architectures", "89",
         "--modules", "blending", "pose", "binning"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert " registers, " in line
        assert int(line.split()[-4]) < 64, f"a kernel spills its registers: {line}"


def submodule(root: Path, text: str) -> Path:
    """A submodule with one source."""
    folder = root / "simple-knn"
    folder.mkdir()
    (folder / "simple_knn.cu").write_text(text)
    return root


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on the PATH")
def test_sources_are_compiled_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = submodule(tmp_path, "__global__ void f(uint32_t* x) { *x = FLT_MAX > 0; }\n")
    (root / "simple-knn/broken.cu").write_text("nonsense;\n")
    assert compile_cuda.check(compile_cuda.CompileConfig(root, ("89",))) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("FAIL simple-knn/broken.cu")
    assert "error" in lines[1]
    assert lines[-1].startswith("ok   simple-knn/simple_knn.cu")  # by the two -include flags


def test_without_nvcc_one_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert compile_cuda.check(compile_cuda.CompileConfig(submodule(tmp_path, ""))) == 2
    assert "no nvcc on the PATH" in capsys.readouterr().err


def test_empty_submodules_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvcc")
    assert compile_cuda.check(compile_cuda.CompileConfig(tmp_path)) == 2
    assert "git submodule update --init --recursive" in capsys.readouterr().err

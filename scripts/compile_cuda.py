"""Compiles the CUDA sources of the submodules to objects, without a GPU and without installing.

    python -m scripts.compile_cuda                       every source, for the usual cards
    python -m scripts.compile_cuda --architectures 89    RTX 40 only

Needs nvcc, and the submodules (git submodule update --init --recursive). Objects are neither linked
nor kept; any PyTorch will do, also one without CUDA. Exits with 0 if all compiled, 1 if not, 2 if
there is nothing to compile with.
"""

import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from torch.utils.cpp_extension import include_paths

from doctor import NVCC_FLAGS, NVCC_REMEDY

ROOT = Path(__file__).resolve().parent.parent
_GLM = Path("third_party/glm")  # of the rasteriser


@dataclass(frozen=True)
class CompileConfig:
    """What is compiled."""

    submodules: Path = ROOT / "submodules"
    """Folder of the submodules."""
    architectures: tuple[str, ...] = ("75", "80", "86", "89", "90", "120")
    """Compute capabilities without the point: 86 is RTX 30, 89 RTX 40, 120 RTX 50."""


def check(config: CompileConfig) -> int:
    """Compiles each source and prints one line for it; returns the exit status."""
    nvcc = shutil.which("nvcc")
    sources = sorted(config.submodules.glob("*/*.cu")) + sorted(config.submodules.glob("*/*/*.cu"))
    if nvcc is None:
        print(f"no nvcc on the PATH: {NVCC_REMEDY}", file=sys.stderr)
        return 2
    if not sources:
        print(f"no CUDA sources in {config.submodules}: git submodule update --init --recursive",
              file=sys.stderr)  # fmt: skip
        return 2
    good = True
    for source in sources:
        name = source.relative_to(config.submodules)
        started = time.monotonic()
        errors = _compile(nvcc, source, config)
        good &= not errors
        mark = "FAIL" if errors else "ok  "
        line = f"{mark} {name}  {time.monotonic() - started:.0f} s"
        print(line, *errors[:5], sep="\n     ", flush=True)
    return 0 if good else 1


def _compile(nvcc: str, source: Path, config: CompileConfig) -> list[str]:
    """What the compiler has to complain about."""
    module = config.submodules / source.relative_to(config.submodules).parts[0]
    folders = [module / _GLM, sysconfig.get_paths()["include"], *include_paths()]
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in config.architectures]
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [nvcc, "-c", "-std=c++20", *NVCC_FLAGS.split(), *targets,
             *(f"-I{folder}" for folder in folders), "-DTORCH_EXTENSION_NAME=_C",
             str(source), "-o", str(Path(scratch) / "object.o")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode == 0:
        return []
    lines = (done.stderr + done.stdout).splitlines()
    return [line for line in lines if "error" in line] or lines or [f"status {done.returncode}"]


if __name__ == "__main__":
    sys.exit(check(tyro.cli(CompileConfig, description=__doc__)))

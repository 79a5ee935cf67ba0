"""Compiles CUDA sources as C++ for the CPU and loads them in the place of the packages' own."""

import os
import re
import sys
from pathlib import Path
from types import ModuleType

from torch.utils import cpp_extension

from scene import InputError

INCLUDE = Path(__file__).parent / "include"
HEADERS = (  # of CUDA, that the packages include
    "cuda.h", "cuda_runtime.h", "cuda_runtime_api.h", "device_launch_parameters.h",
    "cooperative_groups.h", "cooperative_groups/reduce.h", "cub/cub.cuh",
    "cub/device/device_radix_sort.cuh", "thrust/device_vector.h", "thrust/sequence.h",
)  # fmt: skip
_PROLOGUE = '#include "cuda_runtime.h"\n'  # which nvcc includes by itself
_LAUNCH = re.compile(
    r"(?P<kernel>[A-Za-z_]\w*(?:\s*<[^<>;{}()]*>)?)\s*"  # its name and template arguments
    r"<<\s*<(?P<where>[^;{}]*?)>>\s*>\s*(?=\()"  # the packages write << <grid, block >> >
)


def as_cpp(cuda: str) -> str:
    """CUDA source as C++: launches become calls, tensors are asked for on the CPU; nothing else.

    A launch names a kernel, perhaps one of several of that name: so a lambda stands for all.
    """
    launched = _LAUNCH.sub(
        r"cuda_on_cpu::launch([&](auto... a) { \g<kernel>(a...); }, \g<where>)", cuda
    )
    return re.sub(r"\bkCUDA\b", "kCPU", launched)


def load_on_cpu(name: str, folder: Path, build: Path, includes: tuple[str, ...] = ()) -> ModuleType:
    """Compiles every source of a submodule into `build` and loads it as the module `name`.

    What was compiled before and has not changed is not compiled again. Raises InputError when the
    submodule is empty or does not compile.
    """
    cuda = sorted(folder.glob("*.cu")) + sorted(folder.glob("*/*.cu"))
    if not cuda or not all((folder / include).is_dir() for include in includes):
        raise InputError(f"{folder} is empty: git submodule update --init --recursive")
    target = build / name
    headers = target / "headers"
    for header in HEADERS:
        _write(headers / header, '#include "cuda_on_cpu.h"\n')
    sources = [*folder.glob("*.cpp")]
    for source in cuda:
        sources.append(target / source.with_suffix(".cpp").name)
        _write(sources[-1], f'{_PROLOGUE}#line 1 "{source}"\n{as_cpp(source.read_text())}')
    folders = [INCLUDE, headers, folder, *{source.parent for source in cuda}]
    folders += [folder / include for include in includes]
    # torch looks for ninja on the PATH, where that of an environment not activated is missing
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        module = cpp_extension.load(
            name.replace(".", "_"), [str(source) for source in sources],
            extra_cflags=["-std=c++20", "-O2", "-w", "-include", "cstdint"],
            extra_include_paths=[str(path) for path in folders], build_directory=str(target),
        )  # fmt: skip
    except (RuntimeError, ImportError) as error:
        lines = [line for line in str(error).splitlines() if " error: " in line] or [str(error)]
        raise InputError(f"{folder} does not compile for the CPU: {lines[0]}") from error
    sys.modules[name] = module
    sys.path.insert(0, str(folder))  # the package's Python half
    return module


def _write(path: Path, text: str) -> None:
    """Writes a file unless it holds that text already: its time tells what to compile again."""
    if not path.is_file() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

"""Compiles CUDA sources as C++ for the CPU and loads them in the place of the packages' own."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from torch.utils import cpp_extension

from scene import InputError

INCLUDE = Path(__file__).parent / "include"
HEADERS = (  # of CUDA and PyTorch, that the packages include
    "cuda.h", "cuda_runtime.h", "cuda_runtime_api.h", "device_launch_parameters.h",
    "cooperative_groups.h", "cooperative_groups/reduce.h", "cub/cub.cuh",
    "cub/device/device_radix_sort.cuh", "thrust/device_vector.h", "thrust/sequence.h",
    "ATen/cuda/Atomic.cuh", "c10/cuda/CUDAStream.h", "c10/cuda/CUDAGuard.h",
    "c10/cuda/CUDACachingAllocator.h",
)  # fmt: skip


@dataclass(frozen=True)
class Package:
    """Where a package keeps what."""

    module: str  # the compiled one
    sources: tuple[str, ...]  # patterns
    includes: tuple[str, ...]  # folders
    headers: tuple[str, ...] = ()  # patterns of those to rewrite as well
    binding: Path | None = None  # a source of ours
    remedy: str = "git submodule update --init --recursive"  # when it is empty


GRAPHDECO = Package(
    "diff_gaussian_rasterization._C", ("*.cu", "*/*.cu", "ext.cpp"),
    (".", "cuda_rasterizer", "third_party/glm"),
)  # fmt: skip
SIMPLE_KNN = Package("simple_knn._C", ("*.cu", "ext.cpp"), (".",))
GSPLAT = Package(  # what the adapter calls; the functions that are left out are never called
    "gsplat.cuda._C",
    ("cuda/csrc/Projection.cpp", "cuda/csrc/ProjectionEWA3DGSPacked.cu", "cuda/csrc/Intersect.cpp",
     "cuda/csrc/IntersectTile.cu", "cuda/csrc/Rasterization.cpp",
     "cuda/csrc/RasterizeToPixels3DGSFwd.cu", "cuda/csrc/RasterizeToPixels3DGSBwd.cu"),
    ("cuda/csrc/third_party/glm",),
    headers=("cuda/include/*", "cuda/csrc/*.h"),
    binding=Path(__file__).parent / "gsplat_binding.cpp",
    remedy="name the folder 'gsplat' of an installed gsplat 1.5.3",
)  # fmt: skip
_PROLOGUE = '#include "cuda_runtime.h"\n'  # which nvcc includes by itself
_LAUNCH = re.compile(
    r"(?P<kernel>[A-Za-z_]\w*(?:\s*<[^<>;{}()]*>)?)\s*"  # its name and template arguments
    r"<<\s*<(?P<where>[^;{}]*?)>>\s*>\s*(?=\()"  # the packages write << <grid, block >> >
)


def as_cpp(cuda: str) -> str:
    """CUDA source as C++; nothing is rewritten but what C++ cannot say.

    Launches become calls (a launch names a kernel, perhaps one of several of that name: so a lambda
    stands for all); tensors are asked for on the CPU; the size of dynamic shared memory is the
    launch's; floats under zero become 0 as unsigned.
    """
    text = _LAUNCH.sub(
        r"cuda_on_cpu::launch([&](auto... a) { \g<kernel>(a...); }, \g<where>)", cuda
    )
    text = re.sub(r"\bkCUDA\b", "kCPU", text)
    text = re.sub(r"\bis_cuda\(\)", "is_cpu()", text)
    text = re.sub(
        r"extern __shared__ (\w+) (\w+)\[\];", r"\1* \2 = cuda_on_cpu::dynamic_shared<\1>();", text
    )
    return re.sub(r"\(uint32_t\)(?=(floor|ceil)\()", "cuda_on_cpu::to_uint32 * ", text)


def load_on_cpu(package: Package, folder: Path, build: Path) -> ModuleType:
    """Compiles a package's sources into `build` and loads them as its compiled module.

    What was compiled before and has not changed is not compiled again. Raises InputError when the
    folder is empty or does not compile.
    """
    found = [sorted(folder.glob(pattern)) for pattern in (*package.sources, *package.headers)]
    includes = [folder / include for include in package.includes]
    if not all(found) or not all(any(include.glob("*")) for include in includes):
        raise InputError(f"{folder} is empty or incomplete: {package.remedy}")
    target = build / package.module
    for header in HEADERS:
        _write(target / "headers" / header, '#include "cuda_on_cpu.h"\n')
    sources = [] if package.binding is None else [package.binding]
    for path in (path for paths in found for path in paths):
        is_source = path.suffix in (".cu", ".cpp")
        name = f"{path.stem}{path.suffix[1:]}.cpp" if is_source else path.name
        prologue = _PROLOGUE if path.suffix == ".cu" else ""
        _write(target / name, f'{prologue}#line 1 "{path}"\n{as_cpp(path.read_text())}')
        sources += [target / name] if is_source else []
    module = _compile(package, target, sources, [INCLUDE, target / "headers", target, *includes])
    sys.modules[package.module] = module
    return module


def _compile(
    package: Package, target: Path, sources: list[Path], includes: list[Path]
) -> ModuleType:
    # torch looks for ninja on the PATH, where that of an environment not activated is missing
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    (target / "lock").unlink(missing_ok=True)  # of a run that was killed: torch would wait for it
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_LAZY)  # functions may be missing
    try:
        return cpp_extension.load(
            package.module.replace(".", "_"), [str(source) for source in sources],
            extra_cflags=["-std=c++20", "-O2", "-w", "-include", "cstdint"],
            extra_ldflags=["-Wl,-z,lazy"],
            extra_include_paths=[str(path) for path in includes], build_directory=str(target),
        )  # fmt: skip
    except (RuntimeError, ImportError) as error:
        lines = [line for line in str(error).splitlines() if " error: " in line] or [str(error)]
        raise InputError(f"{package.module} does not compile for the CPU: {lines[0]}") from error
    finally:
        sys.setdlopenflags(flags)


def _write(path: Path, text: str) -> None:
    """Writes a file unless it holds that text already: its time tells what to compile again."""
    if not path.is_file() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

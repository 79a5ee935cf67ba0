"""Compiles our Triton kernels to machine code for the usual cards, without a GPU.

    python -m scripts.compile_triton                       registers and spills for each card
    python -m scripts.compile_triton --architectures 89    RTX 40 only

Needs the package `triton` (a PyTorch with CUDA brings it), which carries NVIDIA's assembler.
Exits with 0 if all kernels compiled, 1 if not, 2 without triton.
"""

import importlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro


@dataclass(frozen=True)
class Kernel:
    """One kernel, with the constants that it is launched with."""

    module: str
    name: str
    constants: dict[str, Any]
    warps: int = 4


_SUMS = {"WEIGHTED": False, "COLOUR": True, "CHUNK": 2}
KERNELS = (
    Kernel("projection", "_project", {"BLOCK": 128}),
    Kernel("projection", "_project_backward", {"MOVING": False, "BLOCK": 128}),
    Kernel("projection", "_project_backward", {"MOVING": True, "BLOCK": 128}),
    Kernel("colours", "_colours", {"TERMS": 16, "OWN": True, "BLOCK": 128}),
    Kernel(
        "colours", "_colours_backward",
        {"TERMS": 16, "STORE": True, "MOVING": False, "BLOCK": 128},
    ),
    Kernel("binning", "_cover", {"BLOCK": 128}),
    Kernel("binning", "_number", {"BLOCK": 128}),
    Kernel("blending", "_blend", {"CHANNELS": 3, "CHUNK": 8}),
    Kernel("blending", "_blend_backward", {"CHANNELS": 3, "CHUNK": 8}),
    Kernel("tangents", "_move", {"BLOCK": 128}),
    Kernel("tangents", "_recolour", {"TERMS": 16, "BLOCK": 128}),
    Kernel("pose", "_sum_tiles", _SUMS, warps=8),
    Kernel("adam", "_adam", {"BLOCK": 1024}),
    Kernel("ssim", "_blur_moment_rows", {"RADIUS": 5, "BLOCK": 128}),
    Kernel("ssim", "_ssim_columns", {"RADIUS": 5, "BLOCK": 128}),
    Kernel("ssim", "_blur_rows", {"RADIUS": 5, "BLOCK": 128}),
    Kernel("ssim", "_gradient_columns", {"RADIUS": 5, "BLOCK": 128}),
)  # fmt: skip
_ARGUMENTS = {  # Triton's names of the types of arguments that are not arrays of floats
    "i32": {"count", "total", "across", "tiles", "head"},
    "fp32": {
        "fx", "fy", "cx", "cy", "huber", "ssim_weight", "first_rate", "rest_rate", "gain",
        "square_gain", "correction", "square_correction", "epsilon",
    },
    "*i64": {"splats", "starts", "slots", "owners", "lengths", "ends", "keys"},
    "*i32": {"corners", "widths", "radii", "nearness"},
}  # fmt: skip
_FLOAT_SIZES = ("projection", "tangents", "binning")  # take width and height as floats


@dataclass(frozen=True)
class CompileConfig:
    """What is compiled for."""

    architectures: tuple[int, ...] = (75, 80, 86, 89, 90, 120)
    """Compute capabilities without the point: 86 is RTX 30, 89 RTX 40, 120 RTX 50."""
    modules: tuple[str, ...] = tuple(dict.fromkeys(kernel.module for kernel in KERNELS))
    """Files of gaussian_renderer/triton whose kernels are compiled."""


def types_of(kernel: Kernel, names: list[str]) -> dict[str, str]:
    """Triton's names of the types of a kernel's arguments, as its launches have them."""
    sizes = "fp32" if kernel.module in _FLOAT_SIZES else "i32"
    named = {name: kind for kind, members in _ARGUMENTS.items() for name in members}
    named |= dict.fromkeys(("width", "height"), sizes) | dict.fromkeys(
        kernel.constants, "constexpr"
    )
    return {name: named.get(name, "*fp32") for name in names}


def compile_kernel(kernel: Kernel, architecture: int) -> str:
    """Registers and bytes of spilled ones a thread, after ptxas. Raises what triton raises."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module = importlib.import_module(f"gaussian_renderer.triton.{kernel.module}")
    function = getattr(module, kernel.name)
    source = ASTSource(function, types_of(kernel, function.arg_names), kernel.constants)
    made = triton.compile(
        source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": kernel.warps}
    )
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        listing = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    registers, stack = (re.search(rf"{what}:(\d+)", listing) for what in ("REG", "STACK"))
    if registers is None or stack is None:
        return "compiled"
    return f"{registers[1]} registers, {stack[1]} bytes of stack"


def check(config: CompileConfig) -> int:
    """Compiles each kernel and prints one line for it; returns the exit status."""
    if importlib.util.find_spec("triton") is None:
        print("error: triton is not installed: pip install triton", file=sys.stderr)
        return 2
    failed = 0
    for architecture in config.architectures:
        for kernel in (kernel for kernel in KERNELS if kernel.module in config.modules):
            title = f"{kernel.module}.{kernel.name} sm_{architecture}"
            try:
                print(f"ok   {title}: {compile_kernel(kernel, architecture)}", flush=True)
            except Exception as error:  # a compiler may raise anything; the others go on
                failed += 1
                print(f"FAIL {title}: {str(error).strip().splitlines()[-1][:300]}", flush=True)
    return int(failed > 0)


def main() -> None:
    """Command line."""
    sys.exit(check(tyro.cli(CompileConfig, description=__doc__)))


if __name__ == "__main__":
    main()

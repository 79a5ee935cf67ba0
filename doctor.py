"""Says what is installed, which backend will run, and how to mend what is missing.

python doctor.py        exits with 0 if detection can run here, else with 1
"""

import importlib
import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PYTHON_MIN = (3, 11)
REQUIRED = {  # import name -> name of the package
    "torch": "torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "cv2": "opencv-python",
    "PIL": "pillow",
    "plyfile": "plyfile",
    "matplotlib": "matplotlib",
    "tyro": "tyro",
    "tqdm": "tqdm",
}
PAPER = {"kornia": "kornia", "efficientnet_pytorch": "efficientnet_pytorch"}
NVCC_FLAGS = "-include cstdint -include cfloat"  # absent in the submodules' sources: docs/gpu.md
NVCC_REMEDY = "conda install -c conda-forge cuda-nvcc cuda-libraries-dev"
SUBMODULE = (
    f'NVCC_APPEND_FLAGS="{NVCC_FLAGS}" pip install --no-build-isolation '
    "./submodules/{} (after git submodule update --init --recursive)"
)
CUDA_PACKAGES = {  # import name -> (distribution, how to get it); all are optional
    "gsplat": ("gsplat", "pip install gsplat==1.5.3"),
    "diff_gaussian_rasterization": (
        "diff_gaussian_rasterization",
        SUBMODULE.format("diff-gaussian-rasterization"),
    ),
    "simple_knn": ("simple_knn", SUBMODULE.format("simple-knn")),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    state: str
    remedy: str = ""  # empty: nothing to mend
    fatal: bool = False  # detection cannot run


def installed(module: str, distribution: str) -> str | None:
    """Version of a package without importing it, or None."""
    try:
        if importlib.util.find_spec(module) is None:
            return None
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "installed, version unknown"


def check_python() -> Finding:
    """The interpreter."""
    old = sys.version_info < PYTHON_MIN
    remedy = f"install Python {PYTHON_MIN[0]}.{PYTHON_MIN[1]} or newer" if old else ""
    return Finding("python", f"{platform.python_version()} on {platform.machine()}", remedy, old)


def check_packages() -> list[Finding]:
    """What detection needs, and what the preset `paper` needs on top."""
    findings = []
    for module, package in {**REQUIRED, **PAPER}.items():
        version = installed(module, package)
        if module == "cv2" and version == "installed, version unknown":
            version = importlib.import_module("cv2").__version__  # headless builds, conda
        fatal = version is None and module in REQUIRED
        use = "" if module in REQUIRED else " (only --preset paper needs it)"
        remedy = "" if version else f"pip install -r requirements.txt{use}"
        findings.append(Finding(package, version or "missing", remedy, fatal))
    return findings


def check_cpu_kernel() -> Finding:
    """The native kernel and the instruction set that it chose."""
    try:
        from gaussian_renderer.cpu import instruction_set

        return Finding("CPU kernel", f"instruction set {instruction_set()}")
    except Exception as error:  # a doctor reports whatever an import may raise, and goes on
        return Finding("CPU kernel", f"cannot be used: {error}", "pip install . (in this folder)")


def check_gpu() -> list[Finding]:
    """The GPU as PyTorch sees it, the compiler, and the CUDA packages."""
    import torch

    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi") is None:
            return [Finding("GPU", "none found: the CPU backends are used")]
        remedy = "install a CUDA build of PyTorch: conda env create -f environment.yml"
        built = torch.version.cuda or "no CUDA"
        return [Finding("GPU", f"a driver is there, but this PyTorch ({built}) sees none", remedy)]
    major, minor = torch.cuda.get_device_capability()
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    name = f"{torch.cuda.get_device_name()}, {memory:.0f} GiB, sm_{major}{minor}"
    findings = [Finding("GPU", f"{name}, PyTorch for CUDA {torch.version.cuda}")]
    if not runs_on(torch.cuda.get_arch_list(), major, minor):
        findings.append(Finding("GPU", "may be too new or too old for this PyTorch",
                                "RTX 50 needs a PyTorch for CUDA 12.8 or newer"))  # fmt: skip
    findings.append(check_nvcc(torch.version.cuda or ""))
    findings.append(check_triton())
    for module, (distribution, remedy) in CUDA_PACKAGES.items():
        version = installed(module, distribution)
        findings.append(Finding(module, version or "missing", "" if version else remedy))
    return findings


def runs_on(architectures: list[str], major: int, minor: int) -> bool:
    """Whether binaries for "sm_86"-like architectures run on a GPU: same major, not newer."""
    numbers = [int(a.removeprefix("sm_").rstrip("af")) for a in architectures if a[:3] == "sm_"]
    return any(n // 10 == major and n % 10 <= minor for n in numbers)


def check_nvcc(torch_cuda: str) -> Finding:
    """The CUDA compiler, whose major version must be PyTorch's."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return Finding("nvcc", "missing: CUDA packages cannot be built", NVCC_REMEDY)
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    release = text.partition("release ")[2].partition(",")[0] or "unknown"
    fits = release.split(".")[0] == torch_cuda.split(".")[0]
    remedy = "" if fits else f"PyTorch was built for CUDA {torch_cuda}: install that nvcc"
    return Finding("nvcc", release, remedy)


def check_triton() -> Finding:
    """Our own GPU backend: the package, and what it needs to launch kernels."""
    from gaussian_renderer.backends import missing

    lacking = missing("triton")
    if not lacking:
        return Finding("triton", installed("triton", "triton") or "missing")
    remedy = "install gcc and python3-dev (or conda's gxx_linux-64)"
    if "package" in lacking:
        remedy = "pip install triton (a CUDA build of PyTorch for Linux brings it)"
    return Finding("triton", f"needs {lacking}", remedy)


def check_weights() -> list[Finding]:
    """Pre-trained weights in the cache of torch.hub; all are optional."""
    from scene.weights import LOFTR, XFEAT, cache_folder

    wanted = [(LOFTR.name, LOFTR.address), (XFEAT.name, XFEAT.address)]
    if importlib.util.find_spec("efficientnet_pytorch") is not None:
        from anomaly.efficientnet import weights_url

        wanted.append((weights_url().rsplit("/", 1)[-1], weights_url()))
    findings = []
    for name, address in wanted:
        path = Path(cache_folder()) / name
        found = path.is_file()
        remedy = "" if found else f"optional, --preset default does without: {address} -> {path}"
        findings.append(Finding("weights", f"{name} {'found' if found else 'not here'}", remedy))
    return findings


def check_backend() -> Finding:
    """The backend that `--backend auto` takes."""
    try:
        from gaussian_renderer.backends import choose_device

        return Finding("will run", choose_device()[1])
    except Exception as error:  # as above: whatever an import may raise
        remedy = "see the lines above; pip install . builds the CPU kernel"
        return Finding("will run", f"nothing: {error}", remedy, fatal=True)


def examine() -> list[Finding]:
    """All findings; later checks need torch and are left out without it."""
    findings = [check_python(), *check_packages()]
    if any(finding.fatal for finding in findings):
        return findings
    return [*findings, check_cpu_kernel(), *check_gpu(), *check_weights(), check_backend()]


def main() -> int:
    """Prints the findings; returns the exit status."""
    findings = examine()
    for finding in findings:
        mark = "FAIL" if finding.fatal else "note" if finding.remedy else "ok"
        print(f"{mark:5}{finding.what:29}{finding.state}")
        if finding.remedy:
            print(f"{'':34}-> {finding.remedy}")
    fatal = any(finding.fatal for finding in findings)
    print("detection cannot run: mend the lines marked FAIL" if fatal else "detection can run")
    return int(fatal)


if __name__ == "__main__":
    sys.exit(main())

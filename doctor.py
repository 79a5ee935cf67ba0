"""Says what is installed, which backend will run, and how to get what is missing.

python doctor.py        exits with 0 if detection can run here, else with 1
"""

import importlib
import importlib.metadata
import importlib.util
import platform
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass

PYTHON_MIN = (3, 11)
REQUIRED = {  # import name -> name of the package
    "torch": "torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "cv2": "opencv-python",
    "PIL": "pillow",
    "plyfile": "plyfile",
    "tyro": "tyro",
    "tqdm": "tqdm",
    "jinja2": "jinja2",
    "filelock": "filelock",
}
OPTIONAL = {  # import name -> (package, with its versions where they matter; what needs it)
    "kornia": ("kornia", "the matchers xfeat and loftr"),
    "pycolmap": ("pycolmap>=4.1.1,<5", "prepare.py"),
    "efficientnet_pytorch": ("efficientnet_pytorch", "--preset paper"),
    "sklearn": ("scikit-learn", "the tests"),
    "matplotlib": ("matplotlib", "the charts of the benchmarks"),
}
NVCC_REMEDY = "conda install -c conda-forge cuda-nvcc cuda-libraries-dev"
SIMPLE_KNN_REMEDY = (  # the flags name headers that its sources lack: docs/gpu.md
    'NVCC_APPEND_FLAGS="-include cstdint -include cfloat" pip install --no-build-isolation '
    "./submodules/simple-knn (after git submodule update --init --recursive)"
)


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    state: str
    remedy: str = ""  # empty: nothing to do
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
    """What training and detection need, and what only a part of the program needs."""
    findings = []
    for module, package in REQUIRED.items():
        version = installed(module, package)
        if module == "cv2" and version == "installed, version unknown":
            version = importlib.import_module("cv2").__version__  # headless builds, conda
        remedy = "" if version else "pip install -r requirements.txt"
        findings.append(Finding(package, version or "missing", remedy, version is None))
    for module, (requirement, use) in OPTIONAL.items():
        package = requirement.partition(">")[0]
        version = installed(module, package)
        wanted = shlex.quote(requirement)
        remedy = "" if version else f"pip install {wanted} (for {use} only)"
        findings.append(Finding(package, version or "missing", remedy))
    return findings


def check_cpu_kernel() -> Finding:
    """The native kernel and the instruction set that it chose."""
    try:
        from gaussian_renderer import instruction_set

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
    known = installed("simple_knn", "simple_knn")
    simple_knn = Finding("simple_knn", known or "missing", "" if known else SIMPLE_KNN_REMEDY)
    return [*findings, *check_gpu_backends(), simple_knn]


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


def check_gpu_backends() -> list[Finding]:
    """Every backend that is registered for GPUs, and whether it agrees with the reference."""
    from gaussian_renderer import BACKENDS, missing, refusal

    findings = []
    for name, entry in BACKENDS.items():
        if "cuda" in entry.devices and entry.checked:
            why = refusal(name, "cuda")
            state = why or f"{installed(entry.package, entry.package)}, agrees with the reference"
            remedy = entry.remedy if missing(name) else "none needed: auto takes another backend"
            findings.append(Finding(f"backend {name}", state, remedy if why else ""))
    return findings


def check_weights() -> list[Finding]:
    """Pre-trained weights in the cache of torch.hub; all are optional."""
    from pose_estimation import MATCHERS
    from scene.weights import EFFICIENTNET, cache_folder, find_weights

    needed = [entry.weights for entry in MATCHERS.values() if entry.weights is not None]
    findings = []
    for file in [*needed, EFFICIENTNET]:
        found = find_weights(file, None) is not None
        target = cache_folder() / file.name
        remedy = f"optional, --preset default does without: {file.address} -> {target}"
        state = f"{file.name} {'found' if found else 'not here'}"
        findings.append(Finding("weights", state, "" if found else remedy))
    return findings


def check_backend() -> Finding:
    """The backend that `--backend auto` takes."""
    try:
        from gaussian_renderer import choose_device

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
    print("detection cannot run: fix the lines marked FAIL" if fatal else "detection can run")
    return int(fatal)


if __name__ == "__main__":
    sys.exit(main())

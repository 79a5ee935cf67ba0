"""The shape of the project: who may import whom, and what must never be imported."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("scene", "gaussian_renderer", "pose_estimation", "anomaly", "pipeline", "report",
            "preparation", "station")  # fmt: skip
ALLOWED = {
    "scene": {"scene"},
    "gaussian_renderer": {"scene", "gaussian_renderer"},
    "pose_estimation": {"scene", "gaussian_renderer", "pose_estimation"},
    "anomaly": {"scene", "gaussian_renderer", "anomaly"},
    "pipeline": set(PACKAGES) - {"report", "preparation", "station"},
    "report": set(PACKAGES) - {"preparation", "station"},
    "preparation": set(PACKAGES) - {"report", "station"},
    "station": set(PACKAGES) - {"preparation"},  # it shows what report/ draws
}
HEAVY = {"kornia", "efficientnet_pytorch", "matplotlib", "gsplat", "triton", "ray", "paho",
         "diff_gaussian_rasterization", "simple_knn"}  # fmt: skip
ADAPTERS = {"graphdeco.py", "gsplat.py", "doctor.py", "initialise.py"}


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    """First parts of the names of all modules that a file imports absolutely."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        ours = imported(path) & (
            set(PACKAGES) | {"train", "detect", "calibrate", "serve", "benchmark", "benchmarks"}
        )
        assert ours <= ALLOWED[package], f"{path} imports {ours - ALLOWED[package]}"


@pytest.mark.parametrize("package", [p for p in (*PACKAGES, ".") if p != "gaussian_renderer"])
def test_the_renderer_is_entered_by_its_front_door(package: str) -> None:
    paths = (ROOT / package).glob("*.py") if package == "." else (ROOT / package).rglob("*.py")
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            assert not any(name.startswith("gaussian_renderer.") for name in names), path


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_heavy_is_imported_at_the_top(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        found = imported(path, top_level_only=True) & HEAVY
        if path.name in ADAPTERS or path.parent.name == "triton":
            continue  # loaded only when their backend runs
        assert not found, f"{path} imports {found} at its top"


def test_non_commercial_packages_stay_in_their_adapters() -> None:
    for path in ROOT.glob("**/*.py"):
        if path.is_relative_to(ROOT / "submodules") or ".venv" in path.parts:
            continue
        found = imported(path) & {"diff_gaussian_rasterization", "simple_knn"}
        assert not found or path.name in ADAPTERS or "tests" in path.parts, path


def test_no_pickle() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            assert "pickle.load" not in text, path
            assert "pickle.dump" not in text, path
            assert "allow_pickle=True" not in text, path
            assert "torch.load(" not in text or "weights_only=True" in text, path

"""Writes files for other tools: the object for viewers, the regions that a run flagged.

    python export.py --model out/Gorilla                                    the object alone
    python export.py --model out/Gorilla --run out/Gorilla/detections/X     and what a run found

    object.glb           glTF 2.0 with KHR_gaussian_splatting (elsewhere: coloured points)
    anomalies.ply        for viewers of 3DGS: the object in the colours of the largest differences
    coco.json            the flagged regions of every image, as COCO keeps them
    ground_truth/        a mask of each image that was called anomalous, as in MVTec AD

The PLY of the object itself is in the model folder (point_cloud/).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from gaussian_renderer import backend_help, choose_device
from pipeline.command_line import run, settle_threads
from pipeline.model_folder import ModelFolder
from pipeline.open_inspector import InspectionSettings, display_scale, open_inspector
from pipeline.presets import DETECTION
from pipeline.results import COMPLETE
from report.annotations import write_annotations
from report.run_in_3d import run_in_3d
from report.viewer_data import in_anomaly_colours
from scene import InputError, World, read_json, refuse_inside, save_ply
from scene.gltf import save_glb


@dataclass(frozen=True)
class ExportConfig:
    """Every knob of an export."""

    model: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """Model folder that train.py wrote."""
    run: Path | None = None
    """Folder of a finished run of detect.py with this model: adds what it found."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder to write to; default: export/ in the run's folder, without one in the model folder."""
    backend: Annotated[str, tyro.conf.arg(help=backend_help())] = "auto"
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int | None = None
    """CPU threads; default: all cores."""


def export(config: ExportConfig) -> Path:
    """Writes the files and gives their folder. Raises InputError for what the user can fix."""
    folder = ModelFolder(config.model)
    stored = folder.load_config()
    document = None if config.run is None else _read_run(config.run)
    root = config.output or (config.run or config.model) / "export"
    refuse_inside(root, Path(stored["settings"]["source"]), "-o")
    gaussians = folder.load_gaussians(stored["settings"]["iterations"])
    world = World.from_json(stored.get("world"))
    save_glb(gaussians, root / "object.glb", world, stored["name"])
    print(f"{root / 'object.glb'}: {len(gaussians)} Gaussians")
    if config.run is not None and document is not None:
        _export_run(config, folder, document, config.run, root)
    return root


def _read_run(root: Path) -> dict[str, Any]:
    """The content of results.json."""
    path = root / COMPLETE
    if not path.is_file():
        raise InputError(
            f"--run: '{root}' holds no finished run ({COMPLETE}): name a folder that detect.py "
            "wrote, or finish the run with the same command"
        )
    document = read_json(path, "run detect.py again")
    if not isinstance(document, dict) or not {"summary", "settings", "images"} <= set(document):
        raise InputError(f"--run: '{path}' is not of detect.py: run it again")
    return document


def _export_run(
    config: ExportConfig, folder: ModelFolder, document: dict[str, Any], run_root: Path, root: Path
) -> None:
    """The object in the colours of the run, and its regions."""
    preset, entries = DETECTION["default"], document["images"]
    device, _ = choose_device(config.device, config.backend)
    threads = settle_threads(config.threads, config.backend, preset.matcher, preset.features)
    inspector = open_inspector(folder, InspectionSettings(preset, device, config.backend, threads))
    limit = document["summary"]["threshold"]
    scale = display_scale(inspector, folder) if limit is None else 2 * limit
    shown = run_in_3d(inspector, folder, entries, run_root, scale)
    coloured = in_anomaly_colours(inspector.model.gaussians, shown.highest, shown.limits)
    save_ply(coloured, root / "anomalies.ply")
    print(f"{root / 'anomalies.ply'}: hottest colour from {shown.limits[1]:.4g} on. {shown.note}")
    if limit is None:
        print("no regions: the run has no threshold, so nothing is flagged")
        return
    written = write_annotations(entries, run_root, limit, root)
    print(
        f"{root / 'coco.json'}: {written.regions} regions in {written.masks} of {written.images} "
        f"images; their masks are in {root / 'ground_truth'}"
    )


def main() -> None:
    """Command line."""
    run(lambda: export(tyro.cli(ExportConfig, description=__doc__)), "files are whole or not there")


if __name__ == "__main__":
    main()

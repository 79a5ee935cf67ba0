"""Versions of a model's calibration: kept as files, so that each can be had back."""

import shutil
from pathlib import Path

from sqlalchemy import select

from pipeline.model_folder import ModelFolder
from pipeline.seals import sha256_of
from scene import InputError, atomic_write

from .changes import add_threshold, current_threshold
from .database import Database
from .settings import StationSettings
from .tables import tasks

_FILES = ("calibration_views.npz", "calibration.json")  # the latter last: it seals the former


def snapshot_folder(settings: StationSettings, model: str, snapshot: str) -> Path:
    """Where the files of a version lie."""
    return settings.calibrations / model / snapshot


def take_snapshot(source: ModelFolder, target: Path) -> None:
    """Copies what a recalibration changes; the folder is there when it is whole."""
    for name in _FILES:
        path = source.root / name
        if path.is_file():
            with atomic_write(target / name) as file:
                file.write(path.read_bytes())


def restore_snapshot(source: Path, folder: ModelFolder, iteration: int) -> None:
    """Puts the files of a version into the model folder.

    Raises InputError, and changes nothing, when they do not belong to the model as it is now.
    """
    with folder.lock("--models"):
        before = {path: path.read_bytes() for path in map(folder.root.joinpath, _FILES)
                  if path.is_file()}  # fmt: skip
        after = {folder.root / name: (source / name).read_bytes() for name in _FILES
                 if (source / name).is_file()}  # fmt: skip
        try:
            _write(folder, after)
            folder.load_calibration(iteration)
        except InputError:
            _write(folder, before)
            raise


def _write(folder: ModelFolder, files: dict[Path, bytes]) -> None:
    for path in map(folder.root.joinpath, _FILES):
        if path not in files:
            path.unlink(missing_ok=True)
    folder.restore(files)


def note_calibrations(settings: StationSettings, database: Database) -> None:
    """A first version of each model, and a new one where another program calibrated it."""
    for model, root in settings.models.items():
        folder = ModelFolder(root)
        folder.load_config()  # says what is wrong with a folder that is no model's
        if not folder.calibration_path.is_file():
            raise InputError(f"--models: '{root}' is not calibrated: run calibrate.py first")
        digest = sha256_of(folder.calibration_path)
        with database.read() as connection:
            known = current_threshold(connection, model)
            changing = connection.execute(
                select(tasks.c.id).where(
                    tasks.c.model == model, tasks.c.state != "done",
                    tasks.c.kind.in_(("recalibrate", "restore")),
                )
            ).first()  # fmt: skip
        if known is not None and changing is not None:  # killed on the way: it is done again
            continue
        if known is not None:
            path = snapshot_folder(settings, model, known.snapshot) / "calibration.json"
            if path.is_file() and sha256_of(path) == digest:
                continue
        snapshot = f"found-{digest[:12]}"
        target = snapshot_folder(settings, model, snapshot)
        shutil.rmtree(target, ignore_errors=True)
        take_snapshot(folder, target)
        with database.write() as connection:
            add_threshold(connection, model, kind="found", snapshot=snapshot, who="station")

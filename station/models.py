"""The model folders of a worker, each opened once and again when its files have changed."""

import contextlib
import hashlib
import io
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from sqlalchemy import Row

from anomaly import Threshold
from gaussian_renderer import choose_device
from pipeline.command_line import settle_threads
from pipeline.inspector import Inspector
from pipeline.model_folder import ModelFolder
from pipeline.object_calibration import ObjectCalibration, calibrate_objects
from pipeline.open_inspector import InspectionSettings, display_scale, open_inspector
from pipeline.presets import DETECTION
from scene import InputError

from .settings import StationSettings

_AGAIN = 30.0  # seconds after which a model that could not be opened is tried again
_PATIENCE = 20.0  # seconds in which a folder that is being written must be whole again
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenModel:
    """A model as a worker uses it."""

    name: str
    folder: ModelFolder
    inspector: Inspector
    scale: float  # map value of the hottest colour
    digest: str  # of the files that decide a verdict
    iteration: int
    _objects: list[ObjectCalibration | InputError] = field(default_factory=list)

    def objects(self) -> ObjectCalibration:
        """What is known of good objects in several images, computed when first asked for.

        Raises InputError when too few views were held out.
        """
        if not self._objects:
            try:
                self._objects.append(calibrate_objects(self.inspector, self.folder))
            except InputError as error:
                self._objects.append(error)
        found = self._objects[0]
        if isinstance(found, InputError):
            raise found
        return found

    def with_threshold(self, version: Row | None) -> "OpenModel":
        """The model with the threshold that a person chose, if one did."""
        if version is None or version.value is None:
            return self
        message = f"Chosen by {version.who} (version {version.version})."
        chosen = Threshold(version.value, version.rate, False, message)
        inspector = replace(self.inspector, own_threshold=chosen, false_alarm_rate=version.rate)
        return replace(self, inspector=inspector, scale=chosen.map_scale)


@dataclass(frozen=True)
class _Broken:
    """Why a model cannot be opened."""

    state: object  # of its files
    message: str
    again_at: float  # seconds of the monotonic clock


@dataclass
class Models:
    """Opens models and keeps them open."""

    settings: StationSettings
    _opened: dict[str, tuple[object, OpenModel]] = field(default_factory=dict)
    _broken: dict[str, "_Broken"] = field(default_factory=dict)

    def get(self, name: str) -> OpenModel:
        """The model as its files are now. Raises InputError when they are damaged.

        A failure is remembered for a while: other models do not wait for a broken one.
        """
        folder = ModelFolder(self.settings.models[name])
        state = _state(folder)
        known, broken = self._opened.get(name), self._broken.get(name)
        if known is not None and known[0] == state:
            self._broken.pop(name, None)
            return known[1]
        is_same = broken is not None and broken.state == state
        if broken is not None and is_same and time.monotonic() < broken.again_at:
            raise InputError(broken.message)
        try:
            opened = _patiently(lambda: self._open(name, folder), 0.0 if is_same else _PATIENCE)
        except InputError as error:
            again = time.monotonic() + _AGAIN
            self._broken[name] = _Broken(_state(folder), str(error), again)
            raise
        self._opened[name] = state, opened
        self._broken.pop(name, None)
        return opened

    def due(self) -> list[str]:
        """Broken models that are to be tried again."""
        now = time.monotonic()
        return [name for name, broken in self._broken.items() if now >= broken.again_at]

    def _open(self, name: str, folder: ModelFolder) -> OpenModel:
        config = folder.load_config()["settings"]
        preset, own = DETECTION[config["preset"]], self.settings
        device, _ = choose_device(own.device, own.backend)
        threads = settle_threads(own.threads, own.backend, preset.matcher, preset.features)
        asked = InspectionSettings(preset, device, own.backend, threads, None, own.false_alarm_rate)
        inspector = open_inspector(folder, asked)
        identity = json.dumps(folder.identity(), sort_keys=True).encode()
        digest = hashlib.sha256(identity).hexdigest()
        _log.info("%s: %s", name, "; ".join(inspector.notes))
        scale = display_scale(inspector, folder)
        return OpenModel(name, folder, inspector, scale, digest, config["iterations"])


def _state(folder: ModelFolder) -> tuple[tuple[int, int] | None, ...]:
    return tuple(
        _stamp(path) for path in (folder.config_path, folder.calibration_path, folder.zones_path)
    )


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _patiently(open_it: Callable[[], OpenModel], seconds: float) -> OpenModel:
    """Waits for a calibration that is just being written."""
    end = time.monotonic() + seconds
    while True:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return open_it()
        except InputError:
            if time.monotonic() >= end:
                raise
            time.sleep(1.0)


def uses_cpu(settings: StationSettings) -> bool:
    """Whether models are computed on the CPU, where a limit of address space makes sense."""
    return choose_device(settings.device, settings.backend)[0] == torch.device("cpu")

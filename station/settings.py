"""What a station runs with, handed from serve.py to the server and its workers."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scene import InputError

MEGABYTE = 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Watch:
    """A folder whose new images are inspected by one model."""

    model: str
    folder: Path


@dataclass(frozen=True)
class StationSettings:
    """Every knob; the command line of serve.py gives their meaning to users."""

    models: dict[str, Path]  # model folders by name
    root: Path  # of the station: database, photographs, results
    database: str  # URL of SQLAlchemy
    workers: int = 1
    threads: int = 1  # CPU threads of each worker
    backend: str = "auto"
    device: str = "auto"
    false_alarm_rate: float = 0.01
    max_queue: int = 200  # photographs that wait or are in work; more are refused (429)
    max_files: int = 16  # photographs of one inspection
    max_bytes: int = 50 * MEGABYTE  # of one photograph
    max_pixels: int = 50_000_000  # of one photograph, read from its header before decoding
    decode_memory: int = 3072 * MEGABYTE  # beyond what a worker needs for its models
    time_limit: float = 120.0  # seconds of one inspection; then its worker is replaced
    lease: float = 15.0  # seconds without a sign of life after which a job is given to another
    attempts: int = 3  # workers that may die of an inspection before it counts as failed
    least_free: int = 200 * MEGABYTE  # of the disk; below, nothing is accepted
    engine: str = "processes"  # or "ray"
    ray_address: str = ""
    keep_days: float = 0.0  # photographs and pictures; 0: for ever
    keep_bytes: int = 0  # of photographs and pictures; 0: no limit
    watches: tuple[Watch, ...] = ()
    settle: float = 2.0  # seconds that a watched file must stay unchanged
    results: Path | None = None  # folder for results.csv and a JSON file an inspection
    webhook: str = ""
    webhook_secret: str = ""
    mqtt: str = ""  # mqtt://host:port/topic

    @property
    def spool(self) -> Path:
        """Photographs as they came."""
        return self.root / "photographs"

    @property
    def unclaimed(self) -> Path:
        """Photographs that the database does not know."""
        return self.root / "unclaimed"

    @property
    def pictures(self) -> Path:
        """Maps and pictures of inspections."""
        return self.root / "pictures"

    @property
    def calibrations(self) -> Path:
        """Versions of the models' calibrations, and the photographs they stand on."""
        return self.root / "calibrations"

    def dump(self) -> str:
        """JSON for a worker process."""
        values = asdict(self)
        for each in values["watches"]:
            each["folder"] = str(each["folder"])
        values["models"] = {name: str(path) for name, path in self.models.items()}
        values |= {"root": str(self.root), "results": str(self.results) if self.results else None}
        return json.dumps(values)

    @classmethod
    def load(cls, text: str) -> "StationSettings":
        """The opposite of `dump`."""
        values: dict[str, Any] = json.loads(text)
        values["models"] = {name: Path(path) for name, path in values["models"].items()}
        values["root"] = Path(values["root"])
        values["results"] = Path(values["results"]) if values["results"] else None
        values["watches"] = tuple(
            Watch(each["model"], Path(each["folder"])) for each in values["watches"]
        )
        return cls(**values)


def named_models(folders: tuple[Path, ...]) -> dict[str, Path]:
    """Model folders by the name of their last part. Raises InputError when two share one."""
    found: dict[str, Path] = {}
    for folder in folders:
        name = folder.resolve().name
        if not _NAME.fullmatch(name):
            raise InputError(
                f"--models: '{folder}' ends in a name that no address can hold: rename the folder "
                "(letters, digits, '.', '_' and '-')"
            )
        if name in found:
            raise InputError(f"--models: two folders are called {name}: rename one")
        found[name] = folder.resolve()
    if not found:
        raise InputError("--models: name at least one model folder")
    return found

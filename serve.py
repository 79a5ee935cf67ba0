"""The inspection station: photographs in, verdicts out, a page for people, nothing is lost.

    python serve.py --models out/mug out/valve                     http://127.0.0.1:8008
    python serve.py --models out/mug --watch incoming/             new images of a folder
    python serve.py --models out/mug --host 0.0.0.0 --token-file token.txt

Everything is kept in one folder (--folder): a restart, also after a power cut, goes on there.
"""

import logging
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gaussian_renderer import backend_help, choose_device
from pipeline.command_line import run
from pipeline.model_folder import ModelFolder
from scene import InputError, folder_lock, refuse_inside

_GIGABYTE, _MEGABYTE = 2**30, 2**20
_LIMITS: dict[str, tuple[float, float]] = {  # smallest and largest value of an option
    "port": (1, 65_535), "workers": (1, 1024), "threads": (0, 1024), "settle": (0, 3600),
    "max_queue": (1, 1_000_000), "max_megabytes": (0.001, 4096), "max_megapixels": (0.001, 1000),
    "time_limit": (0.1, 86_400), "keep_days": (0, 36_500), "keep_gigabytes": (0, 1_000_000),
}  # fmt: skip


@dataclass(frozen=True)
class ServeConfig:
    """Every knob of the station."""

    models: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["-m"])]
    """Model folders that train.py wrote; each is called by its last part."""
    folder: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out/station")
    """Folder of the station: database, photographs, pictures, versions."""
    host: str = "127.0.0.1"
    """Address to listen on. Any but this machine's own needs --token-file."""
    port: int = 8008
    token_file: Path | None = None
    """File with the secret that clients must know (at least 16 letters)."""
    database: str = ""
    """postgresql+psycopg://USER@HOST/NAME; default: SQLite in the station's folder."""
    workers: int | None = None
    """Processes that inspect; default: one for each two cores."""
    threads: int = 0
    """CPU threads of each worker; 0: the cores, divided among the workers."""
    engine: Literal["processes", "ray"] = "processes"
    """`ray`: the workers are replicas of Ray Serve, which share --folder and PostgreSQL."""
    ray_address: str = ""
    """Of a running Ray cluster; default: one is started here."""
    watch: tuple[str, ...] = ()
    """Folders whose new images are inspected: FOLDER, or MODEL=FOLDER. Sub-folders are parts."""
    settle: float = 2.0
    """Seconds that a watched file must stay unchanged."""
    results: Path | None = None
    """Folder for a CSV file a day and a JSON file an inspection."""
    webhook: str = ""
    """Address that every verdict is posted to."""
    webhook_secret_file: Path | None = None
    """File with the secret that signs them (HMAC-SHA256)."""
    mqtt: str = ""
    """mqtt://HOST:PORT/TOPIC that every verdict is published to (pip install paho-mqtt)."""
    false_alarm_rate: float = 0.01
    """Share of good images that may be called anomalous; sets the first threshold."""
    max_queue: int = 200
    """Photographs that may wait; more are refused (429)."""
    max_megabytes: float = 50.0
    """Of one photograph."""
    max_megapixels: float = 50.0
    """Of one photograph."""
    time_limit: float = 120.0
    """Seconds of one inspection; its worker is then replaced."""
    keep_days: float = 0.0
    """Photographs and pictures that are older go, the history stays; 0: they stay too."""
    keep_gigabytes: float = 0.0
    """What is more goes: pictures of good parts first; 0: no limit."""
    backend: Annotated[str, tyro.conf.arg(help=backend_help())] = "auto"
    device: str = "auto"
    """auto, cpu or cuda."""


def serve(config: ServeConfig) -> None:
    """Runs the station until it is stopped. Raises InputError for what the user can fix."""
    try:
        import uvicorn

        from station.application import application
        from station.security import check_token
        from station.server import open_station
    except ModuleNotFoundError as error:
        raise InputError(
            f"the station needs {error.name}: pip install fastapi uvicorn sqlalchemy "
            "python-multipart"
        ) from error
    token = _secret(config.token_file, "--token-file")
    check_token(config.host, token)
    settings = station_settings(config)
    with folder_lock(settings.root, "--folder"):
        station = open_station(settings)
        print(f"http://{config.host}:{config.port}   models: {', '.join(settings.models)}")
        if token:
            print(f"clients must know the token in {config.token_file}")
        uvicorn.run(
            application(station, config.host, token), host=config.host, port=config.port,
            log_level="warning", server_header=False, timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=65536,
        )  # fmt: skip


def station_settings(config: ServeConfig) -> "StationSettings":  # type: ignore[name-defined]  # noqa: F821
    """The settings by the command line. Raises InputError."""
    from station.settings import StationSettings, named_models

    for name, (least, most) in _LIMITS.items():
        value = getattr(config, name)
        if value is not None and not least <= value <= most:  # also of what is no number
            raise InputError(
                f"--{name.replace('_', '-')} {value}: give a number from {least:,} to {most:,}"
            )
    if (config.device, config.backend) != ("auto", "auto"):
        choose_device(config.device, config.backend)  # says what cannot be had
    if not 0 < config.false_alarm_rate < 1:
        raise InputError("--false-alarm-rate lies between 0 and 1")
    if config.engine == "ray" and not config.database.startswith("postgresql"):
        raise InputError("--engine ray: several machines need --database postgresql+psycopg://...")
    if config.engine == "ray" and find_spec("ray") is None:
        raise InputError("--engine ray needs Ray Serve: pip install 'ray[serve]'")
    models, root = named_models(config.models), config.folder.resolve()
    if root in models.values() or ModelFolder(root).config_path.is_file():
        raise InputError(f"--folder: '{root}' is a model folder: choose another for the station")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = config.workers or max(1, (cores or 1) // 2)
    watches = _watches(config, models)
    for watch in watches:
        refuse_inside(root, watch.folder, "--folder")
        if config.results is not None:
            refuse_inside(config.results, watch.folder, "--results")
    if config.mqtt:
        _check_mqtt(config.mqtt)
    if config.webhook and not config.webhook.startswith(("http://", "https://")):
        raise InputError("--webhook: give an address that begins with http:// or https://")
    secret = _secret(config.webhook_secret_file, "--webhook-secret-file")
    if config.webhook and not secret:
        raise InputError("--webhook: give --webhook-secret-file, so that receivers can trust it")
    return StationSettings(
        models=models, root=root, database=config.database or f"sqlite:///{root / 'station.db'}",
        workers=workers, threads=config.threads or max(1, (cores or 1) // workers),
        engine=config.engine, ray_address=config.ray_address,
        backend=config.backend, device=config.device, false_alarm_rate=config.false_alarm_rate,
        max_queue=config.max_queue, max_bytes=int(config.max_megabytes * _MEGABYTE),
        max_pixels=int(config.max_megapixels * 1e6), time_limit=config.time_limit,
        keep_days=config.keep_days, keep_bytes=int(config.keep_gigabytes * _GIGABYTE),
        watches=watches, settle=config.settle,
        results=None if config.results is None else config.results.resolve(),
        webhook=config.webhook, webhook_secret=secret, mqtt=config.mqtt,
    )  # fmt: skip


def _watches(config: ServeConfig, models: dict[str, Path]) -> "tuple[Watch, ...]":  # type: ignore[name-defined]  # noqa: F821
    """Which folder belongs to which model. Raises InputError."""
    from station.settings import Watch

    found = []
    for text in config.watch:
        name, equals, folder = text.partition("=")
        if not equals or name not in models:
            if len(models) > 1:
                raise InputError(f"--watch {text}: write MODEL=FOLDER, MODEL one of "
                                 f"{', '.join(models)}")  # fmt: skip
            name, folder = next(iter(models)), text
        if not folder.strip():
            raise InputError(f"--watch '{text}' names no folder: write FOLDER, or MODEL=FOLDER")
        if not Path(folder).is_dir():
            raise InputError(f"--watch: there is no folder '{folder}': make it, or check the path")
        found.append(Watch(name, Path(folder).resolve()))
    return tuple(found)


def _secret(path: Path | None, option: str) -> str:
    """The content of a file. Raises InputError."""
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{option}: cannot read '{path}' ({error})") from error


def _check_mqtt(address: str) -> None:
    from urllib.parse import urlsplit

    parts = urlsplit(address)
    if parts.scheme != "mqtt" or not parts.hostname or not parts.path.strip("/"):
        raise InputError("--mqtt: give mqtt://HOST:PORT/TOPIC")
    if find_spec("paho") is None:
        raise InputError("--mqtt needs paho-mqtt: pip install paho-mqtt")


def main() -> None:
    """Command line."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    run(
        lambda: serve(tyro.cli(ServeConfig, description=__doc__)),
        "what was accepted is kept, and goes on with the next start",
    )


if __name__ == "__main__":
    main()

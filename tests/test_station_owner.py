"""A station's folder belongs to one database: another one neither starts there nor deletes."""

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra 'station' is not installed here")
pytest.importorskip("python_multipart", reason="the extra 'station' is not installed here")

from sqlalchemy import text

from scene import InputError
from station.database import migrate, open_database
from station.queue import Order, Upload
from station.server import open_station
from station.settings import StationSettings, named_models
from station.tables import identities, model_troubles

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 100


@pytest.fixture
def settings(ball_model: Path, tmp_path: Path) -> StationSettings:
    return StationSettings(named_models((ball_model,)), tmp_path / "station",
                           f"sqlite:///{tmp_path / 'first.db'}", least_free=0)  # fmt: skip


def with_photograph(settings: StationSettings) -> Path:
    """An old photograph that the station accepted; where it lies."""
    station = open_station(settings)
    upload = Upload("a.png", io.BytesIO(PNG))
    key = station.queue.accept(Order("Ball", None, "api"), [upload])
    station.database.engine.dispose()
    assert key is not None
    path = station.queue.spool.path(key, 0)
    os.utime(path, (1.0, 1.0))
    return path


def start(settings: StationSettings) -> None:
    open_station(settings).database.engine.dispose()


@pytest.mark.parametrize("has_name", [True, False])
def test_another_database_is_refused_and_no_photograph_is_lost(
    settings: StationSettings, tmp_path: Path, has_name: bool
) -> None:
    kept = with_photograph(settings)
    if not has_name:  # a folder of an earlier version
        (settings.root / "database.id").unlink()
    new = replace(settings, database=f"sqlite:///{tmp_path / 'second.db'}")
    with pytest.raises(InputError, match=r"--folder.*another database.*second\.db"):
        start(new)
    assert not (tmp_path / "second.db").exists()
    start(replace(new, root=tmp_path / "elsewhere"))  # it belongs to a station of its own now
    with pytest.raises(InputError, match="another database"):
        start(new)
    assert kept.is_file()
    start(settings)
    assert kept.is_file()


def test_stations_of_earlier_versions_are_taken_over(settings: StationSettings) -> None:
    kept = with_photograph(settings)
    (settings.root / "database.id").unlink()
    database = open_database(settings.database)
    with database.write() as connection:
        connection.execute(text("DROP TABLE identities"))
        connection.execute(text("UPDATE schema_versions SET version = 1"))
    start(settings)
    with database.read() as connection:
        name = connection.execute(identities.select()).one().name
    assert (settings.root / "database.id").read_text().strip() == name
    assert kept.is_file()


def test_an_earlier_database_gets_the_tables_of_this_version(database_url: str) -> None:
    database = open_database(database_url)
    migrate(database)
    with database.write() as connection:
        connection.execute(text("DROP TABLE model_troubles"))
        connection.execute(text("DROP TABLE identities"))
        connection.execute(text("UPDATE schema_versions SET version = 1"))
    migrate(database)
    with database.write() as connection:
        connection.execute(identities.insert().values(id=1, name="a" * 32))
        connection.execute(model_troubles.insert().values(model="a", message="b", at=1.0))
    database.engine.dispose()

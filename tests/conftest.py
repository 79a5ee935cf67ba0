"""Fixtures that several files share."""

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from captures import frame, orbit, painted_ball, save_image, write_transforms
from small_training import small
from station_parts import postgres

from train import train


@pytest.fixture(scope="session")
def ball_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A painted ball of 64 pixels with 15 held-out views, trained for seconds; do not write."""
    root, frames = tmp_path_factory.mktemp("data") / "Ball", []
    for number, pose in enumerate(orbit(60)):
        save_image(root / f"train/good/{number}.png", painted_ball(pose, 64))
        frames.append(frame(f"train/good/{number}.png", pose))
    write_transforms(root / "transforms.json", frames)
    out = tmp_path_factory.mktemp("out") / "Ball"
    return train(small(root, out, iterations=400, max_gaussians=3_000))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server of our own, with {} for the database's name."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("PostgreSQL (initdb, pg_ctl) is not installed here")
    pytest.importorskip("psycopg", reason="the driver psycopg is not installed here")
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    return new_database(request, tmp_path)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """An empty database of either kind, for all tests of a file."""
    return new_database(request, tmp_path_factory.mktemp("database"))


def new_database(request: pytest.FixtureRequest, folder: Path) -> str:
    """Its URL."""
    if request.param == "sqlite":
        return f"sqlite:///{folder / 'station.db'}"
    import psycopg

    server, name = request.getfixturevalue("postgres_server"), f"station_{secrets.token_hex(6)}"
    address = server.format("postgres").replace("+psycopg", "")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.format(name)

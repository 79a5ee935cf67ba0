"""kill -9 of workers and of the server: every accepted photograph has exactly one verdict."""

from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra 'station' is not installed here")
pytest.importorskip("python_multipart", reason="the extra 'station' is not installed here")

from captures import look_at, painted_ball, save_image

from benchmarks.station import LoadConfig, load


def test_kills_under_load_lose_and_double_nothing(
    ball_model: Path, database_url: str, tmp_path: Path
) -> None:
    for number in range(4):
        save_image(
            tmp_path / f"images/{number}.png", painted_ball(look_at([4.0 - number, 2.0, 0.5]), 64)
        )
    figures = load(LoadConfig(
        ball_model, tmp_path / "images", photographs=40, clients=4, kills=4, pause=(1.0, 4.0),
        database=database_url,
    ))  # fmt: skip
    assert figures["accepted"] == 40
    assert figures["lost"] == figures["doubled"] == 0
    assert figures["restarts"] >= 1
    assert "error" not in figures["verdicts"]

"""The benchmark of training: a point per budget, and a chart."""

from pathlib import Path

from captures import write_mad

from benchmarks.training import TrainingBenchmark, main
from scene import read_json


def test_every_budget_is_a_point(tmp_path: Path) -> None:
    source = write_mad(tmp_path / "ball", views=12)
    main(
        TrainingBenchmark(
            source, ("default",), (10, 20), json=tmp_path / "c.json", chart=tmp_path / "c.png"
        )
    )
    document = read_json(tmp_path / "c.json")
    assert [point["iterations"] for point in document["points"]] == [10, 20]
    assert all(point["psnr"] > 0 and point["seconds"] > 0 for point in document["points"])
    assert document["peak_mib"] > 10
    assert document["commit"]
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")

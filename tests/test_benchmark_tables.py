"""The grid as plain data, and tables worked out by hand."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmark_workers import TINY
from captures import write_blender, write_mad

from benchmarks.paper import paper
from benchmarks.paper.folder import claim_folder
from benchmarks.paper.further_tables import draw_figure_3, figure_3, hours, table_4
from benchmarks.paper.jobs import Axes, Job, find_sources, plan
from benchmarks.paper.poses import summarise
from benchmarks.paper.records import Record, mean_over_classes, score_of
from benchmarks.paper.table import (
    Column,
    Spread,
    Table,
    as_json,
    comma_separated,
    latex,
    markdown,
    spread,
)
from benchmarks.paper.tables import provenance_notes, table_1, table_2, table_3, table_5
from scene import InputError

METHOD = "splatpose-default"
SECONDS = {"coarse": 0.5, "refine": 1.0, "score": 0.25, "total": 2.0}


def record(
    name: str, seed: int, auroc: float | None, share: float = 1.0, method: str = METHOD
) -> Record:
    """A job that reached this image AUROC."""
    summary = {
        "image_auroc": auroc, "pixel_auroc": 0.9, "aupro": 0.8, "n_images": 10,
        "seconds": SECONDS, "remarks": ["a remark"],
    }  # fmt: skip
    results: dict[str, Any] = {
        "detections": {"auto": summary, "own": summary, "adam25": summary},
        "poses": None, "training_seconds": 100.0 + seed, "calibration_seconds": 20.0,
        "iterations": 3000, "commit": "0123456789abcdef+",
        "settings": {"threads": 1, "resolution": 200},
        "hardware": {"cpu": "a CPU", "cores": 2, "gpu": None},
    }  # fmt: skip
    return Record(Job(name, f"/data/{name}", method, seed, share), results)


def headings(table: Table) -> list[str]:
    return [column.heading for column in table.columns]


def test_spread_is_mean_and_sample_deviation() -> None:
    assert spread([1.0, 3.0, None]) == Spread(2.0, pytest.approx(2**0.5), 2)
    assert spread([4.0]) == Spread(4.0, None, 1)
    assert spread([None]) is None


def test_mean_over_classes_comes_before_deviation_over_seeds() -> None:
    records = [
        record("Cat", 0, 0.6), record("Cat", 1, 0.8),
        record("Owl", 0, 0.8), record("Owl", 1, 0.8),
    ]  # fmt: skip
    found = mean_over_classes(records, score_of("image_auroc"))
    assert found == Spread(pytest.approx(75.0), pytest.approx(50**0.5), 2)  # of 70 and 80
    # A seed that lacks a class does not count.
    assert mean_over_classes(records[:3], score_of("image_auroc")) == (pytest.approx(70.0), None, 1)


def test_table_1_beside_the_paper() -> None:
    rows = [record("Cat", 0, 0.6), record("Cat", 1, 0.8), record("Cat", 0, None, method="padim")]
    table = table_1([*rows, record("Cat", 0, 0.1, share=0.2)])
    assert headings(table) == [
        "class", METHOD, "padim", "splatpose (paper)", "omniposead (paper)", "padim (paper)",
    ]  # fmt: skip
    assert table.rows[0] == [
        "Cat", Spread(pytest.approx(70.0), pytest.approx(200**0.5), 2), None, 82.4, 84.9, 53.6,
    ]  # fmt: skip
    assert table.rows[1][3:] == [93.9, 90.9, 58.2]
    assert any("commit 0123456789ab+" in note for note in table.notes)


def test_tables_2_3_5_and_hours() -> None:
    records = [record("Cat", seed, 0.7) for seed in (0, 1)]
    assert table_2(records).rows[0][2:] == [Spread(90.0, 0.0, 2), Spread(80.0, 0.0, 2), 99.5, 95.8]
    assert table_2(records).rows[-1] == ["OmniposeAD, quoted", None, None, None, 98.4, 86.6]
    times = table_3(records).rows[0]
    assert times[1] == Spread(100.5, pytest.approx(0.5**0.5), 2)
    assert times[-3:] == [Spread(1.5, 0.0, 2), 294, 5]
    shares = table_5([*records, record("Cat", 0, 0.5, share=0.2)])
    assert [row[0] for row in shares.rows] == ["20", "100"]
    assert shares.rows[0][-4:] == [77.6, 86.5, 67.2, 73.7]
    expected = hours(records).rows[0]
    assert expected[-1] == pytest.approx(20 * 5 * (120.5 + 10 * 2.0) / 3600)


def test_figure_3_and_its_picture(tmp_path: Path) -> None:
    table = figure_3([record("Cat", seed, 0.7) for seed in (0, 1)], [25, 100])
    assert len(table.rows) == 1  # nothing was measured at k = 100
    assert table.rows[0][:3] == [METHOD, 25, Spread(pytest.approx(70.0), 0.0, 2)]
    assert table.rows[0][-2:] == [Spread(1.25, 0.0, 2), 61.0]
    draw_figure_3(table, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_table_4_from_errors_worked_out_by_hand() -> None:
    far = {"translation": 0.3, "rotation_rad": 0.1}
    near = {"translation": 0.01, "rotation_rad": 0.01}
    worse = {"translation": 0.03, "rotation_rad": 0.002}
    times = {"coarse": 0.1, "refine": 0.4}
    entries = [{"coarse": far, "final": end, "seconds": times} for end in (near, worse)]
    poses = summarise(entries)
    assert poses["final"]["found"] == 0.5
    assert poses["final"]["translation"] == {"mean": 0.02, "median": 0.02, "worst": 0.03}
    done = record("lego", 0, None)
    table = table_4(
        [replace(done, results=done.results | {"poses": poses | {"split": "test split"}})]
    )
    assert table.rows[1] == [
        f"lego, {METHOD}, final",
        *(Spread(pytest.approx(x), None, 1) for x in (0.02, 0.02, 0.03, 0.006, 0.006, 0.01)),
        Spread(50.0, None, 1), Spread(0.4, None, 1), 0.021, 0.003,
    ]  # fmt: skip
    assert table.rows[2][0] == "iNeRF on MAD-Sim, quoted"


def test_four_formats_of_one_table() -> None:
    cells = [["a_b", Spread(1.25, 0.5, 2), None], ["c", Spread(2.0, None, 1), 7.0]]
    table = Table("t", "50 % & more", [Column("x"), Column("y", 2), Column("z")], cells, ["why"])
    assert "| a_b | 1.25 ± 0.50 | - |" in markdown(table)
    assert "- why" in markdown(table)
    text = latex(table)
    assert r"a\_b & 1.25 $\pm$ 0.50 & - \\" in text
    assert r"\caption{50 \% \& more}" in text
    rows = list(csv.reader(io.StringIO(comma_separated(table))))
    assert rows == [["x", "y", "y std", "z"], ["a_b", "1.25", "0.5", ""], ["c", "2.0", "", "7.0"]]
    assert json.loads(json.dumps(as_json(table)))["rows"][0][1] == {
        "mean": 1.25,
        "std": 0.5,
        "n": 2,
    }


def test_shortened_runs_and_commits_are_named() -> None:
    records = [record("Cat", seed, 0.9) for seed in (0, 1)]
    records[0].results["iterations"] = 60
    records[1].results["commit"] = "fedcba9876543210"
    assert provenance_notes(records) == [
        f"{METHOD}: trained for 3000 iterations, at 200 pixels instead of 400.",
        f"{METHOD}: trained for 60 iterations instead of 3000, at 200 pixels instead of 400.",
        "Run on: a CPU, 2 cores, 1 thread(s) a job; commit 0123456789ab+, fedcba987654.",
    ]


def test_papers_table_1_agrees_with_its_means() -> None:
    assert len(paper.TABLE_1) == 20
    for field, mean in paper.TABLE_1_MEAN._asdict().items():
        values = [getattr(row, field) for row in paper.TABLE_1.values()]
        assert sum(values) / 20 == pytest.approx(mean, abs=0.4), field


def test_plan_of_a_grid(tmp_path: Path) -> None:
    write_mad(tmp_path / "01Cat", views=4, labels={"good": 1})
    write_blender(tmp_path / "lego")
    axes = Axes(
        sources=find_sources((tmp_path,), ()), seeds=(0, 1), shares=(0.2, 1.0), steps=(25, 175),
        methods=("splatpose-default", "splatpose-paper", "padim"), detections=True, poses=True,
    )  # fmt: skip
    jobs = plan(axes, replace(TINY, holdout_every=None))
    assert len({job.id for job in jobs}) == len(jobs) == 2 * 3 * 2 * 2 + 1
    by_id = {job.id: job for job in jobs}
    ours = by_id["Cat-splatpose-default-seed1-views1"]
    assert [variant.name for variant in ours.variants] == ["auto", "adam25", "adam175"]
    assert ours.poses
    assert not by_id["Cat-splatpose-default-seed1-views0.2"].poses
    # The paper's 175 steps are its own refinement, not a second one.
    theirs = by_id["Cat-splatpose-paper-seed0-views1"]
    assert [variant.name for variant in theirs.variants] == ["adam175", "adam25"]
    # It keeps no view out, so Table 4 needs one more training; lego has a test split.
    assert not theirs.poses
    assert by_id["Cat-splatpose-paper-seed0-views1-holdout10"].poses
    assert by_id["lego-splatpose-paper-seed0-views1"].poses
    poses_only = plan(replace(axes, detections=False), TINY)
    assert all(job.poses and not job.variants and job.share == 1.0 for job in poses_only)


def test_sources_are_captures_or_folders_of_them(tmp_path: Path) -> None:
    for name in ("01Cat", "02Owl"):
        write_mad(tmp_path / "Toys" / name, views=2, labels={"good": 1})
    toys = tmp_path / "Toys"
    assert [path.name for path in find_sources((toys,), ())] == ["01Cat", "02Owl"]
    assert [path.name for path in find_sources((toys,), ("owl",))] == ["02Owl"]
    assert [path.name for path in find_sources((toys / "Cat",), ())] == ["01Cat"]
    with pytest.raises(InputError, match="two captures are called Cat"):
        find_sources((toys, toys / "01Cat"), ())
    with pytest.raises(InputError, match="no captures in"):
        find_sources((toys / "01Cat/test",), ())


def test_settings_are_held_against_those_of_the_first_run(tmp_path: Path) -> None:
    claim_folder(tmp_path, TINY)
    claim_folder(tmp_path, replace(TINY, threads=4, keep_maps=True))  # change no figure
    with pytest.raises(InputError, match=r"begun with other settings \(features: rgb, now auto\)"):
        claim_folder(tmp_path, replace(TINY, features="auto"))

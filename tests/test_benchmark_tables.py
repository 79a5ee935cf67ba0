"""The grid as plain data, and tables worked out by hand."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmark_workers import TINY
from captures import write_blender, write_mad

from benchmarks.paper import quoted
from benchmarks.paper.figure_3 import draw_figure_3, figure_3
from benchmarks.paper.plan import TEST_SPLIT, Axes, Job, find_sources, plan, results_path
from benchmarks.paper.poses import summarise
from benchmarks.paper.results import Results, mean_over_classes, provenance_notes
from benchmarks.paper.run import claim_folder
from benchmarks.paper.tables import (
    hours,
    make_tables,
    table_1,
    table_2,
    table_3,
    table_4,
    table_5,
)
from benchmarks.table import Table, latex, markdown, pd, write_table
from scene import InputError, write_json

METHOD = "splatpose-default"
SECONDS = {"coarse": 0.5, "refine": 1.0, "score": 0.25, "total": 2.0}
DEVIATION = pytest.approx(200**0.5)  # of 60 and 80


class Finished:
    """A folder to which jobs with made-up figures are added."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.jobs: list[Job] = []

    def add(
        self, name: str, seed: int, auroc: float | None, share: float = 1.0, method: str = METHOD,
        **changes: Any,
    ) -> "Finished":  # fmt: skip
        """A job that reached this image AUROC."""
        summary = {
            "image_auroc": auroc, "pixel_auroc": 0.9, "aupro": 0.8, "n_images": 10,
            "seconds": SECONDS, "notes": ["a note"],
        }  # fmt: skip
        ours = method == METHOD
        detections = {"auto": summary, "adam25": summary} if ours else {"own": summary}
        job = Job(name, f"/data/{name}", method, seed, share)
        document = {
            "job": {"source": job.source}, "detections": detections, "poses": None,
            "training_seconds": 100.0 + seed, "views": ["0", "1"],
            "calibration_seconds": 20.0, "iterations": 3000, "commit": "0123456789abcdef+",
            "settings": {"threads": 1, "resolution": 200},
            "hardware": {"cpu": "a CPU", "cores": 2, "gpu": None},
        }  # fmt: skip
        if not ours:
            del document["calibration_seconds"], document["iterations"]
        write_json(results_path(job, self.root), document | changes)
        self.jobs.append(job)
        return self

    def load(self) -> Results:
        """What the tables are made of."""
        return Results.load(self.jobs, self.root)

    def own(self) -> pd.DataFrame:
        """The detections with the methods' own refinement."""
        frame = self.load().detections
        return frame[frame["own"]]


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    """No job yet."""
    return Finished(tmp_path)


def cells(table: Table, row: int) -> list[str]:
    return list(table.texts().iloc[row])


def test_mean_over_classes_comes_before_deviation_over_seeds(finished: Finished) -> None:
    finished.add("Cat", 0, 0.6).add("Cat", 1, 0.8).add("Owl", 0, 0.8)
    # A seed that lacks a class does not count.
    of_one = mean_over_classes("x", finished.own(), "image AUROC")
    assert of_one["x"] == pytest.approx(70.0)
    assert pd.isna(of_one["x std"])
    of_two = mean_over_classes("x", finished.add("Owl", 1, 0.8).own(), "image AUROC")
    assert of_two == {"x": pytest.approx(75.0), "x std": pytest.approx(50**0.5)}  # of 70 and 80


def test_table_1_beside_the_paper(finished: Finished) -> None:
    finished.add("Cat", 0, 0.6).add("Cat", 1, 0.8).add("Cat", 0, None, method="anomalib-padim")
    table = table_1(finished.own())
    assert list(table.frame)[:5] == [
        "class", METHOD, f"{METHOD} std", "anomalib-padim", "anomalib-padim std",
    ]  # fmt: skip
    assert cells(table, 0) == ["Cat", "70.0 ± 14.1", "-", "82.4", "84.9", "78.7", "53.6", "54.2"]
    assert cells(table, 1)[3:] == ["93.9", "90.9", "78.5", "58.2", "65.1"]
    assert table.frame[f"{METHOD} std"][0] == DEVIATION
    assert any("commit 0123456789ab+" in note for note in table.notes)
    assert f"{METHOD}: a note." in table.notes


def test_tables_2_3_5_and_hours(finished: Finished) -> None:
    finished.add("Cat", 0, 0.7).add("Cat", 1, 0.7)
    finished.add("Cat", 0, 0.7, method="anomalib-patchcore")
    full = finished.own()
    scores = table_2(full)
    assert cells(scores, 0)[2:] == ["90.0 ± 0.0", "80.0 ± 0.0", "99.5", "95.8"]
    assert cells(scores, 1)[-2:] == ["74.9", "83.7"]  # the paper's PatchCore
    assert cells(scores, 2) == ["OmniposeAD, quoted", "-", "-", "-", "98.4", "86.6"]
    times = table_3(full)
    assert cells(times, 0)[1:] == [
        "100.5 ± 0.7", "0.50 ± 0.00", "1.00 ± 0.00", "0.25 ± 0.00", "2.00 ± 0.00", "1.50 ± 0.00",
        "294.0", "5.0",
    ]  # fmt: skip
    shares = table_5(finished.add("Cat", 0, 0.5, share=0.2).own())
    assert [cells(shares, row)[0] for row in (0, 1)] == ["20", "100"]
    assert cells(shares, 0)[-4:] == ["77.6", "86.5", "67.2", "73.7"]
    expected = hours(full)
    assert len(expected.frame) == 1  # baselines are not counted
    total = expected.frame["hours for 20 x 5 jobs"][0]
    assert total == pytest.approx(20 * 5 * (120.5 + 10 * 2.0) / 3600)


def test_tables_use_the_largest_share_alone(finished: Finished) -> None:
    finished.add("Cat", 0, 0.6).add("Cat", 0, 0.1, share=0.2)
    tables = {table.name: table for table in make_tables(finished.load(), [])}
    assert list(tables) == ["table_1", "table_2", "table_3", "table_5", "hours"]
    assert cells(tables["table_1"], 0)[1] == "60.0"


def test_baselines_alone_make_no_figure_3_and_no_hours(finished: Finished) -> None:
    results = finished.add("Cat", 0, 0.6, method="anomalib-padim").load()
    assert [t.name for t in make_tables(results, [25])] == ["table_1", "table_2", "table_3"]


def test_figure_3_and_its_image(finished: Finished, tmp_path: Path) -> None:
    results = finished.add("Cat", 0, 0.7).add("Cat", 1, 0.7).load()
    table = figure_3(results.detections, [25, 100])
    assert len(table.frame) == 1  # nothing was measured at k = 100
    assert cells(table, 0)[:3] == [METHOD, "25", "70.0 ± 0.0"]
    assert cells(table, 0)[-2:] == ["1.25 ± 0.00", "61.0"]
    draw_figure_3(table, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_table_4_from_errors_worked_out_by_hand(finished: Finished) -> None:
    far = {"translation": 0.3, "rotation_rad": 0.1}
    near = {"translation": 0.01, "rotation_rad": 0.01}
    worse = {"translation": 0.03, "rotation_rad": 0.002}
    times = {"coarse": 0.1, "refine": 0.4}
    entries = [{"coarse": far, "final": end, "seconds": times} for end in (near, worse)]
    poses = summarise(entries)
    assert poses["final"]["found"] == 0.5
    assert poses["final"]["translation"] == {"mean": 0.02, "median": 0.02, "worst": 0.03}
    finished.add("lego", 0, None, poses=poses | {"split": TEST_SPLIT})
    table = table_4(finished.load().poses)
    assert cells(table, 1) == [
        f"lego, {METHOD}, final", "0.0200", "0.0200", "0.0300", "0.0060", "0.0060", "0.0100",
        "50.0", "0.40", "0.021", "0.003",
    ]  # fmt: skip
    assert cells(table, 2)[0] == "iNeRF on MAD-Sim, quoted"
    assert "lego: 2 images, test split." in table.notes


def test_four_formats_of_one_table(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"x": ["a_b", "c"], "y": [1.25, 2.0], "y std": [0.5, None], "z": [None, 7.0]}
    )
    table = Table("t", "50 % & more", frame, {"y": 2}, ["why"])
    assert "| a_b | 1.25 ± 0.50 | - |" in markdown(table)
    assert "- why" in markdown(table)
    text = latex(table)
    assert r"a\_b & 1.25 $\pm$ 0.50 & - \\" in text
    assert r"\caption{50 \% \& more}" in text
    assert "% why" in text
    write_table(table, tmp_path)
    rows = list(csv.reader((tmp_path / "t.csv").open()))
    assert rows == [["x", "y", "y std", "z"], ["a_b", "1.25", "0.5", ""], ["c", "2.0", "", "7.0"]]
    document = json.loads((tmp_path / "t.json").read_text())
    assert document["rows"][0] == {"x": "a_b", "y": 1.25, "y std": 0.5, "z": None}
    assert document["notes"] == ["why"]


def test_shortened_runs_and_commits_are_named(finished: Finished) -> None:
    finished.add("Cat", 0, 0.9, iterations=60).add("Cat", 1, 0.9, commit="fedcba9876543210")
    assert provenance_notes(finished.own()) == [
        f"{METHOD}: trained for 3000 iterations, at 200 pixels instead of 400.",
        f"{METHOD}: trained for 60 iterations instead of 3000, at 200 pixels instead of 400.",
        "Run on: a CPU, 2 cores, 1 thread(s) a job; commit 0123456789ab+, fedcba987654.",
    ]


def test_papers_table_1_agrees_with_its_means() -> None:
    assert len(quoted.TABLE_1) == 20
    for field, mean in quoted.TABLE_1_MEAN._asdict().items():
        values = [getattr(row, field) for row in quoted.TABLE_1.values()]
        assert sum(values) / 20 == pytest.approx(mean, abs=0.4), field


def test_plan_of_a_grid(tmp_path: Path) -> None:
    write_mad(tmp_path / "01Cat", views=4, labels={"good": 1})
    write_blender(tmp_path / "lego")
    axes = Axes(
        sources=find_sources((tmp_path,), ()), seeds=(0, 1), shares=(0.2, 1.0), steps=(25, 175),
        methods=("splatpose-default", "splatpose-paper", "anomalib-padim"),
        detections=True, poses=True,
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
    # It holds no view out, so Table 4 needs one more training; lego has a test split.
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

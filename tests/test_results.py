"""results.json and results.csv: odd masks are named, cells are no formulas."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.inspector import Inspection, OtherPose
from pipeline.results import Results
from pose_estimation import PoseEstimate
from scene import Query


def inspection(path: Path, level: float) -> Inspection:
    """What an inspector would find in an image of 4 x 4 pixels."""
    pose = torch.eye(4, dtype=torch.float64)
    seconds = dict.fromkeys(("coarse", "refine", "score", "total"), 0.1)
    return Inspection(
        path, image=torch.zeros(3, 4, 4), rendering=torch.zeros(3, 4, 4),
        anomaly_map=torch.linspace(0, level, 16).reshape(4, 4), score=level,
        pose=PoseEstimate(pose, 0.0, 0, 0, True), world_to_camera=pose, seconds=seconds,
    )  # fmt: skip


def test_an_odd_mask_is_named_and_an_empty_one_counts_no_pixel_as_good(tmp_path: Path) -> None:
    right = np.zeros((4, 4), bool)
    right[3, 2:] = True
    masks = {"right": right, "empty": np.zeros((4, 4), bool), "full": np.ones((4, 4), bool)}
    for name, mask in masks.items():
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    figures = {}
    for names in (["right"], ["right", "empty"], ["right", "full"]):
        results = Results(tmp_path / "-".join(names), None, {})
        results.add(Query("good/0", Path("g.png"), "good", None, False), inspection(Path(), 0.1))
        for name in names:
            query = Query(f"Dent/{name}", Path("d.png"), "Dent", tmp_path / f"{name}.png", True)
            results.add(query, inspection(Path("d.png"), 1.0), masks[name])
        document = results.write({})
        figures[names[-1]] = document["summary"]["pixel_auroc"]
        notes = {entry["name"]: entry["note"] for entry in document["images"]}
    assert notes["Dent/right"] is None
    assert notes["Dent/full"] == "its mask marks 100% of the image"
    assert figures["empty"] == figures["right"] == 1.0
    stored = json.loads((tmp_path / "right-empty/results.json").read_text())
    assert "mask is empty" in stored["images"][-1]["note"]


def test_figures_leave_out_images_whose_pose_was_refused(tmp_path: Path) -> None:
    results = Results(tmp_path / "out", None, {})
    for number, (level, is_defect, is_found) in enumerate(
        [(0.1, False, True), (0.9, True, True), (0.8, False, False), (0.2, True, False)]
    ):
        found = inspection(Path(), level)
        assert found.pose is not None
        found = replace(found, pose=replace(found.pose, pose_ok=is_found))
        label = "Dent" if is_defect else "good"
        results.add(Query(str(number), Path("a.png"), label, None, is_defect), found)
    results.add(Query("lost", Path("b.png"), "Dent", None, True), Inspection(Path(), "no image"))
    summary = results.write({})["summary"]
    assert summary["image_auroc"] == summary["kinds"]["Dent"]["image_auroc"] == 1.0
    assert summary["image_auroc_with_refused"] == 3 / 4
    assert (summary["n_images"], summary["n_failed"], summary["n_poses_refused"]) == (5, 3, 2)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1"])
def test_no_cell_of_the_table_is_a_formula(tmp_path: Path, name: str) -> None:
    results = Results(tmp_path / "out", None, {})
    query = Query(name, Path(name), name, None, None)
    results.add(query, Inspection(Path(name), f"{name} is no image"))
    results.add(Query("good/0", Path("g.png"), "good", None, False), inspection(Path(), -0.5))
    results.write({})
    with open(tmp_path / "out/results.csv", newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    for column in ("path", "name", "label", "error"):
        assert not first[column].lstrip().startswith(("=", "+", "-", "@"))
    assert second["score"] == "-0.5"  # numbers stay numbers


@pytest.mark.parametrize(("verdict", "differs"), [(False, False), (True, True)])
def test_poses_that_fit_as_well_are_told_with_their_verdicts(
    tmp_path: Path, verdict: bool, differs: bool
) -> None:
    results = Results(tmp_path, None, {})
    other = OtherPose(2 * torch.eye(4, dtype=torch.float64), 3.5, verdict)
    query = Query("good/0", Path("g.png"), "good", None, False)
    found = replace(inspection(Path("g.png"), 1.0), is_anomalous=False)
    results.add(query, replace(found, other_poses=(other,)))
    results.add(query, found)
    ambiguous, clear = results.write({})["images"]
    (told,) = ambiguous["pose_ambiguous"]
    assert told["world_to_camera"][0][0] == 2
    assert (told["score"], told["is_anomalous"]) == (3.5, verdict)
    assert "fits 2 poses" in ambiguous["note"]
    assert ("verdict is another" in ambiguous["note"]) == differs
    assert clear["pose_ambiguous"] is None
    assert clear["note"] is None

"""The robustness table: what is done to captures, what is counted, and that rows are kept."""

from dataclasses import replace
from pathlib import Path

import pytest
from captures import write_blender, write_mad

from benchmarks.disturbances import AS_IS, DISTURBANCES, in_other_light, with_noisy_poses
from benchmarks.robustness import RobustnessConfig, _flagged, measure_all, table
from benchmarks.table import markdown
from scene import InputError, read_capture, read_image, read_json, read_queries, true_poses


def test_noisy_poses_lie_beside_the_input(tmp_path: Path) -> None:
    source = write_mad(tmp_path / "ball")
    before = {p: p.read_bytes() for p in source.rglob("*") if p.is_file()}
    made = with_noisy_poses(source, tmp_path / "noisy", 0.5, 0.01, seed=0)
    assert {p: p.read_bytes() for p in source.rglob("*") if p.is_file()} == before
    true, wrong = read_capture(source), read_capture(made)
    assert [view.name for view in wrong.views] == [view.name for view in true.views]
    for a, b in zip(true.views, wrong.views, strict=True):
        difference = (a.camera.world_to_camera - b.camera.world_to_camera).abs().max()
        assert 0 < float(difference) < 0.2
    assert true_poses(wrong).keys() == true_poses(true).keys()
    again = with_noisy_poses(source, tmp_path / "again", 0.5, 0.01, seed=0)
    assert read_json(again / "transforms.json") == read_json(made / "transforms.json")


def test_poses_of_other_layouts_are_refused(tmp_path: Path) -> None:
    source = write_blender(tmp_path / "ball")
    with pytest.raises(InputError, match="MAD"):
        with_noisy_poses(source, tmp_path / "noisy", 0.5, 0.01, seed=0)


def test_other_light_keeps_names_labels_and_masks(tmp_path: Path) -> None:
    source = write_mad(tmp_path / "ball")
    made = read_queries(in_other_light(source, tmp_path / "dim", "exposure x 0.7"))
    for old, new in zip(read_capture(source).queries, made, strict=True):
        assert (old.name, old.label, old.is_anomalous) == (new.name, new.label, new.is_anomalous)
        assert (old.mask_path is None) == (new.mask_path is None)
        change = read_image(new.image_path) - 0.7 * read_image(old.image_path)
        assert float(change.abs().max()) < 1 / 255


def test_every_disturbance_has_a_name_of_its_own() -> None:
    names = [disturbance.name for disturbance in DISTURBANCES]
    assert len(set(names)) == len(names)
    other_lights = [d for d in DISTURBANCES if d.light != AS_IS.light]
    assert {d.training for d in other_lights} == {AS_IS.training}


def test_flags_are_counted_among_images_with_a_verdict() -> None:
    scores = (("a", 1.0, True), ("b", 3.0, True), ("c", 4.0, False), ("d", 5.0, None))
    images = [{"name": n, "score": s, "pose_ok": ok} for n, s, ok in scores]
    images.append({"name": "e", "score": None, "pose_ok": None})
    labels = {"a": False, "b": False, "c": True, "d": True, "e": True}
    expected = {"good": 1, "of good": 2, "defective": 1, "of defective": 3}
    assert _flagged(images, labels, 2.0) == expected
    assert _flagged(images, labels, None) is None


def test_rows_are_measured_once(tmp_path: Path) -> None:
    source = write_mad(tmp_path / "ball", views=24, labels={"good": 1, "Burrs": 1})
    config = RobustnessConfig((source,), only=("as it is",), output=tmp_path / "out", iterations=30)
    (row,) = measure_all(config)
    assert row["poses"]["of"] == 2
    assert row["views"] == [18, 6]
    kept = tmp_path / "out" / "ball" / "rows" / "as_it_is.json"
    written = kept.stat().st_mtime_ns
    more = replace(config, only=("as it is", "queries: exposure x 0.7"))
    assert [r["disturbance"] for r in measure_all(more)] == ["as it is", "queries: exposure x 0.7"]
    assert kept.stat().st_mtime_ns == written
    text = (tmp_path / "out" / "robustness.md").read_text()
    assert text.count("| ball |") == 2
    assert text == markdown(table(read_json(tmp_path / "out" / "rows.json")))


def test_unknown_names_and_nothing_to_do_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose from"):
        measure_all(RobustnessConfig((tmp_path,), only=("rain",)))
    with pytest.raises(InputError, match="Nothing to measure"):
        measure_all(RobustnessConfig(output=tmp_path))

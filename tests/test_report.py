"""Overlays, charts, and a page that needs nothing but itself."""

import json
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
import torch

from report import (
    Report,
    ReportImage,
    detection_report,
    encode_jpeg,
    overlay,
    write_overlay,
    write_report,
)
from report.charts import roc_chart, score_histogram
from report.page import script_json
from scene import InputError, Query


class Page(HTMLParser):
    """What a browser would make of a page: tags, texts, images; refuses tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.images = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *(name for name, _ in attrs)))
        if tag == "img":
            self.images.append(dict(attrs))
        elif tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, *(name for name, _ in attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def written(report, folder):
    """The page's text."""
    write_report(folder / "report.html", report)
    return (folder / "report.html").read_text("utf-8")


def example_overlay():
    image = torch.zeros(3, 40, 50)
    anomaly_map = torch.zeros(40, 50)
    anomaly_map[20:25, 30:36] = 1.0
    return overlay(image, image, anomaly_map, 1.0, anomaly_map > 0.5, anomaly_map > 0.2)


def test_overlay_shows_four_panels_at_a_fixed_scale():
    shown = example_overlay()
    assert shown.shape == (40, 200, 3)
    assert shown.dtype == np.uint8
    hot, cold = shown[22, 100 + 33].astype(int), shown[35, 100 + 5].astype(int)
    assert hot[0] > hot[2] + 50  # red
    assert cold.sum() < 150  # dark
    image = torch.rand(3, 40, 50)
    faint = overlay(image, image, torch.full((40, 50), 0.01), 10.0)[30, 110]
    strong = overlay(image, image, torch.full((40, 50), 0.01), 0.01)[30, 110]
    assert strong[0] > faint[0]


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_overlay_refuses_a_scale_that_is_none(scale):
    with pytest.raises(ValueError, match="positive number"):
        overlay(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8), torch.zeros(8, 8), scale)


def test_jpeg_keeps_the_order_of_the_channels():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    decoded = cv2.imdecode(np.frombuffer(encode_jpeg(red), np.uint8), cv2.IMREAD_COLOR)
    assert decoded[8, 8, 2] > 240
    assert decoded[8, 8, 0] < 10


def test_a_written_overlay_is_a_jpeg_of_the_four_panels(tmp_path):
    image = torch.rand(3, 40, 50)
    write_overlay(tmp_path / "deep/a.jpg", image, image, torch.zeros(40, 50), 1.0)
    assert cv2.imread(str(tmp_path / "deep/a.jpg")).shape == (40, 200, 3)


@pytest.mark.parametrize("scores", [[1.0, 2.0, 2.5], [1e-5, 1.0, 30.0], [2.0], [0.0, 0.0]])
@pytest.mark.parametrize("threshold", [None, 2.2, 100.0])
def test_histogram_counts_all_inside_its_axis(scores, threshold):
    chart = score_histogram({"good": scores, "defective": scores}, threshold)
    for bars in chart.series.values():
        assert len(bars) == len(set(scores))
        assert sum(bar.height * chart.tallest for bar in bars) == pytest.approx(len(scores))
        assert all(bar.left >= 0 and bar.left + bar.width <= 1 + 1e-9 for bar in bars)
    ends = [value for value in (*scores, threshold) if value is not None]
    assert chart.logarithmic == (0 < 30 * min(ends) < max(ends))
    assert (chart.threshold is None) == (threshold is None)
    assert threshold is None or 0 < chart.threshold < 1


def test_histogram_of_nothing_or_of_what_is_not_finite_is_not_drawn():
    assert score_histogram({}) is None
    assert score_histogram({"good": []}, 1.0) is None
    assert score_histogram({"good": [1.0, float("nan")]}) is None


def test_roc_chart_by_hand():
    chart = roc_chart([2.0, 3.0], [1.0, 2.5])
    assert chart.auroc == pytest.approx(0.75)
    assert (chart.points[0], chart.points[-1]) == ((0.0, 0.0), (1.0, 1.0))


def full_report(folder):
    files = [folder / "0.jpg", folder / "1.jpg"]
    for file in files:
        file.write_bytes(encode_jpeg(example_overlay()))
    images = [
        ReportImage("good/0", 0.4, False, "good", False, overlay=files[0]),
        ReportImage("Burrs/1", 2.0, True, "Burrs", True, overlay=files[1]),
        ReportImage("Burrs/2", 0.5, True, "Burrs", False, False, note="loss 3 x that of & views"),
        ReportImage("Burrs/3", None, True, "Burrs"),
    ]
    return Report(
        "brick_dog",
        images,
        threshold=1.0,
        threshold_note="1 % of good parts",
        figures={"image AUROC": 0.75, "AUPRO": None},
        tables={"Seconds": {"coarse": {"median": 0.02, "max": None}}},
        settings={"features": "classical"},
        notes=["classical features: no weights"],
    )


def test_report_is_complete_and_self_contained(tmp_path):
    text = written(full_report(tmp_path), tmp_path)
    page = Page(text)
    names = {tag for tag, *_ in page.tags}
    assert names.isdisjoint({"link", "iframe", "object"})
    assert not any("src" in attributes for tag, *attributes in page.tags if tag == "script")
    assert "http" not in text
    assert "url(" not in text
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.images)
    assert len(page.images) == 2
    shown = " ".join(" ".join(page.texts).split())
    for words in (
        "4 images 1 flagged 2 passed 1 pose failed 1 not scored",
        "Threshold 1. 1 % of good parts",
        "classical features: no weights",
        "0.75 image AUROC \N{EN DASH} AUPRO",
        "median max coarse 0.02 \N{EN DASH}",
        "Burrs/1 2 2.00 x threshold anomalous label: Burrs",
        "Burrs/2 0.5 0.50 x threshold normal pose failed label: Burrs missed defect",
        "loss 3 x that of & views",
        "Burrs/3 not scored label: Burrs",
        "AUROC 1.000",
        "Settings features classical",
    ):
        assert words in shown
    assert [tag for tag, *_ in page.tags].count("rect") == 2 + 2  # bars and their legend
    order = [shown.index(name) for name in ("Burrs/3", "Burrs/1", "Burrs/2", "good/0")]
    assert order == sorted(order)


HOSTILE = {
    "tag": "<script>alert(1)</script>",
    "closing tags": "</bdi></h3></style></main><!-- ",
    "quotes": '"onerror="alert(1)" \'',
    "template": "{{ 7 * 7 }}{% raw %}{# #}",
    "entity": "&lt;b&gt;&amp;",
    "newlines": "a\nb\r\tc",
    "right to left": "\u202egnp.exe\u2067",
    "long": "x" * 300,
    "not UTF-8": b"\xff.png".decode("utf-8", "surrogateescape"),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_and_labels_stay_text(hostile, tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(example_overlay()))

    def page_of(text):
        return Report(
            text,
            [ReportImage(text, 2.0, True, text, True, True, text, tmp_path / "a.jpg")],
            threshold_note=text,
            figures={text: text},
            tables={text: {text: {text: text}}},
            settings={text: text},
            notes=[text],
        )

    plain = Page(written(page_of("plain"), tmp_path))
    page = Page(written(page_of(hostile), tmp_path))
    expected = hostile.encode("utf-8", "backslashreplace").decode("utf-8").replace("\r", "\n")
    assert page.tags == plain.tags
    assert page.images[0]["alt"] == f"{expected}: image, rendering, anomaly map, overlay"
    assert page.images[0]["src"] == plain.images[0]["src"]
    assert [text.replace(expected, "plain") for text in page.texts] == plain.texts


def test_many_images_stay_files_beside_the_page(tmp_path):
    overlays = tmp_path / "overlays"
    overlays.mkdir()
    names = ["a#b?.jpg", "100%.jpg", "c\N{LATIN SMALL LETTER E WITH ACUTE}.jpg"]
    names += [f"{i}.jpg" for i in range(198)]
    for name in names:
        (overlays / name).write_bytes(encode_jpeg(np.zeros((4, 16, 3), np.uint8)))
    images = [ReportImage(name, 1.0, overlay=overlays / name) for name in names]
    page = Page(written(Report("many", images), tmp_path))
    found = {tmp_path / unquote(image["src"]) for image in page.images}
    assert found == {overlays / name for name in names}
    assert "keep that folder beside this page" in " ".join(" ".join(page.texts).split())
    (overlays / names[5]).unlink()
    with pytest.raises(InputError, match=rf"{names[5]}.*run detect\.py again"):
        write_report(tmp_path / "report.html", Report("many", images))
    few = written(Report("few", images[:3]), tmp_path)
    assert all(image["src"].startswith("data:") for image in Page(few).images)


def test_nothing_in_a_json_document_ends_its_script():
    document = {"name": "</script><!--<script>&\u2028", "bytes": HOSTILE["not UTF-8"]}
    text = script_json(document)
    assert not set(text) & set("<>&")
    assert json.loads(text) == document


def test_report_of_nothing_and_of_unlabelled_images(tmp_path):
    assert "<article" not in written(Report("empty", []), tmp_path)
    page = written(Report("loose", [ReportImage("a", 1.0), ReportImage("b", 2.0)]), tmp_path)
    assert "not labelled" in " ".join(Page(page).texts)
    assert "ROC" not in page


def test_a_missing_overlay_is_named_and_the_old_page_stays(tmp_path):
    (tmp_path / "report.html").write_text("old")
    report = Report("a", [ReportImage("b", 1.0, overlay=tmp_path / "gone.jpg")])
    with pytest.raises(InputError, match=r"gone\.jpg.*run detect\.py again"):
        write_report(tmp_path / "report.html", report)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "old"


def test_memory_does_not_grow_with_the_images(tmp_path):
    """A megabyte each; two of them with their base64 may be there at once."""
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8" + bytes(1_000_000))
    images = [ReportImage(f"{i}", 1.0, overlay=tmp_path / "a.jpg") for i in range(30)]
    tracemalloc.start()
    write_report(tmp_path / "report.html", Report("many", images))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "report.html").stat().st_size > 40e6
    assert peak < 10e6


def entry(**values):
    keys = ("score", "is_anomalous", "pose_ok", "tail_probability", "error")
    return dict.fromkeys(keys) | values


def test_detection_report_says_of_each_image_what_its_entry_holds():
    queries = [Query(name, Path(name), "good", None, False) for name in "abcde"]
    entries = [
        entry(score=1.0, is_anomalous=False, pose_ok=True, tail_probability=0.123),
        entry(score=9.0, is_anomalous=True, pose_ok=None, tail_probability=1e-5),
        entry(score=5.0, pose_ok=False),
        entry(score=5.0, pose_ok=True),
        entry(error="e is not an image."),
    ]
    summary = dict.fromkeys(
        ("image_auroc", "pixel_auroc", "aupro", "threshold", "threshold_message")
    ) | {"seconds": {"total": 0.5}, "kinds": {}}
    document = {"summary": summary, "settings": {"steps": 3, "notes": ["note"]}, "images": entries}
    report = detection_report(document, queries, "name", Path("run"))
    starts = (
        "About 12 % of good",
        "Fewer than 0.1 % of good",
        "The pose was not found",
        "",
        "e is",
    )
    for image, start in zip(report.images, starts, strict=True):
        assert image.note.startswith(start)
        assert bool(image.note) == bool(start)
    assert [image.pose_ok for image in report.images] == [True, True, False, True, True]
    assert report.images[0].overlay == Path("run/overlays/a.jpg")
    assert report.images[4].overlay is None
    assert report.threshold_note.startswith("No threshold, so no verdicts")
    assert report.figures == {"seconds per image": 0.5}
    assert list(report.tables) == ["Seconds per image (median)"]

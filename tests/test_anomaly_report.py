"""Overlay pictures, regions, charts, and a report that needs nothing but itself."""

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import torch

from anomaly import find_regions
from report import Report, ReportImage, encode_jpeg, overlay, report_html
from report.charts import roc_chart, score_histogram


class Outline(HTMLParser):
    """Collects images and refuses tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.names = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        elif tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def picture():
    image = torch.zeros(3, 40, 50)
    anomaly_map = torch.zeros(40, 50)
    anomaly_map[20:25, 30:36] = 1.0
    return overlay(image, image, anomaly_map, 1.0, anomaly_map > 0.5, anomaly_map > 0.2)


def test_overlay_shows_four_panels_at_a_fixed_scale():
    shown = picture()
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


def test_regions_by_hand():
    values = np.zeros((8, 10))
    values[1:3, 2:5] = 2.0
    values[3, 5] = 3.0  # touches by a corner
    values[6, 8] = 5.0
    first, second = find_regions(values, 2.0)
    assert (first.area, first.peak, first.bbox) == (1, 5.0, (8, 6, 1, 1))
    assert first.centroid == (8.5, 6.5)
    assert (second.area, second.peak, second.bbox) == (7, 3.0, (2, 1, 4, 3))
    assert [region.area for region in find_regions(values, 2.0, minimal_area=2)] == [7]
    assert find_regions(values, 9.0) == []
    with pytest.raises(ValueError, match=r"\[H, W\]"):
        find_regions(values[None], 1.0)


@pytest.mark.parametrize("scores", [[1.0, 2.0, 2.5], [1e-5, 1.0, 30.0], [2.0], [0.0, 0.0]])
@pytest.mark.parametrize("threshold", [None, 2.2, 100.0])
def test_histogram_is_valid_svg_and_counts_all(scores, threshold):
    text = score_histogram({"good": scores, "defective": scores}, threshold)
    root = ElementTree.fromstring(text)
    bars = [e for e in root.iter("rect") if e.get("class") == "good-bar" and e.get("y") != "8"]
    assert len(bars) == len(set(scores))
    assert all(float(bar.get("height")) > 0 for bar in bars)
    assert ("threshold" in text) == (threshold is not None)


def test_roc_chart_states_its_area():
    text = roc_chart([2.0, 3.0], [1.0, 2.5])
    ElementTree.fromstring(text)
    assert "AUROC 0.750" in text


def full_report():
    images = [
        ReportImage("good/0", 0.4, False, "good", False, picture=picture()),
        ReportImage("Burrs/<1>", 2.0, True, "Burrs", True, picture=encode_jpeg(picture())),
        ReportImage("Burrs/2", 0.5, True, "Burrs", False, False, note="loss 3 x that of & views"),
        ReportImage("Burrs/3", None, True, "Burrs"),
    ]
    return Report(
        "brick <dog>",
        images,
        threshold=1.0,
        threshold_words="1 % of good parts",
        figures={"image AUROC": 0.75, "AUPRO": None},
        tables={"Seconds": {"coarse": {"median": 0.02, "max": None}}},
        settings={"features": "classical"},
        remarks=["classical features: no weights"],
    )


def test_report_is_complete_and_self_contained():
    text = report_html(full_report())
    page = Outline(text)
    assert page.open == []
    assert "script" not in page.names
    assert "link" not in page.names
    assert "http" not in text
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.images)
    assert len(page.images) == 2
    for words in ("missed defect", "pose failed", "not scored", "2.00 x threshold", "0.75"):
        assert words in text
    assert "brick &lt;dog&gt;" in text
    assert "<1>" not in text
    assert "of &amp; views" in text
    order = [text.index(name) for name in ("Burrs/3", "Burrs/&lt;1&gt;", "Burrs/2", "good/0")]
    assert order == sorted(order)


def test_report_of_nothing_and_of_unlabelled_images():
    Outline(report_html(Report("empty", [])))
    page = report_html(Report("loose", [ReportImage("a", 1.0), ReportImage("b", 2.0)]))
    Outline(page)
    assert "not labelled" in page
    assert "ROC" not in page

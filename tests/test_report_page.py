"""The report in a real browser: from files, with hostile names, by keys, and to 3D and back."""

import json

import numpy as np
import pytest
import torch
from chromium import browser, opened
from test_report import HOSTILE, example_overlay
from test_viewer import VIEWS, speckled_object, viewer_data

from report import Report, ReportImage, RunIn3D, encode_jpeg, write_report

NAMES = ["good/0", "good/1", "Burrs/0", "Burrs/1", HOSTILE["closing tags"], HOSTILE["long"]]
SCORES = [0.5, 0.9, 1.8, 0.8, 3.0, None]
LABELS = ["good", "good", "Burrs", "Burrs", HOSTILE["tag"], HOSTILE["right to left"]]

OBJECTS = [
    {"name": HOSTILE["tag"], "score": 2.0, "threshold": 1.0, "is_anomalous": True, "label": None,
     "note": None, "refused": [], "best_image": "Burrs/0", "images": ["good/0", "Burrs/0"],
     "coverage": 0.4, "threshold_message": "", "regions": []},
]  # fmt: skip


def report_of(folder, in_3d=True, threshold=1.0):
    (folder / "0.jpg").write_bytes(encode_jpeg(example_overlay()))
    data = viewer_data(speckled_object(300))
    data.markers.clear()
    numbers = []
    for name, view in zip(NAMES[:5], VIEWS, strict=False):
        values = torch.full((300,), 1.0) if name == "Burrs/0" else None
        numbers.append(data.add_image(name, view.world_to_camera, values))
    for k in (2, 4):
        place = [0.7, 0.0, 0.0] if k == 2 else [-0.7, 0.0, 0.0]
        data.add_marker(place, NAMES[k], numbers[k], VIEWS[k].centre.tolist())
    images = [
        ReportImage(
            name, score, label != "good", label,
            None if score is None or threshold is None else score > threshold,
            overlay=None if score is None else folder / "0.jpg", number_in_3d=number,
        )
        for name, score, label, number in zip(NAMES, SCORES, LABELS, [*numbers, None], strict=True)
    ]  # fmt: skip
    shown = (
        RunIn3D(data.as_json(), [*numbers, None], "", torch.zeros(300), (0.0, 2.0))
        if in_3d
        else None
    )
    write_report(
        folder / "report.html",
        Report(HOSTILE["quotes"], images, threshold, "one sentence", in_3d=shown, objects=OBJECTS),
    )
    return folder / "report.html"


@pytest.fixture(scope="module")
def running():
    with browser() as found:
        yield found


@pytest.fixture
def page(running, tmp_path):
    return opened(running, report_of(tmp_path))


def cards(page):
    """Names of the visible cards in their order."""
    return page.evaluate(
        "[...document.querySelectorAll('article[data-score]')].filter(a => !a.hidden)"
        ".map(a => a.querySelector('bdi').textContent)"
    )


def test_the_page_opens_from_a_file_without_faults_and_names_stay_text(page):
    assert cards(page)[0] == HOSTILE["long"]  # could not be scored: first
    assert set(cards(page)) == set(NAMES)
    assert page.title() == HOSTILE["quotes"].strip()
    labels = page.locator("#kind option").all_text_contents()
    assert {HOSTILE["tag"], HOSTILE["right to left"]} <= set(labels)
    titles = page.locator(".splat-marker").evaluate_all("all => all.map(e => e.title)")
    assert titles == [json.loads(json.dumps(NAMES[2])), NAMES[4]]
    assert page.evaluate("document.querySelectorAll('main script, main style').length") == 0
    assert page.faults == []


def test_a_marker_leads_to_its_image_and_the_image_back_into_3d(page):
    page.locator(".splat-marker").first.click(force=True)
    chosen = page.locator("article.chosen")
    assert chosen.locator("bdi").first.text_content() == "Burrs/0"
    box, height = chosen.bounding_box(), page.viewport_size["height"]
    assert 0 <= box["y"] < height  # it is scrolled to
    assert page.evaluate("reportViewer.current.title") == "Burrs/0"  # its own heat
    other = page.locator("article", has=page.get_by_text("good/1", exact=True))
    other.locator(".to3d").click()
    page.wait_for_function(
        "([pose]) => Math.max(...reportViewer.pose().map((x, k) => Math.abs(x - pose[k]))) < 1e-3",
        arg=[VIEWS[1].world_to_camera[:3].flatten().tolist()],
    )
    assert page.evaluate("document.activeElement.id") == "canvas"
    assert "good/1" in page.locator("#hint").text_content()
    assert page.evaluate("reportViewer.current.name") == "image"  # no heat of its own


def test_an_object_shows_the_largest_differences_of_its_images(page):
    page.locator(".to3d[data-numbers]").click()
    assert page.evaluate("reportViewer.current.title") == HOSTILE["tag"]
    values = page.evaluate("Object.values(reportViewer.current.values)")
    assert set(values) == {127}  # 1 of 2: Burrs/0; the other image differs nowhere
    assert f"2 images of {HOSTILE['tag']}" in page.locator("#hint").text_content()
    page.click("#home")
    assert page.evaluate("reportViewer.current.name") == "image"


def test_images_are_filtered_and_sorted(page):
    page.select_option("#filter", "anomalous")
    assert cards(page) == [NAMES[4], "Burrs/0"]
    page.select_option("#filter", "doubtful")
    page.select_option("#order", "doubt")
    assert cards(page) == [HOSTILE["long"], "good/1", "Burrs/1"]
    page.select_option("#filter", "wrong")
    assert cards(page) == ["Burrs/1"]
    page.select_option("#filter", "all")
    page.select_option("#kind", f"={HOSTILE['tag']}")
    assert cards(page) == [NAMES[4]]
    page.select_option("#kind", "")
    page.fill("#find", "burrs")
    page.select_option("#order", "rising")
    assert cards(page) == ["Burrs/1", "Burrs/0"]
    assert page.locator("#shown").text_content() == "2 of 6 images"
    page.fill("#find", "nothing")
    assert cards(page) == []


def verdicts(page):
    return page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('article[data-score]')].map(a => "
        "[a.querySelector('bdi').textContent, [a.querySelector('.verdict').textContent,"
        "a.querySelector('.outcome').textContent]]))"
    )


def test_another_threshold_gives_other_verdicts_and_says_what_it_would_flag(page):
    before = verdicts(page)
    assert before["Burrs/1"] == ["normal", "missed defect"]
    assert "flags 2 of 3 defective and 0 of 2 good" in page.locator("#would").text_content()
    box = page.locator("#histogram svg").bounding_box()
    line = page.locator(".threshold.line").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(line["x"], y)
    page.mouse.down()
    page.mouse.move(line["x"] - 0.08 * box["width"], y, steps=4)
    page.mouse.up()
    after = verdicts(page)
    assert after["Burrs/1"] == ["anomalous", ""]
    assert after["good/1"] == ["anomalous", "false alarm"]
    assert after["good/0"] == ["normal", ""]
    assert after[HOSTILE["long"]] == ["", ""]  # not scored: no verdict at any threshold
    assert "flags 3 of 3 defective and 1 of 2 good" in page.locator("#would").text_content()
    page.focus("#slide")
    page.keyboard.press("End")
    assert "flags 0 of 3 defective" in page.locator("#would").text_content()
    page.click("#back")
    assert verdicts(page) == before


def test_without_a_threshold_one_can_be_tried(running, tmp_path):
    page = opened(running, report_of(tmp_path, in_3d=False, threshold=None))
    assert set(map(tuple, verdicts(page).values())) == {("", "")}
    page.focus("#slide")
    page.keyboard.press("Home")
    assert "flags 3 of 3 defective and 2 of 2 good" in page.locator("#would").text_content()
    assert page.faults == []


def test_one_image_large_by_keys_slider_blink_and_zoom(page):
    page.locator("article .strip").first.click()
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    assert page.locator("#large-name").text_content() == NAMES[4]
    page.keyboard.press("j")
    assert page.locator("#large-name").text_content() == "Burrs/0"
    page.keyboard.press("k")
    assert page.locator("#large-name").text_content() == NAMES[4]
    page.keyboard.press("2")
    assert page.locator("#mode-rendering").get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.querySelector('.zoom img').style.left") == "-100%"
    page.keyboard.press("s")
    page.locator("#share").fill("30")
    over = page.locator(".zoom > div").nth(1)
    assert over.evaluate("e => e.style.clipPath") == "inset(0px 0px 0px 30%)"
    page.keyboard.press("b")
    page.wait_for_function("document.querySelector('.zoom > div:nth-child(2)').hidden")
    page.wait_for_function("!document.querySelector('.zoom > div:nth-child(2)').hidden")
    before = page.locator(".zoom").bounding_box()
    page.mouse.move(before["x"] + 10, before["y"] + 10)
    page.mouse.wheel(0, -500)
    page.wait_for_function("document.querySelector('.zoom').style.transform.includes('2.7')")
    after = page.locator(".zoom").bounding_box()
    assert after["width"] == pytest.approx(2.718 * before["width"], rel=0.01)
    # the place under the pointer stays
    assert (10 - after["x"] + before["x"]) / after["width"] == pytest.approx(
        10 / before["width"], abs=0.005
    )
    page.keyboard.press("v")
    assert not dialog.is_visible()
    page.wait_for_function("document.activeElement.id === 'canvas'")
    page.locator("article .strip").first.focus()
    page.keyboard.press("Enter")
    assert dialog.is_visible()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.className") == "strip"
    assert page.faults == []


def test_everything_can_be_reached_and_named_without_a_mouse(page):
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, select, input, canvas, img')].filter(e => "
        "!(e.textContent.trim() || e.ariaLabel || e.title || e.alt || e.closest('label') || "
        "e.closest('.zoom, [aria-hidden]'))).map(e => e.outerHTML)"
    )
    assert unnamed == []
    # contrast of all texts with what is behind them: WCAG AA asks 4.5
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours = page.evaluate(
            """() => {
              const style = getComputedStyle(document.documentElement);
              const rgb = name => { const probe = document.createElement('i');
                probe.style.color = style.getPropertyValue(name); document.body.append(probe);
                const found = getComputedStyle(probe).color.match(/[0-9]+/g).map(Number);
                probe.remove(); return found; };
              return Object.fromEntries(['--ink', '--dim', '--good', '--bad', '--warn', '--blue',
                '--paper', '--card'].map(name => [name, rgb(name)])); }"""
        )
        light = {name: luminance(rgb) for name, rgb in colours.items()}
        for text in ("--ink", "--dim", "--good", "--bad", "--warn", "--blue"):
            for behind in ("--paper", "--card"):
                high, low = sorted((light[text], light[behind]), reverse=True)
                assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, text, behind)


def luminance(rgb):
    """Relative luminance of an sRGB colour of 0 to 255 (WCAG 2)."""
    value = np.array(rgb) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_on_paper_there_are_images_and_no_tools(page):
    page.emulate_media(media="print")
    assert not page.locator(".tools").is_visible()
    assert not page.locator("#view").is_visible()
    assert page.locator("article img").count() == 5
    assert len(page.pdf()) > 10_000
    loading = page.locator("article img").evaluate_all("all => all.map(e => e.loading)")
    assert set(loading) == {"eager"}  # lazy images would stay empty


def test_without_webgl_the_page_says_so_and_still_works(running, tmp_path):
    page = running.new_page()
    page.add_init_script(
        "HTMLCanvasElement.prototype.getContext = () => null;"
    )  # as a browser without it
    page.goto(report_of(tmp_path).as_uri())
    assert "has no WebGL 2" in page.locator("#hint").text_content()
    page.select_option("#filter", "anomalous")
    assert len(cards(page)) == 2
    assert page.locator(".to3d:visible").count() == 0

"""The station's pages in a real browser: upload, live list, review by keys, slider, zones."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra 'station' is not installed here")
pytest.importorskip("python_multipart", reason="the extra 'station' is not installed here")
pytest.importorskip("playwright", reason="playwright is not installed here")

from captures import look_at, painted_ball, save_image

from benchmarks.station_server import Server, running
from station.statistics import interval

SPOT = (1.0, 0.0, 0.0)
PLACES = {"a": [3.9, 0.5, 0.6], "b": [-2.0, 3.3, 0.4], "c": [1.0, 3.6, -0.5],
          "d": [-3.0, -2.6, 0.8], "e": [0.5, -3.9, 0.2], "spot": [3.9, 0.2, 0.4]}  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root, found = tmp_path_factory.mktemp("images"), {}
    for name, place in PLACES.items():
        found[name] = root / f"{name}.png"
        spot = SPOT if name == "spot" else None
        save_image(found[name], painted_ball(look_at(place), 64, spot, 0.6))
    return found


@pytest.fixture(scope="module")
def server(ball_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("station")
    shutil.copytree(ball_model, root / "Ball")
    with running(Server(root / "Ball", root / "station")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)  # fmt: skip
    if path is None:
        pytest.skip("no Chromium is installed here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """A page on which every error of a script or of the security policy fails the test."""
    context = browser.new_context(base_url=f"http://127.0.0.1:{server.port}",
                                  viewport={"width": 1280, "height": 900})  # fmt: skip
    context.set_default_timeout(30_000)
    found, errors = context.new_page(), []
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on("console", lambda m: errors.append(m.text) if "Content Security" in m.text else None)
    found.on("request", lambda r: errors.append(r.url) if "127.0.0.1" not in r.url
             and not r.url.startswith(("data:", "blob:")) else None)  # fmt: skip
    found.goto("/")
    found.fill("#who", "Ann")
    yield found
    context.close()
    assert not errors


def wait_for(page: Any, condition: str, seconds: float = 40.0) -> None:
    """Waits until an expression is true; the page's security policy lets nobody else evaluate."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(60)


def test_photographs_that_are_uploaded_appear_with_their_verdict(
    page: Any, server: Server, images: dict[str, Path]
) -> None:
    page.fill("#serial", "B-1")
    page.set_input_files("#files", [str(images["a"]), str(images["spot"])])
    page.wait_for_selector(".part.good img")
    page.wait_for_selector(".part.defective img")
    shown = page.locator(".part").all_inner_texts()
    assert len(shown) == 2
    assert all("B-1" in text for text in shown)
    wait_for(page, "[...document.querySelectorAll('.part img')].every((i) => i.naturalWidth > 0)")
    page.click("[data-verdict=defective]")
    wait_for(page, "document.querySelectorAll('.part').length === 1")


def test_what_others_send_appears_without_a_reload(
    page: Any, server: Server, images: dict[str, Path]
) -> None:
    key = server.inspect(images["b"], serial="<b>C-2</b>").json["key"]
    page.wait_for_selector(f"[data-key='{key}']")
    assert "<b>C-2</b>" in page.inner_text(f"[data-key='{key}'] .name")


def test_one_inspection_shows_its_pictures_blinks_and_zooms(
    page: Any, server: Server, images: dict[str, Path]
) -> None:
    key = server.inspect(images["spot"], serial="D-1").json["key"]
    page.goto(f"/inspections/{key}")
    page.wait_for_selector("#verdict.defective")
    for pressed, name in zip("1234", ("query", "rendering", "map", "overlay"), strict=True):
        page.keyboard.press(pressed)
        wait_for(page, f"document.querySelector('.pane img[alt={name}]').style.visibility"
                       " === 'visible'")  # fmt: skip
    page.keyboard.press("b")
    for name in ("query", "rendering", "query"):
        wait_for(page, f"document.querySelector('.pane img[alt={name}]').style.visibility"
                       " === 'visible'")  # fmt: skip
    page.keyboard.press("b")
    before = page.evaluate("document.querySelector('.layer').style.transform")
    page.hover("#pane")
    page.mouse.wheel(0, -400)
    after = page.evaluate("document.querySelector('.layer').style.transform")
    scales = [float(re.findall(r"scale\((.*)\)", text)[0]) for text in (before, after)]
    assert scales[1] > 1.5 * scales[0]
    page.keyboard.press("0")
    assert page.evaluate("document.querySelector('.layer').style.transform") == before
    page.click("#regions button")
    assert page.evaluate("document.querySelector('.layer').style.transform") != before
    page.keyboard.press("5")
    wait_for(page, "document.querySelector('#solid-note').hidden")
    assert server.get(f"/api/inspections/{key}/scene")["markers"]
    page.keyboard.press("1")
    wait_for(page, "document.querySelector('#solid').hidden")


def test_doubtful_parts_are_reviewed_by_keys(
    page: Any, server: Server, images: dict[str, Path]
) -> None:
    server.inspect(images["spot"], serial="R-1")
    waiting = {each["key"] for each in server.get("/api/review")["inspections"]}
    page.goto("/review")
    page.wait_for_selector("#reviewing:not([hidden])")
    wait_for(page, "document.querySelector('#left-pane img')?.naturalWidth > 0")
    first = page.get_attribute("#open", "href").rsplit("/", 1)[1]
    assert first in waiting
    page.keyboard.press("d")
    page.wait_for_selector("#toast:not([hidden])")
    wait_for(page, f"!document.querySelector('#open').href.endsWith('{first}') ||"
                   " document.querySelector('#reviewing').hidden")  # fmt: skip
    found = server.get(f"/api/inspections/{first}")
    assert [(each["who"], each["answer"]) for each in found["reviews"]] == [("Ann", "defective")]
    while not page.locator("#done").is_visible():
        shown = page.get_attribute("#open", "href")
        page.keyboard.press("u")
        wait_for(
            page,
            "document.querySelector('#reviewing').hidden || "
            f"document.querySelector('#open').getAttribute('href') !== '{shown}'",
        )
    end = time.monotonic() + 20  # the last answer is under way
    while server.get("/api/review")["inspections"]:
        assert time.monotonic() < end


def test_the_slider_says_what_a_threshold_would_do_and_sets_it(
    page: Any, server: Server, images: dict[str, Path]
) -> None:
    flagged = 0
    for name in "abcde":
        found = server.inspect(images[name], serial=f"T-{name}").json
        flagged += found["verdict"] == "defective"
        server.post(f"/api/inspections/{found['key']}/reviews", answer="good", who="Ann")
    before = server.inspect(images["spot"]).json
    page.goto("/models/Ball/threshold")
    page.wait_for_selector("#figures b")
    assert page.inner_text("#figures div:first-child b") == f"{flagged} of 5"
    low, high = interval(flagged, 5)
    said = re.findall(r"95 % interval ([\d.]+) % to ([\d.]+) %", page.inner_text("#figures"))[0]
    assert [float(each) for each in said] == pytest.approx([100 * low, 100 * high], abs=0.51)
    page.locator("#slider").evaluate("(s) => { s.value = 0; s.dispatchEvent(new Event('input')); }")
    assert page.inner_text("#figures div:first-child b") == "5 of 5"
    page.fill("#value", str(2 * before["score"]))
    page.dispatch_event("#value", "change")
    page.locator("#slider").evaluate(
        "(s) => { s.value = 1000; s.dispatchEvent(new Event('input')); }"
    )
    page.click("#set")
    page.wait_for_selector("#versions li:nth-child(2) button")
    after = server.inspect(images["spot"]).json
    assert (before["verdict"], after["verdict"]) == ("defective", "good")
    page.click("#versions li:nth-child(2) button")
    wait_for(page, "document.querySelector('#versions').innerText.includes('restored')")
    assert server.inspect(images["spot"]).json["verdict"] == "defective"


def test_a_click_recalibrates_from_confirmed_parts_and_another_undoes_it(
    page: Any, server: Server, images: dict[str, Path]
) -> None:
    before = server.inspect(images["a"]).json
    server.post(f"/api/inspections/{before['key']}/reviews", answer="good", who="Ann")
    page.goto("/models/Ball/threshold")
    page.wait_for_selector("#figures b")
    page.click("#recalibrate")
    wait_for(page, "document.querySelector('#versions').innerText.includes('recalibrated')")
    assert "photographs" in page.inner_text("#progress")
    after = server.inspect(images["a"]).json
    assert after["threshold"] != before["threshold"]
    page.click("#versions li:nth-child(2) button")
    wait_for(page, "document.querySelector('#versions li').innerText.includes('restored')")
    assert server.inspect(images["a"]).json["threshold"] == before["threshold"]


def test_a_zone_is_painted_with_the_mouse_honoured_and_erased(
    page: Any, server: Server, images: dict[str, Path]
) -> None:
    before = server.inspect(images["spot"], serial="Z-1").json
    page.goto(f"/inspections/{before['key']}")
    page.wait_for_selector("#verdict.defective")
    wait_for(page, "document.querySelector('.pane img')?.naturalWidth > 0")
    page.keyboard.press("z")
    page.fill("#zone-name", "label")
    page.locator("#brush").fill("24")
    x, y = before["photographs"][0]["regions"][0]["centroid"]
    box, scale, left, top = page.evaluate(
        "(() => { const b = document.querySelector('#pane').getBoundingClientRect();"
        "const m = new DOMMatrix(getComputedStyle(document.querySelector('.layer')).transform);"
        "return [[b.x, b.y], m.a, m.e, m.f]; })()"
    )
    across, down = box[0] + left + scale * x, box[1] + top + scale * y
    page.mouse.move(across - 4, down)
    page.mouse.down()
    page.mouse.move(across + 4, down, steps=4)
    page.mouse.up()
    page.click("#zone-save")
    page.wait_for_selector("#zones button")
    assert "label: ignored" in page.inner_text("#zones")
    assert server.inspect(images["spot"]).json["verdict"] == "good"
    page.click("#zones button")
    wait_for(page, "document.querySelectorAll('#zones button').length === 0")
    assert server.inspect(images["spot"]).json["score"] == before["score"]


def test_a_restart_loses_nothing_and_the_page_goes_on(
    page: Any, server: Server, images: dict[str, Path]
) -> None:
    keys = [server.inspect(images["a"], wait=0).json["key"] for _ in range(3)]
    server.kill()
    server.start()
    page.goto("/")
    for key in keys:
        page.wait_for_selector(f"[data-key='{key}'].good")
    assert len({each["key"] for each in server.wait_until_idle()} & set(keys)) == 3


def test_every_page_fits_a_tablet(page: Any, server: Server, images: dict[str, Path]) -> None:
    key = server.inspect(images["spot"]).json["key"]
    page.set_viewport_size({"width": 768, "height": 1024})
    for path in ("/", f"/inspections/{key}", "/review", "/models/Ball/threshold",
                 "/models/Ball/drift", "/audit", "/docs"):  # fmt: skip
        page.goto(path)
        page.wait_for_load_state("load")
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 768, path
        small = page.evaluate(
            "[...document.querySelectorAll('button:not(.strip button), .bar nav a')].filter((b) =>"
            "b.offsetParent && b.getBoundingClientRect().height < 32).length"
        )
        assert small == 0, path

"""The 3D viewer in a real browser, beside our own renderer."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from chromium import browser, opened
from PIL import Image
from pose_scenes import WHITE, lens, orbit

from gaussian_renderer import ObjectRenderer
from report.page import inlined_script
from report.viewer_data import UNSEEN, ViewerData
from scene import Gaussians

SIZE = 240  # pixels a side
VIEWS = orbit(6)
HOSTILE = '</script><b onclick="x">\u202e\'\n'


def speckled_object(count=1500, degree=3):
    """A ball of many colours that change with the direction, float32."""
    g = torch.Generator().manual_seed(5)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    sh = 0.08 * torch.randn(count, (degree + 1) ** 2, 3, generator=g)
    sh[:, 0] = 1.5 * directions
    sh[:, 4:] *= 0.3
    return Gaussians(
        means=0.7 * directions * torch.tensor([1.0, 0.7, 0.5]),
        log_scales=-3.0 + 0.4 * torch.randn(count, 3, generator=g),
        quaternions=torch.randn(count, 4, generator=g),
        opacity_logits=2 + torch.randn(count, generator=g),
        sh=sh,
    )


def viewer_data(gaussians, background=WHITE):
    camera = lens(VIEWS[0].world_to_camera, SIZE)
    data = ViewerData(gaussians, camera, background.tolist(), heat_range=(0.0, 2.0))
    for number, view in enumerate(VIEWS):
        data.add_train(f"train/{number}{HOSTILE}", view.world_to_camera)
    values = torch.where(gaussians.means[:, 0] > 0.4, 2.0, torch.nan)
    data.add_layer("side", "one side", values, (0.0, 2.0), fade=0.5)
    data.add_image("good/1", VIEWS[2].world_to_camera)
    data.add_image(f"Burrs/2{HOSTILE}", VIEWS[1].world_to_camera, values)
    data.add_marker([0.7, 0.0, 0.0], f"Burrs/2{HOSTILE}", 1, VIEWS[1].centre.tolist())
    return data


@pytest.fixture(scope="module")
def running():
    with browser() as found:
        yield found


@pytest.fixture
def page(running, tmp_path):
    return shown(running, tmp_path, viewer_data(speckled_object()))


def shown(running, folder, data):
    """A page with nothing but the viewer."""
    text = json.dumps(data.as_json()).replace("<", "\\u003c")
    (folder / "viewer.html").write_text(
        '<!doctype html><meta charset="utf-8"><body style="margin:0">'
        f'<div style="width:{SIZE}px;height:{SIZE}px"><canvas id="c" style="display:block;'
        'width:100%;height:100%"></canvas></div>'
        f"<script>{inlined_script('viewer.js')}</script>"
        f'<script type="application/json" id="data">{text}</script>'
        "<script>const payload = JSON.parse(document.getElementById('data').textContent);"
        "const picked = [], legends = [];"
        "const viewer = new SplatViewer(document.getElementById('c'), payload,"
        "{onPick: what => picked.push(what), onColours: legend => legends.push(legend)});"
        "const still = pose => { viewer.flyTo(pose, true); viewer.draw(); };"
        "</script>",
        "utf-8",
    )
    return opened(running, folder / "viewer.html", SIZE, SIZE)


def picture(page):
    """What the view shows now, [3, H, W] in 0..1; drawn and read in one go."""
    uri = page.evaluate(
        "() => { viewer.quality = 1; viewer.draw(); return viewer.canvas.toDataURL('image/png'); }"
    )
    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255


def psnr(first, second):
    return float(-10 * (first - second).square().mean().log10())


@pytest.mark.parametrize("degree", [0, 1, 3])
@pytest.mark.parametrize("background", [WHITE, torch.tensor([0.1, 0.2, 0.4])])
def test_the_view_shows_what_our_renderer_shows(running, tmp_path, degree, background):
    gaussians = speckled_object(degree=degree)
    page = shown(running, tmp_path, viewer_data(gaussians, background))
    model = ObjectRenderer(gaussians, background, "reference")
    for view in VIEWS[::2]:
        page.evaluate("pose => still(pose)", view.world_to_camera[:3].flatten().tolist())
        expected = model(lens(view.world_to_camera, SIZE)).image.clamp(0, 1)
        assert psnr(expected, torch.ones_like(expected) * background[:, None, None]) < 20
        assert psnr(picture(page), expected) > (34 if degree < 2 else 25)
    assert page.faults == []


def test_dragging_turns_the_object_and_the_pose_says_how(page):
    before = picture(page)
    page.mouse.move(60, 120)
    page.mouse.down()
    page.mouse.move(180, 130, steps=3)
    page.mouse.up()
    after = picture(page)
    assert psnr(before, after) < 25
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3] = torch.tensor(page.evaluate("viewer.pose()"), dtype=torch.float64).reshape(3, 4)
    model = ObjectRenderer(speckled_object(), WHITE, "reference")
    assert psnr(after, model(lens(pose, SIZE)).image.clamp(0, 1)) > 25


def test_what_is_near_hides_what_is_far_from_both_sides(running, tmp_path):
    """A red sheet before a blue one; from behind the blue one is seen."""
    means = torch.tensor([[0.0, 0.0, 0.3], [0.0, 0.0, -0.3]])
    sh = torch.tensor([[[1.7, -1.7, -1.7]], [[-1.7, -1.7, 1.7]]])
    flat = torch.tensor([[-0.5, -0.5, -4.0]]).repeat(2, 1)
    turned = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(2, 1)
    sheets = Gaussians(means, flat, turned, torch.full((2,), 6.0), sh)
    page = shown(running, tmp_path, viewer_data(sheets))
    page.evaluate("still({centre: [0, 0, 0], from: [0, 0, 4]})")
    red, _, blue = picture(page)[:, SIZE // 2, SIZE // 2].tolist()
    assert red > 0.9 > 0.2 > blue
    page.evaluate("still({centre: [0, 0, 0], from: [0.1, 0.1, -4]})")
    red, _, blue = picture(page)[:, SIZE // 2, SIZE // 2].tolist()
    assert blue > 0.9 > 0.2 > red


def test_keys_wheel_and_touch_move_the_view(running, page):
    poses = [page.evaluate("viewer.pose()")]

    def has_moved():
        poses.append(page.evaluate("viewer.pose()"))
        return max(abs(a - b) for a, b in zip(poses[-1], poses[-2], strict=True)) > 1e-3

    page.mouse.move(100, 100)
    page.mouse.wheel(0, 200)
    page.wait_for_timeout(100)
    assert not has_moved()  # the page scrolls, until the view has the focus
    page.focus("canvas")
    page.mouse.wheel(0, 200)
    page.wait_for_timeout(100)
    assert has_moved()
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowRight", "+", "-", "q"):
        page.keyboard.press(key)
        assert has_moved(), key
    touch = page.context.new_cdp_session(page)
    for kind, span in (("touchStart", 40), ("touchMove", 80), ("touchMove", 120), ("touchEnd", 0)):
        fingers = [{"x": 120 + side * span / 2, "y": 100, "id": side} for side in (-1, 1)]
        touch.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers if span else []}
        )
    assert has_moved()  # two fingers apart: nearer
    page.keyboard.press("0")
    page.wait_for_function(
        "Math.max(...viewer.pose().map((x, k) => Math.abs(x - payload.start[k]))) < 1e-3"
    )


def test_a_click_on_a_frustum_flies_to_that_camera(page):
    page.evaluate("viewer.setCameras({train: true}); viewer._zoom(2.5); viewer.draw()")
    tip = page.evaluate("viewer.tips.find(t => t.x > 20 && t.x < 220 && t.y > 20 && t.y < 220)")
    page.mouse.click(tip["x"], tip["y"])
    (picked,) = page.evaluate("picked.map(p => [p.kind, p.index])")
    assert picked == ["train", tip["index"]]
    page.wait_for_function(
        "pose => Math.max(...viewer.pose().map((x, k) => Math.abs(x - pose[k]))) < 1e-3",
        arg=tip["item"]["pose"],
    )


def test_a_marker_tells_its_image_and_names_stay_text(page):
    marker = page.locator(".splat-marker")
    assert marker.count() == 1
    name = page.evaluate("payload.images[1].name")
    assert name.startswith("Burrs/2</script><b onclick=")
    assert marker.get_attribute("title") == name
    assert page.locator("b").count() == 0
    page.evaluate("still({centre: [0, 0, 0], from: payload.markers[0].facing})")
    assert float(marker.evaluate("e => e.style.opacity")) == 1
    marker.click(force=True)
    assert page.evaluate("picked.map(p => [p.kind, p.item.image])") == [["marker", 1]]
    page.evaluate("still({centre: [0, 0, 0], from: payload.markers[0].facing.map(x => -x)})")
    assert float(marker.evaluate("e => e.style.opacity")) < 1  # on the other side
    assert page.faults == []


def test_layers_and_the_heat_of_one_image_colour_the_gaussians(page):
    page.evaluate("still({centre: [0, 0, 0], from: [0, 0, 4]})")
    plain = picture(page)
    page.evaluate("viewer.setColours('side')")
    layer = picture(page)
    inside = (plain < 0.97).any(dim=0)
    saturation = torch.where(inside, layer.amax(dim=0) - layer.amin(dim=0), torch.nan)
    right = torch.tensor(page.evaluate("[viewer.turn[0], viewer.turn[3]]"))  # of x, in the image
    across = torch.arange(SIZE) - SIZE / 2
    place = right[0] * across + right[1] * across[:, None]
    ends = [float(saturation[part & inside].mean()) for part in (place < -55, place > 55)]
    plain_saturation = (plain.amax(dim=0) - plain.amin(dim=0))[(place < -55) & inside].mean()
    assert ends[0] < 0.6 * plain_saturation  # greyer on one side
    assert ends[1] > 0.2  # hot on the other
    page.evaluate("viewer.setColours('image'); viewer.showImage(1)")
    assert psnr(picture(page), layer) > 35
    page.evaluate("viewer.showImage(null)")
    assert psnr(picture(page), plain) > 45
    legend = page.evaluate("legends[1]")
    assert (legend["title"], legend["low"], legend["high"]) == ("one side", 0, 2)
    page.evaluate(
        "viewer.setColours({name: 'zones', title: '', low: 0, high: 1, stops: [[0,0,1,1],"
        "[0,0,1,1]], values: new Uint8Array(payload.count)})"
    )
    red, _, blue = picture(page)[:, SIZE // 2, SIZE // 2].tolist()
    assert blue > 2 * red


def test_a_click_on_the_object_says_where_it_is(page):
    page.evaluate("still({centre: [0, 0, 0], from: [0, 0, 4]})")
    page.mouse.click(SIZE // 2, SIZE // 2)
    ((kind, position),) = page.evaluate("picked.map(p => [p.kind, p.position])")
    assert kind == "point"
    assert max(abs(position[0]), abs(position[1])) < 0.15
    assert position[2] > 0.2  # the side that is seen, not the one behind
    page.mouse.click(3, 3)
    assert page.evaluate("picked.length") == 1  # nothing is there


def test_a_lost_context_comes_back_and_dispose_leaves_nothing(page):
    before = picture(page)
    page.evaluate(
        "() => { const lose = viewer.gl.getExtension('WEBGL_lose_context'); lose.loseContext();"
        " return new Promise(done => { viewer.canvas.addEventListener('webglcontextrestored',"
        " () => done()); setTimeout(() => lose.restoreContext(), 50); }); }"
    )
    assert psnr(picture(page), before) > 45
    page.evaluate("viewer.dispose()")
    assert page.evaluate("viewer.canvas.parentElement.children.length") == 1
    assert page.faults == []


def test_a_payload_that_is_cut_short_is_an_error_not_a_wrong_picture(running, tmp_path):
    data = viewer_data(speckled_object(50)).as_json()
    page = shown(running, tmp_path, viewer_data(speckled_object(50)))
    data["gaussians"] = data["gaussians"][:-8]
    with pytest.raises(Exception, match="length does not fit"):
        page.evaluate("data => new SplatViewer(document.createElement('canvas'), data)", data)


def test_the_script_is_small_and_asks_for_nothing():
    script = inlined_script("viewer.js")
    assert len(script.encode()) <= 25_000
    for word in ("http", "import", "fetch", "eval", "innerHTML", "/*"):
        assert word not in script


def test_quantised_gaussians_keep_what_eyes_see():
    gaussians = speckled_object(400)
    document = viewer_data(gaussians).as_json()
    content = base64.b64decode(document["gaussians"])
    assert len(content) == 26 * 400
    low, high = (np.array(document["ranges"][end]) for end in ("low", "high"))
    means = np.frombuffer(content[:2400], "<u2").reshape(-1, 3) / 65535 * (high - low) + low
    assert np.abs(means - gaussians.means.numpy()).max() < 2e-5
    (layer,) = document["layers"]
    levels = np.frombuffer(base64.b64decode(layer["data"]), np.uint8)
    assert set(levels) == {254, UNSEEN}
    assert ((levels == 254) == (gaussians.means[:, 0] > 0.4).numpy()).all()
    start = np.array(document["start"]).reshape(3, 4)
    x, y, depth = start @ [*document["centre"], 1.0]
    assert (x, y) == pytest.approx((0, 0), abs=1e-5)
    assert depth == pytest.approx(1.1 * document["radius"] * 2 * document["camera"]["fx"] / SIZE)
    assert document["radius"] == pytest.approx(0.7, abs=0.12)
    assert np.abs(document["centre"]).max() < 0.05

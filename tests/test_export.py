"""Files for other tools hold what the model and the run hold: glTF, COCO, masks, coloured PLY."""

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import test_detect
import torch
from PIL import Image
from test_report import HOSTILE
from test_viewer import speckled_object

from detect import Detections
from export import ExportConfig, export
from report.annotations import write_annotations
from report.viewer_data import in_anomaly_colours
from scene import InputError, World, load_ply
from scene.gltf import save_glb

capture, model, run = test_detect.capture, test_detect.model, test_detect.run  # fixtures
WORDS = {5126: ("<f4", 4), 5123: ("<u2", 2)}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}


def read_glb(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The document and the attributes of the only primitive, by the rules of glTF 2.0."""
    content = path.read_bytes()
    magic, version, length = struct.unpack("<III", content[:12])
    assert (magic, version, length) == (0x46546C67, 2, len(content))
    size, kind = struct.unpack("<I4s", content[12:20])
    assert (size % 4, kind) == (0, b"JSON")
    document = json.loads(content[20 : 20 + size])
    rest = content[20 + size :]
    size, kind = struct.unpack("<I4s", rest[:8])
    assert (size % 4, kind) == (0, b"BIN\0")
    assert len(rest) == 8 + size
    assert document["buffers"] == [{"byteLength": size}]
    found = {}
    for name, number in document["meshes"][0]["primitives"][0]["attributes"].items():
        accessor = document["accessors"][number]
        view = document["bufferViews"][accessor["bufferView"]]
        dtype, word = WORDS[accessor["componentType"]]
        width = WIDTHS[accessor["type"]]
        assert view["byteOffset"] % 4 == 0
        assert view["byteLength"] == accessor["count"] * width * word
        data = rest[8 + view["byteOffset"] :][: view["byteLength"]]
        found[name] = np.frombuffer(data, dtype).reshape(-1, width)
    return document, found


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_a_glb_holds_the_gaussians_as_the_extension_wants_them(degree: int, tmp_path: Path) -> None:
    gaussians = speckled_object(37, degree)
    save_glb(gaussians, tmp_path / "o.glb", World(0.25, (1.0, 2.0, 3.0)), HOSTILE["tag"])
    document, found = read_glb(tmp_path / "o.glb")
    prefix = "KHR_gaussian_splatting:"
    coefficients = [
        f"{prefix}SH_DEGREE_{d}_COEF_{m}" for d in range(degree + 1) for m in range(2 * d + 1)
    ]
    own = {f"{prefix}{name}" for name in ("ROTATION", "SCALE", "OPACITY")}
    assert set(found) == {"POSITION", "COLOR_0", *own, *coefficients}
    assert (found["POSITION"] == gaussians.means.numpy()).all()
    position = document["accessors"][0]
    assert position["min"] == gaussians.means.amin(dim=0).tolist()
    assert position["max"] == gaussians.means.amax(dim=0).tolist()
    rotations = np.roll(found[prefix + "ROTATION"], 1, axis=1)  # xyzw to wxyz
    assert np.allclose(rotations, gaussians.rotations.numpy())
    assert np.allclose(found[prefix + "SCALE"], gaussians.scales.numpy())
    assert np.allclose(found[prefix + "OPACITY"][:, 0], gaussians.opacities.numpy())
    for place, name in enumerate(coefficients):
        assert (found[name] == gaussians.sh[:, place].numpy()).all()
    (primitive,) = document["meshes"][0]["primitives"]
    assert primitive["mode"] == 0
    extension = primitive["extensions"]["KHR_gaussian_splatting"]
    assert (extension["kernel"], extension["colorSpace"]) == ("ellipse", "srgb_rec709_display")
    assert document["extensionsUsed"] == ["KHR_gaussian_splatting"]
    node = document["nodes"][document["scenes"][0]["nodes"][0]]
    assert (node["scale"], node["translation"]) == ([0.25] * 3, [1.0, 2.0, 3.0])
    assert node["name"] == HOSTILE["tag"]


def test_points_have_linear_colours_where_splats_are_not_known(tmp_path: Path) -> None:
    gaussians = speckled_object(1, 0)
    gaussians.sh[0, 0] = (torch.tensor([0.5, 1.5, -0.2]) - 0.5) / 0.28209479177387814
    save_glb(gaussians, tmp_path / "o.glb")
    document, found = read_glb(tmp_path / "o.glb")
    red, green, blue, alpha = (found["COLOR_0"][0] / 65535).tolist()
    assert red == pytest.approx(0.2140, abs=1e-4)  # of sRGB 0.5
    assert (green, blue) == (1.0, 0.0)
    assert alpha == pytest.approx(float(gaussians.opacities[0]), abs=1e-4)
    assert "scale" not in document["nodes"][0]


def run_of_maps(folder: Path) -> list[dict]:
    """Entries of a run with hand-made maps of 20 x 30 pixels."""
    maps = {"good/0": [], "Burrs/1": [(2, 3, 4, 5), (12, 20, 6, 3)], "odd": [(0, 0, 3, 3)]}
    entries = [{"name": HOSTILE["quotes"], "path": "a.png", "map": None, "is_anomalous": None,
                "score": None}]  # fmt: skip
    for number, (name, boxes) in enumerate(maps.items()):
        values = np.zeros((20, 30), np.float32)
        for rank, (y, x, height, width) in enumerate(boxes):
            values[y : y + height, x : x + width] = 5 + rank
        values[19, 29] = 9.0  # a speck
        Image.fromarray(values).save(folder / f"{number}.tiff")
        entries.append({"name": name, "path": f"/somewhere/{name}.JPG", "map": f"{number}.tiff",
                        "is_anomalous": bool(boxes), "score": 9.0})  # fmt: skip
    return entries


def test_regions_become_coco_annotations_and_masks(tmp_path: Path) -> None:
    entries = run_of_maps(tmp_path)
    written = write_annotations(entries, tmp_path, 5.0, tmp_path / "out")
    assert (written.images, written.masks, written.regions) == (3, 2, 3)
    coco = json.loads((tmp_path / "out/coco.json").read_text())
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    assert list(names.values()) == ["good/0.JPG", "Burrs/1.JPG", "odd.JPG"]
    assert {(i["width"], i["height"]) for i in coco["images"]} == {(30, 20)}
    assert coco["categories"][0]["id"] == 1
    found = [(names[a["image_id"]], a["bbox"], a["area"], a["score"]) for a in coco["annotations"]]
    assert found == [
        ("Burrs/1.JPG", [20, 12, 3, 6], 18, 6.0),
        ("Burrs/1.JPG", [3, 2, 5, 4], 20, 5.0),
        ("odd.JPG", [0, 0, 3, 3], 9, 5.0),
    ]
    assert sorted(a["id"] for a in coco["annotations"]) == [1, 2, 3]
    mask = np.asarray(Image.open(tmp_path / "out/ground_truth/Burrs/1_mask.png"))
    assert mask.dtype == np.uint8
    assert mask.sum() == 255 * (20 + 18)
    assert not (tmp_path / "out/ground_truth/good").exists()
    drawn = np.zeros((200, 300), np.uint8)  # the outlines, ten times as large, cover the mask
    for annotation in coco["annotations"][:2]:
        (outline,) = annotation["segmentation"]
        points = (np.array(outline).reshape(-1, 2) * 10).round().astype(np.int32)
        cv2.fillPoly(drawn, [points], 255)
    assert (drawn[5::10, 5::10] == mask).all()


def test_places_that_differ_glow_and_the_others_turn_grey() -> None:
    gaussians = speckled_object(4)
    values = torch.tensor([float("nan"), 0.0, 10.0, 99.0])
    coloured = in_anomaly_colours(gaussians, values, (1.0, 10.0))
    assert coloured.sh.shape == (4, 1, 3)
    colours = (0.5 + 0.28209479177387814 * coloured.sh[:, 0]).clamp(0, 1)
    own = (0.5 + 0.28209479177387814 * gaussians.sh[:, 0]).clamp(0, 1)
    spread = [c.amax(dim=1) - c.amin(dim=1) for c in (colours, own)]
    assert (spread[0][:2] < 0.6 * spread[1][:2]).all()
    assert torch.allclose(colours[2], colours[3])  # hotter than the hottest
    assert torch.allclose(colours[3], torch.tensor([0.42, 0.0, 0.33]), atol=1e-3)
    assert torch.equal(coloured.means, gaussians.means)


def test_export_writes_the_object_and_what_a_run_found(
    model: Path,
    run: Detections,
    tmp_path: Path,
) -> None:
    assert export(ExportConfig(model, output=tmp_path / "alone")) == tmp_path / "alone"
    assert [path.name for path in (tmp_path / "alone").iterdir()] == ["object.glb"]
    root = export(ExportConfig(model, run=run.folder))
    assert root == run.folder / "export"
    assert {p.name for p in root.iterdir()} >= {"object.glb", "anomalies.ply", "coco.json"}
    document, found = read_glb(root / "object.glb")
    assert document["meshes"][0]["name"] == "Ball"
    coloured = load_ply(root / "anomalies.ply")
    assert len(coloured) == len(found["POSITION"])
    assert coloured.sh_degree == 0
    colours = 0.5 + 0.28209479177387814 * coloured.sh[:, 0]
    assert ((colours[:, 0] - colours[:, 1]) > 0.3).any()  # the burr glows
    coco = json.loads((root / "coco.json").read_text())
    assert len(coco["images"]) == 3
    regions = [r for image in run.results["images"] if image["is_anomalous"]
               for r in image["regions"]]  # fmt: skip
    assert len(coco["annotations"]) == len(regions)


def test_export_says_what_is_missing(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model folder"):
        export(ExportConfig(tmp_path / "nothing"))
    with pytest.raises(InputError, match="holds no finished run"):
        export(ExportConfig(model, run=tmp_path))
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(InputError, match=r"is not of detect\.py"):
        export(ExportConfig(model, run=tmp_path))

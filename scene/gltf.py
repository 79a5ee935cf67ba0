"""The object model as glTF 2.0 binary (.glb) with KHR_gaussian_splatting (Khronos, 2026).

One primitive of points; programs that do not know the extension show coloured points. Its spherical
harmonics have the signs and the order of 3DGS, which are ours.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .files import atomic_write
from .gaussians import SH_CONSTANT, Gaussians
from .world import World

EXTENSION = "KHR_gaussian_splatting"
_FLOAT, _UNSIGNED_SHORT, _POINTS, _VERTICES = 5126, 5123, 0, 34962  # glTF's numbers for these
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
_MAGIC, _JSON, _BINARY = 0x46546C67, 0x4E4F534A, 0x004E4942


def save_glb(
    gaussians: Gaussians,
    path: str | Path,
    world: World | None = None,  # of the model: the node places it in the frame of the capture
    name: str = "object",
) -> None:
    """Writes the Gaussians, atomically and as float32.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    attributes = _attributes(gaussians.detach().map(lambda t: t.cpu().float()))
    accessors: list[dict[str, Any]] = []
    views: list[dict[str, Any]] = []
    blocks, place = [], 0
    for key, values in attributes.items():
        is_colour = key == "COLOR_0"
        accessors.append({
            "bufferView": len(views), "count": len(values), "type": _TYPES[values.shape[1]],
            "componentType": _UNSIGNED_SHORT if is_colour else _FLOAT,
        } | ({"normalized": True} if is_colour else {}))  # fmt: skip
        if key == "POSITION":  # glTF asks for its limits
            low, high = values.min(axis=0).tolist(), values.max(axis=0).tolist()
            accessors[-1] |= {"min": low, "max": high}
        block = np.ascontiguousarray(values).tobytes()
        views.append({"buffer": 0, "byteOffset": place, "byteLength": len(block),
                      "target": _VERTICES})  # fmt: skip
        blocks.append(block)
        place += len(block)
    splatting = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display",
                 "projection": "perspective", "sortingMethod": "cameraDistance"}  # fmt: skip
    primitive = {
        "attributes": {key: number for number, key in enumerate(attributes)},
        "mode": _POINTS,
        "extensions": {EXTENSION: splatting},
    }
    document = {
        "asset": {"version": "2.0", "generator": "SplatPose"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": name, "mesh": 0} | _placed(world or World())],
        "meshes": [{"name": name, "primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": place}],
    }
    with atomic_write(path) as file:
        file.write(_binary(document, b"".join(blocks)))


def _attributes(gaussians: Gaussians) -> dict[str, NDArray]:
    """glTF's names and the numbers of each Gaussian, [N, 1 to 4]; every row fills whole words."""
    w, x, y, z = gaussians.rotations.unbind(1)
    colours = (0.5 + SH_CONSTANT * gaussians.sh[:, 0]).clamp(0, 1)
    linear = torch.where(
        colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4
    )  # COLOR_0 is linear, 3DGS colours are sRGB (IEC 61966-2-1)
    fallback = torch.cat([linear, gaussians.opacities[:, None]], dim=1)
    named = {
        "POSITION": gaussians.means,
        f"{EXTENSION}:ROTATION": torch.stack([x, y, z, w], dim=1),
        f"{EXTENSION}:SCALE": gaussians.scales,
        f"{EXTENSION}:OPACITY": gaussians.opacities[:, None],
    }
    for degree in range(gaussians.sh_degree + 1):
        for order in range(2 * degree + 1):
            key = f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{order}"
            named[key] = gaussians.sh[:, degree**2 + order]
    found: dict[str, NDArray] = {key: each.numpy().astype("<f4") for key, each in named.items()}
    return found | {"COLOR_0": (fallback * 65535).round().numpy().astype("<u2")}


def _placed(world: World) -> dict[str, Any]:
    """The node's part that places the model in the frame of the capture's files."""
    if world == World():
        return {}
    return {"translation": list(world.origin), "scale": [world.unit] * 3}


def _binary(document: dict[str, Any], content: bytes) -> bytes:
    """A .glb: header, JSON chunk padded with spaces, binary chunk padded with zeros."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    content += bytes(-len(content) % 4)
    length = 12 + 8 + len(text) + 8 + len(content)
    return b"".join((
        struct.pack("<III", _MAGIC, 2, length),
        struct.pack("<II", len(text), _JSON), text,
        struct.pack("<II", len(content), _BINARY), content,
    ))  # fmt: skip

"""Images for people: query, rendering, heat map and where it lies, side by side."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scene import atomic_write

PANELS = ("query", "rendering", "anomaly map", "overlay")
_FLAGGED = (20, 20, 20)  # outline of what the threshold flags, RGB
_TRUTH = (0, 230, 90)  # outline of the labelled defect


def panels(
    query: Tensor,  # [3, H, W], 0..1
    rendering: Tensor,  # [3, H, W]
    anomaly_map: Tensor,  # [H, W]
    scale: float,  # map value shown in the hottest colour; twice the threshold is a good choice
    mask: Tensor | NDArray | None = None,  # [H, W] bool, the labelled defect, outlined in green
    flagged: Tensor | NDArray | None = None,  # [H, W] bool, outlined in black
) -> list[NDArray[np.uint8]]:
    """The four PANELS, uint8 RGB [H, W, 3] each.

    The scale is fixed by the caller, so that overlays of different images can be compared and a
    good part does not glow. Raises ValueError unless the scale is positive and finite.
    """
    import cv2

    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"the scale of a heat map is a positive number, got {scale}")
    heat = (anomaly_map.detach().cpu().numpy().astype(np.float32) / scale).clip(0.0, 1.0)
    coloured = cv2.applyColorMap((heat * 255).round().astype(np.uint8), cv2.COLORMAP_TURBO)
    coloured = np.ascontiguousarray(coloured[..., ::-1])
    photo = _to_bytes(query)
    strength = np.minimum(1.0, 2.0 * heat)[..., None] * 0.75  # cold places stay a photograph
    grey = photo.mean(axis=2, keepdims=True) * 0.7 + photo * 0.3
    blended = (grey * (1 - strength) + coloured * strength).round().astype(np.uint8)
    for region, colour in ((mask, _TRUTH), (flagged, _FLAGGED)):
        if region is not None:
            filled = np.ascontiguousarray(np.asarray(region), np.uint8)
            outlines, _ = cv2.findContours(filled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(blended, outlines, -1, colour, 1, cv2.LINE_AA)
    return [photo, _to_bytes(rendering), coloured, blended]


def overlay(
    query: Tensor,  # [3, H, W], 0..1
    rendering: Tensor,  # [3, H, W]
    anomaly_map: Tensor,  # [H, W]
    scale: float,
    mask: Tensor | NDArray | None = None,  # [H, W] bool
    flagged: Tensor | NDArray | None = None,  # [H, W] bool
) -> NDArray[np.uint8]:
    """The four `panels` side by side with their names, uint8 RGB [H, 4 W, 3]."""
    drawn = panels(query, rendering, anomaly_map, scale, mask, flagged)
    return np.concatenate(
        [_labelled(panel, name) for panel, name in zip(drawn, PANELS, strict=True)], axis=1
    )


def write_overlay(
    path: Path,
    query: Tensor,  # [3, H, W], 0..1
    rendering: Tensor,  # [3, H, W]
    anomaly_map: Tensor,  # [H, W]
    scale: float,
    mask: Tensor | NDArray | None = None,  # [H, W] bool
    flagged: Tensor | NDArray | None = None,  # [H, W] bool
) -> None:
    """`overlay` as a JPEG file. Raises InputError when the disk is full."""
    encoded = encode_jpeg(overlay(query, rendering, anomaly_map, scale, mask, flagged))
    with atomic_write(path) as file:
        file.write(encoded)


def _to_bytes(image: Tensor) -> NDArray[np.uint8]:
    """Image [3, H, W] in 0..1, clamped, as uint8 [H, W, 3]."""
    values = image.detach().cpu().clamp(0.0, 1.0).mul(255).round()
    return np.ascontiguousarray(values.permute(1, 2, 0).numpy().astype(np.uint8))


def encode_jpeg(image: NDArray[np.uint8], quality: int = 82) -> bytes:
    """JPEG of a uint8 RGB image [H, W, 3]."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), options)[1].tobytes()


def _labelled(panel: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """The panel with its name on a dark tab in the upper left corner."""
    import cv2

    panel = panel.copy()
    size = max(0.3, min(0.45, panel.shape[1] / 700))
    (width, height), base = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    tab = panel[: height + base + 6, : width + 10]
    tab[:] = tab // 4
    cv2.putText(
        panel,
        name,
        (5, height + 4),
        cv2.FONT_HERSHEY_SIMPLEX,
        size,
        (255, 255, 255),
        1,
        cv2.LINE_AA,
    )
    return panel

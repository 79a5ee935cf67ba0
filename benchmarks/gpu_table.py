"""What gpu_check.py found, as Markdown."""

import math
from typing import Any

Result = dict[str, Any]


def within_limits(result: Result) -> bool:
    """Whether a comparison meets the stated tolerances (1e-3 in images, 1e-2 in gradients)."""
    gradients = result["gradients"]
    values = gradients.values() if isinstance(gradients, dict) else [gradients]
    finite = all(math.isfinite(v) for v in values)
    return finite and max(values) <= 1e-2 and result["image_max"] <= 1e-3


def table(document: dict[str, Any]) -> str:
    """The figures of a finished check as Markdown."""
    steps, gpu = document["steps"], document["machine"]
    lines = [
        f"{gpu['gpu']}, CUDA {gpu['cuda']}, torch {gpu['torch']}, commit {gpu['commit']}", "",
        "| against reference | image | alpha | depth | worst gradient | |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for title, found in steps.items():
        if title.startswith("compare ") and "error" not in found:
            name, value = max(found["gradients"].items(), key=lambda item: item[1])
            cells = [f"{found[key]:.1e}" for key in ("image_max", "alpha_max", "depth_max")]
            verdict = "ok" if within_limits(found) else "TOO FAR"
            lines.append(f"| {title[8:]} | {' | '.join(cells)} | {value:.1e} {name} | {verdict} |")
    lines += ["", "| data/brick_dog | training s | PSNR dB | peak MiB | coarse, refine, score s "
              "| queries/s | image AUROC | pixel AUROC | AUPRO | step ms | pose step ms "
              "| 16 views ms |", "|" + "---|" * 12]  # fmt: skip
    for title, found in steps.items():
        if "training_seconds" in found:
            lines.append(_training_row(title, found))
    if "same_to_3_digits" in steps.get("half precision", {}):
        lines += ["", _half_line(steps["half precision"])]
    for title, found in steps.items():
        if "error" in found or "state" in found:
            lines.append(f"{title}: {found.get('error') or found['state']}")
    return "\n".join(lines)


def _half_line(found: Result) -> str:
    """Whether half precision would keep the scores."""
    verdict = "unchanged to 3 digits" if found["same_to_3_digits"] else "CHANGED"
    return (
        f"EfficientNet-b4 in half precision: scores {verdict} (at most "
        f"{found['largest_relative_change']:.1e}), {found['half_ms']['median']:.2f} ms instead of "
        f"{found['single_ms']['median']:.2f} ms for four pairs"
    )


def _training_row(title: str, found: Result) -> str:
    """One line of the second table; what was not measured is a dash."""

    def show(value: float | None, digits: int = 3) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    detection, paths = found.get("detection") or {}, found.get("hot_paths") or {}
    seconds = detection.get("seconds") or {}
    total = seconds.get("total")
    cells = [
        title,
        show(found["training_seconds"], 1),
        show((found["held_out_quality"] or {}).get("psnr"), 2),
        show(found["training_peak_mib"], 0),
        ", ".join(show(seconds.get(stage)) for stage in ("coarse", "refine", "score")),
        show(1 / total if total else None, 1),
        *(show(detection.get(key), 4) for key in ("image_auroc", "pixel_auroc", "aupro")),
        *(show(paths[key]["median"], 2) if key in paths else "-"
          for key in ("forward_loss_backward_ms", "pose_normal_equations_ms", "batch_of_16_ms")),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"

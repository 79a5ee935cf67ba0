"""What gpu_check.py found, as Markdown."""

import math
from typing import Any

Result = dict[str, Any]


def within_limits(result: Result) -> bool:
    """Whether a comparison meets the stated tolerances.

    1e-2 in gradients; 1e-3 in images, which one value in a thousand may break by up to 1e-2: where
    alpha is 1/255 the splats end, on either side of rounding, or a little early (docs/gpu.md).
    """
    gradients = result["gradients"]
    values = gradients.values() if isinstance(gradients, dict) else [gradients]
    finite = all(math.isfinite(v) for v in [*values, result["image_max"]])
    images = result["image_max"] <= 1e-2 and result["image_far"] <= 1e-3
    return finite and max(values) <= 1e-2 and images


def agrees(found: Result) -> bool:
    """Whether batches of every size end as one query after the other does.

    Sums on a GPU differ from run to run in their last bits, and the steps of a pose end at 1e-4
    radians, so equal bits cannot be asked for.
    """
    return all(
        figures["rotation_deg"] <= 0.02
        and figures["relative_score"] <= 0.01
        and figures["other_verdicts"] == 0
        for figures in found.values()
        if isinstance(figures, dict)
    )


def table(document: dict[str, Any]) -> str:
    """The figures of a finished check as Markdown."""
    steps, gpu = document["steps"], document["machine"]
    lines = [
        f"{gpu['gpu']}, CUDA {gpu['cuda']}, torch {gpu['torch']}, commit {gpu['commit']}", "",
        "| against reference | image | alpha | depth | worst gradient | same bits twice | |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for title, found in steps.items():
        if title.startswith("compare ") and "error" not in found:
            name, value = max(found["gradients"].items(), key=lambda item: item[1])
            cells = [f"{found[key]:.1e}" for key in ("image_max", "alpha_max", "depth_max")]
            bits = "yes" if found["same_bits"] else "no"
            verdict = "ok" if within_limits(found) else "TOO FAR"
            cells += [f"{value:.1e} {name}", bits, verdict]
            lines.append(f"| {title[8:]} | {' | '.join(cells)} |")
    lines += ["", "| data/brick_dog | training s | PSNR dB | peak MiB | coarse, refine, score s "
              "| queries/s | image AUROC | pixel AUROC | AUPRO | step ms | pose step ms, 16 of them"
              " | 16 views ms |", "|" + "---|" * 12]  # fmt: skip
    for title, found in steps.items():
        if "training_seconds" in found:
            lines.append(_training_row(title, found, steps))
    for title, found in steps.items():
        if title.startswith("batches ") and "1" in found:
            lines += _batch_rows(title.removeprefix("batches "), found)
    if "blending" in steps.get("settings triton", {}):
        lines += _setting_rows(steps["settings triton"])
    if "same_to_3_digits" in steps.get("half precision", {}):
        lines += ["", _half_line(steps["half precision"])]
    for title, found in steps.items():
        if "error" in found or "state" in found:
            lines.append(f"{title}: {found.get('error') or found['state']}")
    return "\n".join(lines)


def _setting_rows(found: Result) -> list[str]:
    """The table of block sizes of our kernels."""
    lines = [
        "", "| triton | Gaussians a chunk, warps | forward ms | forward + backward ms |",
        "|---|---|---|---|",
    ]  # fmt: skip
    for kernel in ("blending", "pose"):
        for setting, times in found[kernel].items():
            cells = [_show(times[key], 3) if key in times else "-" for key in ("forward", "both")]
            lines.append(f"| {kernel} | {setting} | {' | '.join(cells)} |")
    return lines


def _half_line(found: Result) -> str:
    """Whether half precision would keep the scores."""
    verdict = "unchanged to 3 digits" if found["same_to_3_digits"] else "CHANGED"
    return (
        f"EfficientNet-b4 in half precision: scores {verdict} (at most "
        f"{found['largest_relative_change']:.1e}), {found['half_ms']['median']:.2f} ms instead of "
        f"{found['single_ms']['median']:.2f} ms for four pairs"
    )


def _batch_rows(backend: str, found: Result) -> list[str]:
    """The table of batch sizes."""
    lines = [
        "", f"| {backend}, queries at once | queries/s | coarse, refine, score ms | peak MiB | "
        "waits a batch | largest rotation, position | largest change of a score | |",
        "|" + "---|" * 8,
    ]  # fmt: skip
    for size, figures in found.items():
        if not isinstance(figures, dict):  # how long the step took
            continue
        stages = [figures["mean_ms"][stage] for stage in ("coarse", "refine", "score")]
        cells = [
            size,
            _show(figures["queries_per_second"], 1),
            ", ".join(_show(ms, 1) for ms in stages),
            _show(figures["peak_mib"], 0),
            _show(figures["waits_per_batch"], 0),
            f"{figures['rotation_deg']:.1e} deg, {figures['position']:.1e}",
            f"{figures['relative_score']:.1e}",
            "ok" if agrees({size: figures}) else "OTHER RESULTS",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _training_row(title: str, found: Result, steps: dict[str, Result]) -> str:
    """One line of the second table; what was not measured is a dash."""
    preset, backend = title.split(" ", 1)
    own = preset == "default"  # the model that the other steps work on
    detection = steps.get(f"detect {backend}", {}) if own else {}
    paths = steps.get(f"hot paths {backend}", {}) if own else {}
    seconds = detection.get("seconds") or {}
    total = seconds.get("total")

    def ms(key: str) -> str:
        return _show(paths[key]["median"], 2) if key in paths else "-"

    cells = [
        title,
        _show(found["training_seconds"], 1),
        _show((found["held_out_quality"] or {}).get("psnr"), 2),
        _show(found["peak_mib"], 0),
        ", ".join(_show(seconds.get(stage)) for stage in ("coarse", "refine", "score")),
        _show(1 / total if total else None, 1),
        *(_show(detection.get(key), 4) for key in ("image_auroc", "pixel_auroc", "aupro")),
        ms("forward_loss_backward_ms"),
        f"{ms('pose_normal_equations_ms')}, {ms('pose_equations_of_16_ms')}",
        ms("batch_of_16_ms"),
    ]
    return f"| {' | '.join(cells)} |"


def _show(value: float | None, digits: int = 3) -> str:
    """A number, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"

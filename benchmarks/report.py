"""Seconds, memory and size of report.html by the number of images.

    python -m benchmarks.report --run out/brick_dog/detections/X --images 100 2000

The images of a finished run are linked under new names until there are so many; the report of each
number is written in a process of its own, and with --browser opened in Chromium (needs playwright).
"""

import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import tyro

from gaussian_renderer import choose_device
from pipeline.model_folder import ModelFolder
from pipeline.open_inspector import InspectionSettings, display_scale, open_inspector
from pipeline.presets import DETECTION
from report import detection_report, run_in_3d, write_report
from scene import InputError, Query, read_json

_LOADED = "document.readyState === 'complete' && !document.querySelector('.tools').hidden"


@dataclass(frozen=True)
class ReportConfig:
    """Which run, and how many images."""

    run: Path
    """Folder of a finished run of detect.py, in the model folder's detections/."""
    images: tuple[int, ...] = (100, 2000)
    """Numbers of images."""
    browser: bool = False
    """Open each page in Chromium, too."""


def measure(config: ReportConfig) -> list[dict[str, Any]]:
    """Figures of each number of images. Raises InputError without a run."""
    document = read_json(config.run / "results.json", "run detect.py again")
    if not document["images"]:
        raise InputError(f"'{config.run}' holds no images: name another run")
    found = []
    for count in config.images:
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch)
            _enlarge(document, config.run, count, root)
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
                figures = alone.submit(_write, config.run.resolve().parent.parent, root).result()
            if config.browser:
                figures |= _opened(root / "report.html")
            found.append({"images": count} | figures)
    return found


def _enlarge(document: dict[str, Any], run: Path, count: int, root: Path) -> None:
    """A run of `count` images in `root`, whose maps and overlays are links to those of `run`."""
    entries = []
    for number, entry in enumerate(islice(cycle(document["images"]), count)):
        name = f"{entry['name']}-{number}"
        own = entry | {"name": name}
        if entry["map"] is not None:
            own["map"] = f"maps/{name}.tiff"
            for link, kind in ((own["map"], entry["map"]), (f"overlays/{name}.jpg",
                               f"overlays/{entry['name']}.jpg")):  # fmt: skip
                (root / link).parent.mkdir(parents=True, exist_ok=True)
                (root / link).symlink_to((run / kind).resolve())
        entries.append(own)
    (root / "results.json").write_text(json.dumps(document | {"images": entries}))


def _write(model: Path, root: Path) -> dict[str, float]:
    """Writes the report of a run as detect.py does; seconds, and MiB that it took beside the model.

    Processor seconds leave out what other processes took; the peak is that of the whole process.
    """
    folder = ModelFolder(model)
    device, _ = choose_device("cpu")
    inspector = open_inspector(folder, InspectionSettings(DETECTION["default"], device))
    document = json.loads((root / "results.json").read_text())
    queries = [
        Query(e["name"], Path(e["path"]), e["label"], None, None) for e in document["images"]
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started, begun = time.perf_counter(), time.process_time()
    scale = display_scale(inspector, folder)
    in_3d = run_in_3d(inspector, folder, document["images"], root, scale)
    middle = time.perf_counter()
    report = detection_report(document, queries, inspector.name, root, in_3d)
    write_report(root / "report.html", report)
    ended, done = time.perf_counter(), time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = (root / "report.html").stat().st_size / 2**20
    return {"seconds": ended - started, "seconds_3d": middle - started,
            "processor_seconds": done - begun, "peak_mib": peak, "more_mib": peak - before,
            "page_mib": size}  # fmt: skip


def _opened(path: Path) -> dict[str, float]:
    """Seconds until the page can be used."""
    from playwright.sync_api import sync_playwright

    switches = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=switches)
        page = browser.new_page()
        started = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_function(_LOADED)
        seconds = time.perf_counter() - started
        browser.close()
    return {"open_seconds": seconds}


def main() -> None:
    """Command line."""
    config = tyro.cli(ReportConfig, description=__doc__)
    for figures in measure(config):
        print(", ".join(f"{name} {value:.4g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()

"""Writes a capture in MAD's layout: train views, queries with masks, true poses."""

import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from tqdm import tqdm

from scene import write_json

from .cameras import ANGLE
from .config import SyntheticConfig
from .defects import KINDS
from .lens import Lens
from .overview import write_overview
from .photographer import Photographer, Taken

_Job = tuple[str, int]  # "train", "good" or a kind of defect, and the number of the object


def make_capture(config: SyntheticConfig) -> Path:
    """Renders a capture and returns its folder, which appears when it is complete.

    Raises:
        InputError: the folder is there already, or a setting makes no sense.
    """
    config.check()
    out = config.out
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        _write(config, temporary)
        write_overview([temporary], temporary / "overview.jpg")
        os.replace(temporary, out)
    finally:
        _photographer.cache_clear()
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _write(config: SyntheticConfig, root: Path) -> None:
    """Takes all images and writes what is known about them."""
    jobs: list[_Job] = [("train", index) for index in range(config.views)]
    jobs += [("good", index) for index in range(config.good_queries)]
    jobs += [(label, index) for label in KINDS for index in range(config.queries)]
    with _mapped(config, root, jobs) as results:
        taken = [one for many in tqdm(results, total=len(jobs), unit="job") for one in many]
    train = [one.frame for one in taken if one.name.startswith("train/")]
    queries = [one for one in taken if one.name.startswith("test/")]
    lens = config.query_lens
    camera = lens.intrinsics(config.size)
    lens = config.train_lens
    shared = {"camera_angle_x": ANGLE} if lens.is_straight else lens.intrinsics(config.size)
    write_json(root / "transforms.json", shared | {"frames": train})
    poses = {"camera_angle_x": ANGLE} if lens == Lens() else camera
    write_json(root / "test_poses.json", poses | {"frames": [one.frame for one in queries]})
    meta = {
        one.name.removeprefix("test/"): one.details | {"c2w": one.camera_to_world.tolist()}
        for one in queries
    }
    write_json(root / "test_meta.json", meta)
    write_json(root / "query_camera.json", camera)
    photographer = _photographer(config, root)
    if config.rig == "turntable":
        photographer.empty()
    settings = {k: v for k, v in asdict(config).items() if k != "workers"}
    settings |= {"out": config.out.name, "parts": len(photographer.assembly.parts)}
    write_json(root / "synthetic.json", settings)


@contextmanager
def _mapped(
    config: SyntheticConfig, root: Path, jobs: list[_Job]
) -> Iterator[Iterator[list[Taken]]]:
    """What the jobs give, in their order; by several processes where that is asked for."""
    arguments = [config] * len(jobs), [root] * len(jobs), jobs
    if config.workers == 1:
        yield map(_take, *arguments)
        return
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, mp_context=fresh) as pool:
        try:
            yield pool.map(_take, *arguments)
        finally:
            pool.shutdown(cancel_futures=True)  # after an error the rest is not rendered


def _take(config: SyntheticConfig, root: Path, job: _Job) -> list[Taken]:
    """One job, in whatever process."""
    photographer = _photographer(config, root)
    what, index = job
    if what == "train":
        return photographer.train(index)
    return photographer.good(index) if what == "good" else photographer.defect(what, index)


@lru_cache(maxsize=1)
def _photographer(config: SyntheticConfig, root: Path) -> Photographer:
    """One per process: its shadow maps serve all images."""
    return Photographer(config, root)

"""A real browser for tests of pages: the system's Chromium, driven by Playwright."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# WebGL in software, so that no GPU is needed.
_SWITCHES = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
             "--ignore-gpu-blocklist")  # fmt: skip


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A headless browser; skips the test with the reason where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
    )
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=list(_SWITCHES))
        try:
            yield running
        finally:
            running.close()


def opened(running: Any, path: Path, width: int = 900, height: int = 700, **options: Any) -> Any:
    """A page of a file; `page.faults` gathers what went wrong in it, and what it asked for."""
    page = running.new_page(viewport={"width": width, "height": height}, **options)
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:"))
            else page.faults.append(f"asked for {r.url}"))  # fmt: skip
    page.goto(path.as_uri())
    return page

"""README's figures come from the files of runs: written, checked, and never half known."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.readme import BEGIN, END, README, ReadmeConfig, main
from scene import InputError, read_json, write_json

KIND = {"n_images": 2, "image_auroc": 0.5, "pixel_auroc": None, "aupro": None}
SUMMARY: dict[str, Any] = {
    "image_auroc": 0.98765, "pixel_auroc": 0.99994, "aupro": 0.9, "aupro_0.05": 0.8,
    "n_good": 3, "n_false_alarms": 1, "kinds": {"Burrs": KIND},
    "pose": {
        "rotation_deg_median": 0.0263, "rotation_deg_max": 0.1, "translation_median": 0.00193,
        "translation_max": 0.005, "n_within_1deg_and_0.02": 4,
    },
    "seconds": {"coarse": 0.1, "refine": 0.2, "score": 0.3, "total": 0.6},
}  # fmt: skip
IMAGES = [
    {"label": label, "is_anomalous": flag, "rotation_error_deg": 0.02}
    for label, flag in (("good", True), ("good", False), ("good", False), ("Burrs", True))
]
IMAGES.append({"label": "Burrs", "is_anomalous": None, "rotation_error_deg": None})
TABLE = """\
|  | a ball |
| --- | --- |
| image AUROC (Burrs) | 0.988 (0.500) |
| pixel AUROC, AUPRO (0.3), AUPRO (0.05) | 0.9999, 0.900, 0.800 |
| flagged at the threshold for 1 %: good images, defective ones | 1 of 3, 1 of 2 |
| poses within 1 degree and 0.02 units | 4 of 4 |
| pose error, median (worst) | 0.026 (0.10) degrees, 0.0019 (0.0050) units |
| PSNR of held-out views: whole image, inside the silhouette | 40.1 dB, 32.0 dB |
| training (calibration comes on top) | 55 s (3,000 iterations, one thread) |
| a query, file to verdict | 0.60 s (coarse 0.10, refine 0.20, score 0.30; 2 threads) |

Measured at commit 0123456789ab."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of detect.py in the folder of its model."""
    folder = tmp_path / "model/detections/run"
    settings = {"false_alarm_rate": 0.01, "threads": 2, "commit": "0123456789abcdef", "model": "x"}
    write_json(
        folder / "results.json", {"summary": SUMMARY, "settings": settings, "images": IMAGES}
    )
    trained = {
        "settings": {"iterations": 3000, "threads": 1},
        "held_out_quality": {"psnr": 40.123, "psnr_object": 32.04}, "training_seconds": 54.6,
    }  # fmt: skip
    write_json(tmp_path / "model/config.json", trained)
    return folder


def changed(run: Path, **values: Any) -> None:
    """Gives the summary of a run other values."""
    document = read_json(run / "results.json")
    document["summary"] |= values
    write_json(run / "results.json", document)


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    """A file with an old table."""
    path = tmp_path / "README.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    return path


def test_table_is_written_between_the_marks_and_then_holds(run: Path, readme: Path) -> None:
    config = ReadmeConfig((f"a ball={run}",), readme)
    assert main(config) == 0
    assert readme.read_text() == f"before\n{BEGIN}\n\n{TABLE}\n\n{END}\nafter\n"
    assert main(ReadmeConfig(config.run, readme, check=True)) == 0


def test_check_shows_the_difference_and_writes_nothing(
    run: Path, readme: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(ReadmeConfig((f"a ball={run}",), readme))
    written = readme.read_text()
    changed(run, image_auroc=0.5)
    capsys.readouterr()
    assert main(ReadmeConfig((f"a ball={run}",), readme, check=True)) == 1
    assert "+| image AUROC (Burrs) | 0.500 (0.500) |" in capsys.readouterr().out.splitlines()
    assert readme.read_text() == written


def test_rows_of_which_nothing_is_known_are_left_out(run: Path, readme: Path) -> None:
    document = read_json(run / "results.json")
    del document["summary"]["pose"]
    write_json(run / "results.json", document)
    changed(run, n_false_alarms=None, n_good=0)
    main(ReadmeConfig((f"a ball={run}",), readme))
    text = readme.read_text()
    assert "image AUROC" in text
    assert "pose" not in text
    assert "flagged" not in text


def test_wrong_arguments_are_one_sentence(run: Path, readme: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="wants HEADING=FOLDER"):
        main(ReadmeConfig((str(run),), readme))
    with pytest.raises(InputError, match=r"results\.json"):
        main(ReadmeConfig((f"a={tmp_path}",), readme))
    readme.write_text("no marks")
    with pytest.raises(InputError, match="lacks the lines"):
        main(ReadmeConfig((f"a={run}",), readme))


def test_the_real_readme_has_the_marks() -> None:
    text = README.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)

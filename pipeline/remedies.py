"""The commands that make a damaged model folder whole again, as error texts name them."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .presets import TRAINING

_OPTIONS = ("preset", "iterations", "sh_degree", "max_gaussians", "holdout_every", "folds",
            "views_fraction", "resolution", "seed")  # fmt: skip
_DEFAULTS = {"preset": "default", "folds": 0, "views_fraction": 1.0, "resolution": 400, "seed": 0}
LEARN_AGAIN = "give the train.py command of this model again with --overwrite"


def calibrate_again(root: Path, good: str = "") -> str:
    """Renews what is derived; `good` is the folder of photographs that it stood on."""
    with_good = f" --good {shlex.quote(good)}" if good else ""
    return f"run python calibrate.py --model {shlex.quote(str(root))}{with_good}"


def train_again(root: Path, settings: Mapping[str, Any]) -> str:
    """Trains the model of these settings (of config.json) anew."""
    preset = TRAINING[settings["preset"]]
    words = ["python", "train.py", "-s", settings["source"], "-m", str(root)]
    for name in _OPTIONS:
        value = settings.get(name)
        if value is not None and value != _DEFAULTS.get(name, getattr(preset, name, None)):
            words += [f"--{name.replace('_', '-')}", f"{value}"]
    words += ["--refine-poses"] * bool(settings.get("refine_poses"))
    return f"run {shlex.join([*words, '--overwrite'])}"

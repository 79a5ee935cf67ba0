"""Pre-trained weights: from a folder, or the cache that the libraries download into."""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # what torch.load raises on a foreign file; nothing is unpickled
from typing import Any

import torch

from .errors import InputError


@dataclass(frozen=True)
class WeightFile:
    """A file of weights, and where everybody can get it."""

    model: str
    name: str
    address: str
    also: tuple[str, ...] = ()  # other names under which a folder may hold it
    sha256: str = ""  # or its first digits: a download is held against it

    def fit(self, model: torch.nn.Module, state: dict[str, Any], optional: str = "/") -> None:
        """Loads `state` into `model`; only keys that begin with `optional` may be absent.

        Raises InputError when the weights belong to another model.
        """
        try:
            missing, unexpected = model.load_state_dict(state, strict=False)
        except (RuntimeError, AttributeError, TypeError) as error:
            raise InputError(f"{self.name} does not fit {self.model}: {self._advice()}") from error
        missing = [key for key in missing if not key.startswith(optional)]
        if missing or unexpected:
            raise InputError(f"{self.name} does not fit {self.model}: {self._advice()}")

    def _advice(self) -> str:
        return f"get {self.name} from {self.address}"


LOFTR = WeightFile(
    "LoFTR",
    "loftr_indoor_ds_new.ckpt",
    "https://huggingface.co/kornia/loftr/resolve/main/loftr_indoor_ds_new.ckpt",
    sha256="be9ff88b323ec27889114719f668ae41aff7034b56a4c4acbd46b8b180b87ed3",
)
XFEAT = WeightFile(
    "XFeat",
    "xfeat.pt",
    "https://github.com/verlab/accelerated_features/raw/main/weights/xfeat.pt",
    also=("xfeat_kornia.pt",),  # the same, stored from kornia's module
    sha256="0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b",
)
EFFICIENTNET = WeightFile(
    "EfficientNet-b4",
    "efficientnet-b4-6ed6700e.pth",  # PyTorch writes the hash into the name
    "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/"
    "efficientnet-b4-6ed6700e.pth",
    sha256="6ed6700e",
)


def cache_folder() -> Path:
    """The folder into which PyTorch and kornia download."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def find_weights(file: WeightFile, folder: Path | None) -> Path | None:
    """Where the file lies: in `folder`, else in the cache; None when it is in neither."""
    places = [cache_folder()] if folder is None else [folder, cache_folder()]
    named = [place / name for place in places for name in (file.name, *file.also)]
    return next((path for path in named if path.is_file()), None)


def load_weights(file: WeightFile, folder: Path | None) -> dict[str, Any]:
    """The state dictionary in `folder`, else in the cache, else downloaded into the cache.

    Raises InputError naming file, address and folder when it can be had from none of them, or when
    it is damaged. Nothing is ever unpickled.
    """
    path = fetch_weights(file, folder)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, UnpicklingError) as error:
        raise InputError(_advice(file, folder, f"{path} cannot be read as weights")) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if state is None:
        raise InputError(_advice(file, folder, f"{path} holds no weights"))
    return state


def fetch_weights(file: WeightFile, folder: Path | None) -> Path:
    """Where the file lies in `folder`, else in the cache, into which it is downloaded if need be.

    Raises InputError when it can be had from none of them.
    """
    return find_weights(file, folder) or _download(file, folder)


def _download(file: WeightFile, folder: Path | None) -> Path:
    target = cache_folder() / file.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            file.address, str(target), file.sha256 or None, progress=False
        )
    except (OSError, RuntimeError) as error:  # urllib's and time-outs; a hash that does not fit
        what = f"the weights of {file.model} are not here and cannot be downloaded ({error})"
        raise InputError(_advice(file, folder, what)) from error
    return target


def _advice(file: WeightFile, folder: Path | None, what: str) -> str:
    place = cache_folder() if folder is None else folder
    return f"{what}: get {file.name} from {file.address} and put it into {place}"

"""zones.npz of a model folder: zones of the surface, sealed and bound to its Gaussians."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from anomaly import Zones
from scene import InputError, atomic_write, check_numbers, damage_named, printable

from .model_folder import ModelFolder
from .seals import check_seal, sealed, sha256_of

VERSION = 1
STRICTEST = 100.0  # factor on the map
MOST_ZONES = 64
_REMEDY = "delete the file and paint the zones again"


@dataclass(frozen=True)
class Zone:
    """One painted zone."""

    name: str
    kind: Literal["ignore", "strict"]
    factor: float  # on the map: 0 for ignore, above 1 for strict
    members: Tensor  # [N] bool


def check_zone(name: str, kind: str, factor: float) -> tuple[str, float]:
    """The name and factor as they are kept. Raises InputError."""
    if kind not in ("ignore", "strict"):
        raise InputError(f"a zone is 'ignore' or 'strict', not '{printable(kind)}'")
    if kind == "strict" and not 1.0 < factor <= STRICTEST:
        raise InputError(f"the factor of a strict zone lies above 1 and up to {STRICTEST:g}")
    if not 0 < len(name.strip()) <= 80:
        raise InputError("a zone needs a name of at most 80 letters")
    return printable(name.strip()), factor if kind == "strict" else 0.0


def save_zones(folder: ModelFolder, zones: list[Zone], iteration: int) -> None:
    """Writes zones.npz; without zones there is none. Raises InputError for too many."""
    if len(zones) > MOST_ZONES:
        raise InputError(f"a model has at most {MOST_ZONES} zones: remove one first")
    if not zones:
        folder.zones_path.unlink(missing_ok=True)
        return
    members = np.packbits(torch.stack([zone.members for zone in zones]).numpy(), axis=1)
    named = [{k: v for k, v in asdict(zone).items() if k != "members"} for zone in zones]
    document = {
        "version": VERSION, "zones": named, "count": len(zones[0].members),
        "point_cloud": sha256_of(folder.point_cloud_path(iteration)),
        "members": hashlib.sha256(members.tobytes()).hexdigest(),
    }  # fmt: skip
    text = np.frombuffer(json.dumps(sealed(document)).encode(), np.uint8)
    with atomic_write(folder.zones_path) as file:
        np.savez_compressed(file, members=members, document=text)  # type: ignore[arg-type]


def load_zones(folder: ModelFolder, iteration: int) -> list[Zone]:
    """The zones of a model, none where there is no file.

    Raises InputError when the file is damaged, or was painted on other Gaussians.
    """
    path = folder.zones_path
    if not path.is_file():
        return []
    with damage_named(path, _REMEDY), np.load(path, allow_pickle=False) as archive:
        document = json.loads(archive["document"].tobytes())
        check_seal(document)
        members = archive["members"]
        if document["version"] != VERSION:
            raise ValueError("it is of another version")
        if document["members"] != hashlib.sha256(members.tobytes()).hexdigest():
            raise ValueError("its zones are not those that were written")
        bits = np.unpackbits(members, axis=1, count=document["count"]).astype(bool)
        found = []
        for each, row in zip(document["zones"], bits, strict=True):
            check_numbers(each, {"factor": (0.0, STRICTEST)})
            name, kind = str(each["name"]), each["kind"]
            found.append(Zone(name, kind, each["factor"], torch.from_numpy(row)))
    if document["point_cloud"] != sha256_of(folder.point_cloud_path(iteration)):
        raise InputError(f"'{path}' was painted on other Gaussians than the model's: {_REMEDY}")
    return found


def as_zones(zones: list[Zone], like: Tensor) -> Zones | None:
    """What the inspector applies, on the device of `like`; None without zones."""
    if not zones:
        return None
    members = torch.stack([zone.members for zone in zones]).to(like.device)
    return Zones(members, tuple(zone.factor for zone in zones))


def zones_note(zones: list[Zone]) -> str:
    """One line for a run's notes; "" without zones."""
    return ", ".join(
        f"zone '{zone.name}' " + ("ignored" if zone.kind == "ignore" else f"x {zone.factor:g}")
        for zone in zones
    )

"""Small wrongs done to JSON, to bytes, to text and to arrays, each of a seeded choice."""

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np

ODD_NUMBERS = (
    "0", "-1", "1", "0.5", "1e-300", "1e300", "-1e200", "1e999", "NaN", "-Infinity", "1e13",
    "4294967296", "9223372036854775808", "-9223372036854775809", "9" * 400, "9" * 6000, "1e-45",
)  # fmt: skip
ODD_VALUES = (
    "null", "true", "false", '""', '"text"', "[]", "{}", "[[]]", "[1, 2]", '"\\u0000"',
    '"../x"', '"/etc/passwd"', '"\\ud800"', "[" * 3000 + "]" * 3000, '{"a": {"a": {"a": 1}}}',
)  # fmt: skip
KEYS = (
    "fl_x", "fl_y", "cx", "cy", "w", "h", "k1", "k2", "p2", "camera_model", "is_fisheye", "x_fov",
    "camera_angle_x", "camera_angle_y", "rolling_shutter", "mask_path", "time", "file_path",
    "transform_matrix", "train_filenames", "test_filenames", "distortion_params", "frames",
    "camera_convention", "white", "world", "background", "unit", "origin", "threshold", "width",
    "ply_file_path", "lens", "radial", "zoom",
)  # fmt: skip
_ODD_FLOATS = (0.0, -1.0, 1e-300, 1e300, np.nan, np.inf, -np.inf, 1e38, 255.0, 4096.0)
_ODD_BYTES = (0, 1, 127, 128, 254, 255, 10, 32, 34, 45, 48, 57, 91, 123)


class Literal(str):
    """JSON text that is written as it is."""

    __slots__ = ()


def json_text(value: Any) -> str:
    """JSON in which `Literal` parts stand as they are."""
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, dict):
        parts = (f"{json.dumps(key)}: {json_text(part)}" for key, part in value.items())
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(json_text, value)) + "]"
    return json.dumps(value)


def mutate_json(text: str, dice: random.Random) -> bytes:
    """A document with one to three odd values, missing or added entries; seldom odd bytes."""
    if dice.random() < 0.15:
        return mutate_bytes(text.encode(), dice)
    document = json.loads(text)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        places = [([], None), *_places(document)]
        holder, key = dice.choice(places[1:] or places)
        if key is None:
            continue
        kind = dice.random()
        if kind < 0.15:
            del holder[key]
        elif kind < 0.3 and isinstance(holder, dict):
            holder[dice.choice(KEYS)] = _odd(dice)
        elif kind < 0.4 and isinstance(holder, list):
            holder.insert(0, dice.choice(holder))
        else:
            holder[key] = _odd(dice)
    return json_text(document).encode("utf-8", errors="surrogatepass")


def _odd(dice: random.Random) -> Literal:
    return Literal(dice.choice(ODD_NUMBERS if dice.random() < 0.6 else ODD_VALUES))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) of a document."""
    if isinstance(value, dict):
        keys: list[Any] = list(value)
    elif isinstance(value, list) and not isinstance(value, Literal):
        keys = list(range(len(value)))
    else:
        return []
    found = [(value, key) for key in keys]
    for key in keys:
        found += _places(value[key])
    return found


def mutate_bytes(content: bytes, dice: random.Random) -> bytes:
    """Flipped, cut, doubled, overwritten or foreign bytes; the start is hit more often."""
    data = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        if not data:
            break
        near = len(data) if dice.random() < 0.5 else min(len(data), 64)
        at, kind = dice.randrange(near), dice.random()
        if kind < 0.4:
            data[at] = dice.choice(_ODD_BYTES)
        elif kind < 0.6:
            data[at] ^= 1 << dice.randrange(8)
        elif kind < 0.7:
            data = data[:at]
        elif kind < 0.8:
            data[at : at + 4] = dice.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"))
        elif kind < 0.9:
            data[at:at] = data[at : at + dice.randrange(1, 64)]
        else:
            del data[at : at + dice.randrange(1, 64)]
    return bytes(data)


def mutate_text(text: str, dice: random.Random) -> bytes:
    """Lines lost, doubled or exchanged; words odd, lost or added; seldom odd bytes."""
    if dice.random() < 0.2:
        return mutate_bytes(text.encode(), dice)
    lines = text.splitlines()
    for _ in range(dice.choice((1, 1, 2, 3))):
        if not lines:
            break
        at, kind = dice.randrange(len(lines)), dice.random()
        words = lines[at].split()
        if kind < 0.15:
            del lines[at]
        elif kind < 0.3:
            lines.insert(at, dice.choice(lines))
        elif kind < 0.4:
            lines.insert(at, "")
        elif words:
            word = dice.randrange(len(words))
            if kind < 0.5:
                del words[word]
            elif kind < 0.6:
                words.insert(word, dice.choice(ODD_NUMBERS))
            else:
                words[word] = dice.choice((*ODD_NUMBERS, "text", "../x.png", "/x.png", "nan"))
            lines[at] = " ".join(words)
    return "\n".join(lines).encode()


def mutate_arrays(arrays: dict[str, np.ndarray], dice: random.Random) -> dict[str, np.ndarray]:
    """One array lost, emptied, of another shape or type, or with odd values."""
    found = dict(arrays)
    name = dice.choice(sorted(found))
    array = found[name]
    changes: tuple[Callable[[], np.ndarray], ...] = (
        lambda: array[:0] if array.ndim else array,
        lambda: array[:-1] if array.ndim else array.reshape(1),
        lambda: array.reshape(-1),
        lambda: array[None],
        lambda: np.concatenate([array, array]) if array.ndim else array,
        lambda: array.astype(dice.choice((np.float16, np.int8, np.bool_, np.str_))),
        lambda: np.array(["text"]),
        lambda: _with_odd(array, dice),
        lambda: _with_odd(array, dice),
    )
    is_number = array.dtype.kind in "fiub"
    if dice.random() < 0.15 or not is_number:
        del found[name]
    else:
        with np.errstate(all="ignore"):
            found[name] = dice.choice(changes)()
    return found


def _with_odd(array: np.ndarray, dice: random.Random) -> np.ndarray:
    changed = array.copy()
    if not changed.size or changed.dtype.kind not in "fiub":
        return changed
    value = dice.choice(_ODD_FLOATS)
    if changed.dtype.kind != "f":
        value = dice.choice((0, 1, 127)) if changed.dtype.itemsize == 1 else dice.randrange(2**31)
    changed.reshape(-1)[dice.randrange(changed.size)] = value
    return changed

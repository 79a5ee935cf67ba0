"""Atomic files, and the PLY of 3DGS."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from scene import (
    Gaussians,
    InputError,
    append_lines,
    atomic_write,
    check_numbers,
    file_name,
    folder_lock,
    load_ply,
    printable,
    read_json,
    refuse_inside,
    save_ply,
    write_json,
)

ROOT = Path(__file__).parent.parent


def cloud(count: int, degree: int, dtype: torch.dtype = torch.float32) -> Gaussians:
    generator = torch.Generator().manual_seed(degree)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=generator, dtype=dtype)

    return Gaussians(draw(3), draw(3), draw(4), draw(), draw((degree + 1) ** 2, 3))


def _write_half(path: Path) -> None:
    with atomic_write(path, "w") as file:
        file.write("half")
        raise RuntimeError


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path, "w") as file:
        file.write("old")
        assert not path.exists()
    with pytest.raises(RuntimeError):
        _write_half(path)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(_: int) -> None:
        raise OSError(code, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"The disk is full, .*a\.ply was not written: free some"):
        save_ply(cloud(3, 0), tmp_path / "a.ply")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_while_writing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="The disk is full"):
        _copy_to_full_disk(tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []


def _copy_to_full_disk(path: Path) -> None:
    with atomic_write(path) as file, open("/dev/full", "wb", buffering=0) as full:
        file.write(b"x")
        full.write(b"x")


def _refusing(code: int) -> Callable[..., None]:
    def refuse(*_: int) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_without_fsync_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "fsync", _refusing(code))
    write_json(tmp_path / "a.json", [1])
    assert read_json(tmp_path / "a.json") == [1]


def test_fsync_that_fails_loses_nothing_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", _refusing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        write_json(tmp_path / "a.json", [1])
    assert list(tmp_path.iterdir()) == []


_HOLD = """
import sys, time
from pathlib import Path
from scene import folder_lock
with folder_lock(Path(sys.argv[1]), "-m"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_a_second_writer_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    first = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert first.stdout is not None
    with first, first.stdout:
        assert first.stdout.readline() == b"held\n"
        message = "another process is writing to .*new': wait for it, or choose .* with -m"
        with pytest.raises(InputError, match=message), folder_lock(folder, "-m"):
            pass
        first.send_signal(signal.SIGKILL)
        first.wait()
        with folder_lock(folder, "-m"):
            (folder / "a").touch()
    with folder_lock(folder, "-m"):
        assert (folder / "a").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="flock is of Unix")
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    monkeypatch.setattr("fcntl.flock", _refusing(code))
    with folder_lock(tmp_path, "-m"):
        (tmp_path / "a").touch()
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "cannot be locked there" in said


def test_a_place_that_cannot_be_locked_for_want_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = "cannot write into .*: choose another folder with -o or fix its permissions"
    with pytest.raises(InputError, match=message), folder_lock(tmp_path / "file", "-o"):
        pass


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"Cannot write into .*: choose another output folder"):
        write_json(tmp_path / "file" / "a.json", {})


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(InputError, match=r"a\.json is a folder, where a file belongs"):
        write_json(tmp_path / "a.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_appended_lines_are_whole_but_for_the_last_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with append_lines(tmp_path / "new/a.txt") as append:
        append("one")
        assert (tmp_path / "new/a.txt").read_text() == "one\n"
        append("zwei \u00e4")
        monkeypatch.setattr(os, "fsync", _refusing(errno.ENOSPC))
        with pytest.raises(InputError, match=r"The disk is full, .*a\.txt was not written"):
            append("three")
    assert (tmp_path / "new/a.txt").read_text("utf-8").splitlines()[:2] == ["one", "zwei \u00e4"]
    with pytest.raises(InputError, match="Cannot write into"), append_lines(tmp_path / "new"):
        pass


def test_any_name_becomes_a_file_name_of_its_own() -> None:
    plain = ["good/0", "a b", "\u65e5\u672c", "%00", "n" * 200]
    assert [file_name(name) for name in plain] == plain
    odd = ["\udcff", "%udcff", "\\udcff", "a\n", "a\r", "n" * 201, "n" * 202, "\u65e5" * 80]
    names = [file_name(f"x/{name}") for name in odd]
    assert len({*names, *plain}) == len(odd) + len(plain)
    for name in names:
        assert name.startswith("x/")
        assert len(name.encode("utf-8")) <= 203
        assert name == printable(name)


def test_other_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a"):
        (tmp_path / "gone").read_text()
    assert list(tmp_path.iterdir()) == []


def test_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, None, "ä"]})
    assert read_json(tmp_path / "a.json") == {"a": [1, None, "ä"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert read_json(tmp_path / "a.json") == {"a": [1, None, "ä"]}
    with pytest.raises(InputError, match=r"There is no file .*gone\.json: check the path"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(InputError, match=f"Cannot read {tmp_path}"):
        read_json(tmp_path)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_ply_keeps_every_bit(tmp_path: Path, degree: int) -> None:
    gaussians = cloud(7, degree)
    save_ply(gaussians, tmp_path / "a.ply")
    loaded = load_ply(tmp_path / "a.ply")
    assert loaded.sh_degree == degree
    for name, tensor in gaussians.named_tensors().items():
        assert torch.equal(loaded.named_tensors()[name], tensor), name
        assert loaded.named_tensors()[name].dtype == torch.float32


def test_ply_is_laid_out_as_in_3dgs(tmp_path: Path) -> None:
    gaussians = cloud(2, 1, torch.float64).requires_grad_()
    save_ply(gaussians, tmp_path / "a.ply")
    raw = (tmp_path / "a.ply").read_bytes()
    names = [*"xyz", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3))]
    names += [*(f"f_rest_{i}" for i in range(9)), "opacity"]
    names += [*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 2\n"
    header += "".join(f"property float {name}\n" for name in names) + "end_header\n"
    assert raw.startswith(header.encode())
    table = np.frombuffer(raw[len(header) :], "<f4").reshape(2, len(names))
    row = dict(zip(names, table[1], strict=True))
    sh = gaussians.sh[1].detach().float().numpy()
    assert row["f_dc_1"] == sh[0, 1]
    # all higher red coefficients first, then green, then blue
    assert [row[f"f_rest_{i}"] for i in range(9)] == sh[1:].T.reshape(-1).tolist()
    assert row["opacity"] == gaussians.opacity_logits[1].float()
    assert row["rot_0"] == gaussians.quaternions[1, 0].float()
    assert (row["nx"], row["ny"], row["nz"]) == (0, 0, 0)


def test_degree_0_has_no_f_rest(tmp_path: Path) -> None:
    save_ply(cloud(2, 0), tmp_path / "a.ply")
    assert b"f_rest" not in (tmp_path / "a.ply").read_bytes()


def test_ply_that_is_not_of_3dgs(tmp_path: Path) -> None:
    points = np.zeros(3, [("x", "<f4"), ("y", "<f4"), ("z", "<f4")])
    path = tmp_path / "a.ply"
    PlyData([PlyElement.describe(points, "vertex")]).write(str(path))
    with pytest.raises(InputError, match=r"not one of 3DGS \(it lacks f_dc_0"):
        load_ply(path)
    PlyData([PlyElement.describe(points, "face")]).write(str(path))
    with pytest.raises(InputError, match="has no vertices"):
        load_ply(path)
    extra = np.zeros(3, [(name, "<f4") for name in ("x", "f_rest_0", "f_rest_1")])
    PlyData([PlyElement.describe(extra, "vertex")]).write(str(path))
    with pytest.raises(InputError, match="has 2 f_rest properties"):
        load_ply(path)


def test_damaged_ply(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    with pytest.raises(InputError, match="There is no file"):
        load_ply(path)
    save_ply(cloud(50, 0), path)
    whole = path.read_bytes()
    for keep in (0, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(InputError, match=r"a\.ply is truncated or not a PLY file"):
            load_ply(path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + whole)
    with pytest.raises(InputError, match="not a PLY file"):
        load_ply(path)


def test_ply_with_impossible_values(tmp_path: Path) -> None:
    gaussians = cloud(3, 0)
    gaussians.means[1, 2] = float("nan")
    save_ply(gaussians, tmp_path / "a.ply")
    with pytest.raises(InputError, match="holds NaN or infinity"):
        load_ply(tmp_path / "a.ply")
    save_ply(cloud(0, 0), tmp_path / "b.ply")
    with pytest.raises(InputError, match="holds no Gaussians"):
        load_ply(tmp_path / "b.ply")


@pytest.mark.parametrize("inside", ["", "deep", "deep/er", "../other/../data/x"])
def test_nothing_is_written_into_a_folder_that_is_read(tmp_path: Path, inside: str) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match="never written into: choose another folder with -m"):
        refuse_inside(tmp_path / "data" / inside, tmp_path / "data", "-m")


def test_folders_beside_and_around_what_is_read_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("out", "data2", "."):
        refuse_inside(tmp_path / name, tmp_path / "data", "-m")
    (tmp_path / "photo.png").touch()
    refuse_inside(tmp_path, tmp_path / "photo.png", "-o")


@pytest.mark.parametrize("value", [True, "1", None, [1], float("nan"), float("inf"), -1, 11])
def test_numbers_out_of_range_are_named(value: object) -> None:
    check_numbers({"size": 10, "other": "text"}, {"size": (0, 10)})
    with pytest.raises(ValueError, match="size is"):
        check_numbers({"size": value}, {"size": (0, 10)})
    with pytest.raises(KeyError, match="size"):
        check_numbers({}, {"size": (0, 10)})


def test_json_beyond_what_python_reads_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" * 50_000)
    with pytest.raises(InputError, match=r"a\.json is nested too deep: run it again\."):
        read_json(path, "run it again")
    path.write_text('{"a": ' + "9" * 5000 + ', "b": 123456789012345678, "c": -1e999}')
    assert read_json(path) == {"a": float("inf"), "b": 123456789012345678, "c": float("-inf")}

"""A PostgreSQL server of the tests' own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server in a temporary folder, by a socket there; its URL without a database.

    It refuses to run as root: then another user of the machine runs it.
    """
    user: str | None = None
    if os.getuid() == 0:
        user = "postgres" if _has_user("postgres") else "nobody"
    root = Path(tempfile.mkdtemp(prefix="station-pg-"))
    if user is not None:
        shutil.chown(root, user)
    data = root / "data"
    try:
        _quietly(["initdb", "-D", str(data), "-U", "station", "--auth=trust", "-N"], user)
        start = ["pg_ctl", "-D", str(data), "-w", "-l", str(root / "log"), "-o",
                 f"-k {root} -c listen_addresses='' -c max_connections=120", "start"]  # fmt: skip
        _quietly(start, user)
        try:
            yield f"postgresql+psycopg://station@/{{}}?host={root}"
        finally:
            _quietly(["pg_ctl", "-D", str(data), "-m", "immediate", "stop"], user)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _quietly(command: list[str], user: str | None) -> None:
    subprocess.run(
        command, user=user, check=True, cwd="/", stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip

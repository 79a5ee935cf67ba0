"""Which database a station's folder belongs to: photographs of another one are never touched.

The database has a random name, and the folder repeats it. A database that does not know the
photographs of a folder would otherwise take all of them for left behind, and put them away.
"""

import secrets
from pathlib import Path

from sqlalchemy import inspect, select

from scene import InputError, atomic_write

from .database import Database, Unavailable
from .settings import StationSettings
from .spool import Spool
from .tables import identities, inspections

_FILE = "database.id"  # in the folder
_AT_ONCE = 500  # keys of one question to the database


def check_owner(settings: StationSettings, database: Database) -> None:
    """Raises InputError, and changes nothing, where the folder belongs to another database.

    A folder without a name is taken over where it holds no photographs, or where the database
    knows one of them: stations of earlier versions had no names.
    """
    owner, keys = _owner(settings.root), Spool(settings.spool, 0, 0).keys()
    if owner is None and not keys:
        return
    if owner is not None:
        is_ours = owner == _identity(database)
    else:
        is_ours = _knows_one(database, sorted(keys))
    if not is_ours:
        url = database.engine.url.render_as_string(hide_password=True)
        database.engine.dispose()
        raise InputError(
            f"--folder: '{settings.root}' belongs to another database than '{url}', which does not "
            "know its photographs: name or restore that database (--database), or choose another "
            "folder with --folder"
        )


def own_folder(settings: StationSettings, database: Database) -> None:
    """Names the database if it has no name, and the folder after it. Raises InputError."""
    try:
        with database.write() as connection:
            name = connection.execute(select(identities.c.name)).scalar()
            if name is None:
                name = secrets.token_hex(16)
                connection.execute(identities.insert().values(id=1, name=name))
    except Unavailable as error:
        raise InputError(f"--database: {error}") from error
    if _owner(settings.root) is None:
        with atomic_write(settings.root / _FILE) as file:
            file.write(f"{name}\n".encode())


def _owner(root: Path) -> str | None:
    try:
        return (root / _FILE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--folder: '{root / _FILE}', which names its database, cannot be read ({error}): "
            "restore it, or choose another folder with --folder"
        ) from error


def _identity(database: Database) -> str | None:
    """The name of a database; None where it has none yet, or is not there yet."""
    if not database.exists():
        return None
    try:
        with database.read() as connection:
            if not inspect(connection).has_table(identities.name):
                return None
            return connection.execute(select(identities.c.name)).scalar()
    except Unavailable as error:
        raise InputError(f"--database: {error}") from error


def _knows_one(database: Database, keys: list[str]) -> bool:
    """Whether one of these inspections is in the database."""
    if not database.exists():
        return False
    try:
        with database.read() as connection:
            if not inspect(connection).has_table(inspections.name):
                return False
            return any(
                connection.execute(
                    select(inspections.c.id)
                    .where(inspections.c.key.in_(keys[at : at + _AT_ONCE])).limit(1)
                ).first() is not None
                for at in range(0, len(keys), _AT_ONCE)
            )  # fmt: skip
    except Unavailable as error:
        raise InputError(f"--database: {error}") from error

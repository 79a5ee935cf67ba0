"""The database: SQLite in the station's folder, or PostgreSQL by URL; its schema by version.

SQLite runs with a write-ahead log and waits for the disk at each commit: what a client was told is
accepted survives a power cut.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from scene import InputError

from .tables import audit, metadata, schema_versions

SCHEMA = 2
# How a database of the version before becomes one of this version: statements, in one transaction.
MIGRATIONS: Mapping[int, Sequence[str]] = MappingProxyType({
    2: ("CREATE TABLE IF NOT EXISTS identities (id INTEGER PRIMARY KEY, "
        "name VARCHAR(32) NOT NULL)",
        "CREATE TABLE IF NOT EXISTS model_troubles (model VARCHAR(64) PRIMARY KEY, "
        "message TEXT NOT NULL, at FLOAT NOT NULL)"),
})  # fmt: skip
_BUSY_SECONDS = 10.0
_log = logging.getLogger(__name__)


class Unavailable(Exception):
    """The database cannot be used now (locked, full, gone); the same request may work later."""


@dataclass(frozen=True)
class Database:
    """Transactions on the station's tables."""

    engine: Engine
    _opened: list[tuple[int, int]] = field(default_factory=list)  # SQLite's file: device, inode

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that is on the disk on return. Raises Unavailable."""
        with self._named(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view that hinders no writer. Raises Unavailable."""
        with self._named(), self.engine.connect() as connection:
            yield connection.execution_options(station_reads=True)

    @contextmanager
    def _named(self) -> Iterator[None]:
        self._check_file()
        try:
            yield
        except OperationalError as error:
            raise Unavailable(f"the database cannot be used: {error.orig}") from error
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise Unavailable(f"the database is gone: {error.orig}") from error

    def _check_file(self) -> None:
        """Raises Unavailable where SQLite's file is not the one that was opened.

        SQLite goes on with a file that was removed, and all that it keeps is lost.
        """
        if self.file is None or not self._opened:
            return
        if _inode(self.file) != self._opened[0]:
            raise Unavailable(
                "the file of the database was removed or replaced while the station runs: put it "
                "back, or stop the station and start it again with a backup"
            )

    def note_file(self) -> None:
        """Keeps which file was opened, the first time."""
        found = None if self.file is None or self._opened else _inode(self.file)
        if found is not None:
            self._opened.append(found)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file beside the photographs."""
        return self.engine.dialect.name == "sqlite"

    @property
    def file(self) -> Path | None:
        """The file of SQLite; None for a server or memory."""
        name = self.engine.url.database
        is_file = self.is_sqlite and name and name != ":memory:" and not name.startswith("file:")
        return Path(name) if name and is_file else None

    def exists(self) -> bool:
        """Whether there is a database already; reading one of SQLite would make it."""
        return self.file is None or self.file.is_file()


def open_database(url: str, busy_seconds: float = _BUSY_SECONDS) -> Database:
    """Connects. Raises InputError for a URL that cannot be used or a missing driver."""
    sqlite = url.startswith("sqlite")
    options: dict[str, Any] = {"connect_args": {"timeout": busy_seconds}} if sqlite else {}
    try:
        engine = create_engine(url, pool_pre_ping=not sqlite, pool_size=10, max_overflow=30,
                               **options)  # fmt: skip
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, TypeError) as error:
        raise InputError(
            f"--database: {error}: give sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME "
            "(pip install psycopg)"
        ) from error
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    database = Database(engine)
    event.listen(engine, "connect", lambda *_: database.note_file())
    return database


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("station_reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def migrate(
    database: Database,
    target: int = SCHEMA,
    migrations: Mapping[int, Sequence[str]] = MIGRATIONS,
) -> None:
    """Makes the tables, or brings those of an older version forward, each version in one step.

    Raises InputError when a newer program made them, or the database cannot be used.
    """
    try:
        with database.write() as connection:
            found = _version(connection)
            if found is None:
                metadata.create_all(connection)
                connection.execute(schema_versions.insert().values(version=target, at=time.time()))
                return
            if found > target:
                raise InputError(
                    f"the station's database has version {found}, this program knows {target}: "
                    "update the program, or name another folder with --folder"
                )
            for version in range(found + 1, target + 1):
                for statement in migrations[version]:
                    connection.execute(text(statement))
                connection.execute(schema_versions.insert().values(version=version, at=time.time()))
                record(connection, "station", "migrated", f"version {version}")
    except Unavailable as error:
        raise InputError(f"--database: {error}") from error


def _version(connection: Connection) -> int | None:
    """That of the newest step; None for a database without our tables."""
    if not inspect(connection).has_table("schema_versions"):
        return None
    return connection.execute(
        select(schema_versions.c.version).order_by(schema_versions.c.version.desc())
    ).scalar()


def record(connection: Connection, who: str, action: str, subject: str, **details: Any) -> None:
    """One line of the audit log, in the transaction of what it tells."""
    connection.execute(audit.insert().values(
        at=time.time(), who=who, action=action, subject=subject, details=details
    ))  # fmt: skip


def patiently(action: Callable[[], Any], seconds: float = 60.0, pause: float = 0.5) -> Any:
    """What an action on the database gives, tried again for a while. Raises Unavailable."""
    end = time.monotonic() + seconds
    while True:
        try:
            return action()
        except Unavailable as error:
            if time.monotonic() > end:
                raise
            _log.warning("%s: tried again", error)
            time.sleep(pause)

"""Who is told of verdicts: result files, a webhook, MQTT. Each is tried until it works.

What is to be told stands in the database from the moment of the verdict on, so that a restart
forgets nothing. Told is at least once: receivers tell repeats by the inspection's key.
"""

import csv
import hashlib
import hmac
import io
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Row, select, update

from pipeline.results import plain_cell
from scene import InputError, append_lines, write_json

from .database import Database, record
from .history import inspection
from .repeated import Repeated
from .settings import StationSettings
from .tables import deliveries, inspections

MOST_ATTEMPTS = 12  # about nine hours
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 3600.0  # seconds between attempts: doubled each time
_TIMEOUT = 10.0  # seconds for a receiver to answer
_EVERY = 0.3  # seconds between looks at what is due
_AT_ONCE = 50
_COLUMNS = (
    "key", "accepted", "finished", "model", "serial", "verdict", "score", "threshold",
    "threshold_version", "photographs", "pose_ok", "error",
)  # fmt: skip
_log = logging.getLogger(__name__)


class Undelivered(Exception):
    """A receiver did not take the message; one sentence."""


def sink_names(settings: StationSettings) -> list[str]:
    """Who is to be told, by the settings."""
    wanted = {"files": settings.results is not None, "webhook": bool(settings.webhook),
              "mqtt": bool(settings.mqtt)}  # fmt: skip
    return [name for name, is_wanted in wanted.items() if is_wanted]


@dataclass
class Courier:
    """Tells the sinks, in a thread of the server."""

    settings: StationSettings
    database: Database
    _written: set[str] = field(default_factory=set)  # keys in today's CSV file
    _written_in: Path | None = None
    _loop: Repeated | None = None

    def start(self) -> None:
        """Starts the thread where there is anyone to tell."""
        if sink_names(self.settings):
            self._loop = Repeated("courier", _EVERY, self.deliver_due)
            self._loop.start()

    def stop(self) -> None:
        """Ends after the message that is under way."""
        if self._loop is not None:
            self._loop.stop()

    def deliver_due(self) -> int:
        """Tries everything whose time has come; how many worked."""
        due = (
            select(deliveries, inspections.c.key)
            .join(inspections, inspections.c.id == deliveries.c.inspection_id)
            .where(deliveries.c.done_at.is_(None), deliveries.c.next_at <= time.time(),
                   deliveries.c.attempts < MOST_ATTEMPTS,
                   deliveries.c.sink.in_(sink_names(self.settings)))
            .order_by(deliveries.c.next_at).limit(_AT_ONCE)
        )  # fmt: skip
        with self.database.read() as connection:
            rows = connection.execute(due).all()
        return sum(
            self._deliver(row) for row in rows if not (self._loop and self._loop.is_stopping)
        )

    def _deliver(self, row: Row) -> bool:
        ways: dict[str, Callable[[dict[str, Any]], None]] = {
            "files": self._to_files, "webhook": self._to_webhook, "mqtt": self._to_mqtt,
        }  # fmt: skip
        document, failure = inspection(self.database, row.key), None
        try:
            ways[row.sink](document)
        except (Undelivered, InputError, OSError) as error:
            failure = str(error)
        now, attempts = time.time(), row.attempts + 1
        pause = min(_FIRST_PAUSE * 2**row.attempts, _LONGEST_PAUSE)
        with self.database.write() as connection:
            connection.execute(
                update(deliveries).where(deliveries.c.id == row.id).values(
                    attempts=attempts, failure=failure, next_at=now + pause,
                    done_at=None if failure else now,
                )
            )  # fmt: skip
            if failure and attempts == MOST_ATTEMPTS:
                record(connection, "station", f"gave up on {row.sink}", row.key, reason=failure)
        if failure:
            _log.warning("%s of %s: %s", row.sink, row.key, failure)
        return failure is None

    def _to_files(self, document: dict[str, Any]) -> None:
        """A JSON file an inspection, a line of the day's CSV file."""
        assert self.settings.results is not None
        day = time.strftime("%Y-%m-%d", time.localtime(document["finished_at"]))
        folder = self.settings.results
        write_json(folder / day / f"{document['key']}.json", document)
        path = folder / f"{day}.csv"
        if path != self._written_in:
            self._written_in, self._written = path, _keys_of(path)
        if document["key"] not in self._written:
            with append_lines(path) as append:
                if path.stat().st_size == 0:
                    append(",".join(_COLUMNS))
                elif not path.read_bytes().endswith(b"\n"):  # a kill cut the last line short
                    append("")
                append(_csv_line(document))
            self._written.add(document["key"])

    def _to_webhook(self, document: dict[str, Any]) -> None:
        """POST of the JSON document, signed over time and body."""
        body = json.dumps(document).encode()
        headers = {"Content-Type": "application/json", "X-SplatPose-Delivery": document["key"]}
        headers |= signature_headers(self.settings.webhook_secret, body, time.time())
        request = urllib.request.Request(self.settings.webhook, body, headers, method="POST")
        opener = urllib.request.build_opener(_NoRedirect)
        try:
            with opener.open(request, timeout=_TIMEOUT) as response:
                response.read(1)
        except urllib.error.HTTPError as error:
            raise Undelivered(f"the webhook answers {error.code}") from error
        except (urllib.error.URLError, TimeoutError) as error:
            raise Undelivered(f"the webhook cannot be reached: {error}") from error

    def _to_mqtt(self, document: dict[str, Any]) -> None:
        """One message with the JSON document, acknowledged by the broker (quality of service 1)."""
        from paho.mqtt import MQTTException, publish

        parts = urlsplit(self.settings.mqtt)
        login: Any = None
        if parts.username:
            login = {"username": parts.username, "password": parts.password or ""}
        try:
            publish.single(
                parts.path.lstrip("/"), json.dumps(document), qos=1, hostname=parts.hostname or "",
                port=parts.port or 1883, auth=login, client_id="", keepalive=int(_TIMEOUT),
            )  # fmt: skip
        except (MQTTException, OSError) as error:
            raise Undelivered(f"the MQTT broker does not take it: {error}") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A signed message goes to the address that was given and to no other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def signature_headers(secret: str, body: bytes, at: float) -> dict[str, str]:
    """What a receiver checks: HMAC-SHA256 of "<seconds>." and the body, with the shared secret."""
    seconds = f"{at:.0f}"
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return {"X-SplatPose-Time": seconds, "X-SplatPose-Signature": f"sha256={digest}"}


def _keys_of(path: Path) -> set[str]:
    """Inspections that stand in a CSV file; a line that was cut short does not count."""
    try:
        whole = path.read_bytes().rpartition(b"\n")[0].decode(errors="replace")
    except FileNotFoundError:
        return set()
    return {line.split(",", 1)[0] for line in whole.splitlines()}


def _csv_line(document: dict[str, Any]) -> str:
    """One inspection; texts that a spreadsheet would take for a formula are quoted."""
    errors = [each["error"] for each in document["photographs"] if each.get("error")]
    poses = [each.get("pose_ok") for each in document["photographs"]]
    values = {
        **document, "accepted": _utc(document["accepted_at"]),
        "finished": _utc(document["finished_at"]), "photographs": document["n_photographs"],
        "pose_ok": all(pose is not False for pose in poses),
        "error": "; ".join(filter(None, [document["error"], *errors])),
    }  # fmt: skip
    text = io.StringIO()
    row = [plain_cell(values[name]) for name in _COLUMNS]
    csv.writer(text, lineterminator="").writerow(
        [cell.replace("\n", " ") if isinstance(cell, str) else cell for cell in row]
    )
    return text.getvalue()


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

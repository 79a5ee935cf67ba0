"""A station of a benchmark or a test: serve.py in a process of its own, and small requests."""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
STARTS_WITHIN = 180.0  # seconds; a busy machine imports slowly


@dataclass
class Reply:
    """What a server answers."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def form(files: Sequence[tuple[str, bytes]], **fields: str) -> tuple[bytes, str]:
    """A multipart form with photographs; body and content type."""
    mark, parts = secrets.token_hex(16), []
    for name, value in fields.items():
        parts.append(f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}')
    body = "\r\n".join(parts).encode() + (b"\r\n" if parts else b"")
    for name, content in files:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        body += (f'--{mark}\r\nContent-Disposition: form-data; name="photographs"; '
                 f'filename="{quoted}"\r\nContent-Type: image/png\r\n\r\n').encode()  # fmt: skip
        body += content + b"\r\n"
    return body + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


@dataclass
class Server:
    """serve.py in a process of its own."""

    model: Path
    folder: Path
    arguments: Sequence[str] = ()
    port: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        """Starts it and waits until it answers."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        command = [sys.executable, "serve.py", "-m", str(self.model), "--folder", str(self.folder),
                   "--port", str(self.port), *self.arguments]  # fmt: skip
        if "--workers" not in self.arguments:
            command += ["--workers", "1", "--threads", "1"]
        self.folder.mkdir(parents=True, exist_ok=True)
        log = open(self.folder.parent / "server.log", "ab")  # noqa: SIM115
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | self.environment
        )
        end = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < end:
            try:
                if self.request("GET", "/health").status in (200, 503):
                    return self
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        raise AssertionError(f"the server does not start: {self.log[-2000:]}")

    @property
    def log(self) -> str:
        return (self.folder.parent / "server.log").read_text(errors="replace")

    def stop(self) -> int:
        """Ends it as a person would; its status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def kill(self) -> None:
        """kill -9 of the server alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        assert self.process is not None
        path = Path(f"/proc/{self.process.pid}/task")
        found = []
        for task in path.iterdir():
            try:
                children = (task / "children").read_text().split()
            except OSError:
                continue
            for pid in map(int, children):
                command = Path(f"/proc/{pid}/cmdline")
                if command.is_file() and b"station.worker" in command.read_bytes():
                    found.append(pid)
        return found

    def kill_worker(self) -> bool:
        """kill -9 of one worker, if one is alive."""
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        reply = self.request("GET", path)
        assert reply.status == 200, reply.body
        return reply.json

    def post(self, path: str, **values: Any) -> Reply:
        headers = {"content-type": "application/json"}
        return self.request("POST", path, json.dumps(values).encode(), headers)

    def inspect(self, *files: Path | tuple[str, bytes], wait: float = 60, **fields: str) -> Reply:
        """Sends photographs of one part."""
        loaded = [f if isinstance(f, tuple) else (f.name, f.read_bytes()) for f in files]
        body, kind = form(loaded, **fields)
        return self.request("POST", f"/api/inspect?wait={wait}", body, {"content-type": kind})

    def all_inspections(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        before = ""
        while True:
            page = self.get(f"/api/inspections?limit=200{before}")
            found += page["inspections"]
            if page["next"] is None:
                return found
            before = f"&before={page['next']}"

    def wait_until_idle(self, seconds: float = 120.0) -> list[dict[str, Any]]:
        """All inspections, when every one has a verdict."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self.get("/api/inspections?verdict=open")["inspections"]:
                return self.all_inspections()
            time.sleep(0.2)
        raise AssertionError("inspections stay open: " + self.log[-2000:])

    def task(self, reply: Reply, seconds: float = 60.0) -> dict[str, Any]:
        """What came of a task that was ordered."""
        assert reply.status == 202, reply.body
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.get(reply.json["links"]["self"])
            if found["state"] == "done":
                return dict(found["outcome"])
            time.sleep(0.1)
        raise AssertionError("the task does not end: " + self.log[-2000:])


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """A server that is ended whatever happens."""
    try:
        yield server.start()
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()

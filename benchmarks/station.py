"""Load and faults of the inspection station, on this machine alone.

    python -m benchmarks.station --model out/brick_dog --images data/brick_dog/test
    python -m benchmarks.station --model ... --images ... --photographs 200 --kills 20

Clients send photographs one after the other and take them up again when the queue is full. With
--kills, a worker or the server is killed (SIGKILL) at random moments and the server started again.
Prints and writes what was lost (nothing must be), what was answered twice (nothing must be),
photographs a second, seconds from acceptance to verdict, and memory over time.
"""

import os
import random
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.common import machine
from scene import InputError, read_queries, write_json

from .station_server import Server, running

_BACK_AFTER = 0.5  # seconds after which a refused photograph is sent again
_MOST = 10_000  # photographs of a run


@dataclass(frozen=True)
class LoadConfig:
    """What is sent, by how many, and what is done to the station meanwhile."""

    model: Path
    """Model folder; only read."""
    images: Path
    """Folder of queries, sent again and again."""
    photographs: int = 1000
    clients: int = 8
    workers: int = 2
    kills: int = 0
    """Random moments at which a worker (two in three) or the server (one in three) is killed."""
    pause: tuple[float, float] = (1.0, 8.0)
    """Seconds between two kills: least, most."""
    seed: int = 0
    database: str = ""
    """As serve.py --database."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """JSON file for the figures."""


@dataclass
class _Load:
    """What the clients share."""

    server: Server
    images: list[tuple[str, bytes]]
    left: int
    accepted: list[str] = field(default_factory=list)
    refused: int = 0
    broken: int = 0  # requests without an answer: the photograph may be accepted or not
    lock: threading.Lock = field(default_factory=threading.Lock)

    def client(self, number: int) -> None:
        """Sends until all are accepted."""
        while True:
            with self.lock:
                if self.left == 0:
                    return
                self.left -= 1
                image = self.images[self.left % len(self.images)]
            while not self._send(image, number):
                time.sleep(_BACK_AFTER)

    def _send(self, image: tuple[str, bytes], number: int) -> bool:
        try:
            reply = self.server.inspect(image, wait=0, serial=f"client {number}")
        except OSError:
            with self.lock:
                self.broken += 1
            return False
        with self.lock:
            if reply.status == 202:
                self.accepted.append(reply.json["key"])
            elif reply.status in (429, 503):
                self.refused += 1
            else:
                raise AssertionError(f"status {reply.status}: {reply.body!r}")
        return reply.status == 202


def load(config: LoadConfig) -> dict[str, Any]:
    """Runs it; the figures. Raises InputError when there is nothing to send."""
    queries = read_queries(config.images)
    if not 0 < config.photographs <= _MOST:
        raise InputError(f"--photographs must be 1 to {_MOST:,}")
    images = [(query.image_path.name, query.image_path.read_bytes()) for query in queries]
    random.Random(config.seed).shuffle(images)
    with tempfile.TemporaryDirectory(prefix="station-load-") as folder:
        arguments = ["--workers", str(config.workers), "--threads", "1", "--max-queue", "40"]
        if config.database:
            arguments += ["--database", config.database]
        server = Server(config.model.resolve(), Path(folder) / "station", arguments)
        with running(server):
            return _run(config, server, images)


def _run(config: LoadConfig, server: Server, images: list[tuple[str, bytes]]) -> dict[str, Any]:
    """The load, the kills, and what came of them."""
    server.inspect(images[0])  # the workers have opened their models
    shared = _Load(server, images, config.photographs)
    started, samples, spent = time.monotonic(), [], _processor_seconds(server)
    threads = [threading.Thread(target=shared.client, args=(n,)) for n in range(config.clients)]
    for thread in threads:
        thread.start()
    killer = threading.Thread(target=_kill, args=(config, server))
    killer.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(2.0)
        samples.append(_memory(server))
    killer.join()
    found = server.wait_until_idle(600)
    seconds = time.monotonic() - started
    spent = _processor_seconds(server) - spent
    return _figures(config, shared, found[:-1], samples, seconds) | {
        "restarts": server.log.count("is replaced"),
        # What a busy machine's clock does not tell; kills take their workers' seconds with them.
        "processor_seconds_per_photograph": None if config.kills else spent / config.photographs,
    }


def _kill(config: LoadConfig, server: Server) -> None:
    """kill -9 at random moments; a dead server is started again."""
    chance = random.Random(config.seed)
    for _ in range(config.kills):
        time.sleep(chance.uniform(*config.pause))
        if chance.random() < 1 / 3:
            server.kill()
            server.start()
        else:
            while not server.kill_worker():
                time.sleep(0.1)


def _processor_seconds(server: Server) -> float:
    """Of the server and its workers until now."""
    assert server.process is not None
    ticks = 0
    for pid in [server.process.pid, *server.workers()]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory(server: Server) -> float:
    """MB of the server and its workers (proportional set size)."""
    assert server.process is not None
    total = 0
    for pid in [server.process.pid, *server.workers()]:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1000


def _figures(
    config: LoadConfig, shared: _Load, found: list[dict[str, Any]], memory: list[float],
    seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """Everything that the run says."""
    by_key: dict[str, int] = {}
    for each in found:
        by_key[each["key"]] = by_key.get(each["key"], 0) + (each["verdict"] is not None)
    took = sorted(each["finished_at"] - each["accepted_at"] for each in found)
    verdicts = [each["verdict"] for each in found]
    tenth = max(1, len(memory) // 10)
    return {
        "photographs": config.photographs, "clients": config.clients, "workers": config.workers,
        "kills": config.kills, "accepted": len(shared.accepted), "inspections": len(found),
        "lost": sum(by_key.get(key, 0) == 0 for key in shared.accepted),
        "doubled": sum(count > 1 for count in by_key.values()),
        "requests_refused": shared.refused, "requests_without_answer": shared.broken,
        "verdicts": {name: verdicts.count(name) for name in sorted(set(verdicts))},
        "photographs_per_second": len(found) / seconds,
        "seconds_to_verdict": {
            "median": statistics.median(took), "p95": took[int(0.95 * (len(took) - 1))],
            "max": took[-1],
        },
        "memory_mb": {
            "first_tenth": statistics.median(memory[:tenth]),
            "last_tenth": statistics.median(memory[-tenth:]), "max": max(memory),
        },
        "seconds": seconds, **machine(config.workers),
    }  # fmt: skip


def main() -> None:
    """Command line."""
    config = tyro.cli(LoadConfig, description=__doc__)
    figures = load(config)
    for name, value in figures.items():
        print(f"{name}: {value}")
    if config.output is not None:
        write_json(config.output, figures)


if __name__ == "__main__":
    main()

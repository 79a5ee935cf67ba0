"""The station's queue and history, on SQLite and on PostgreSQL: kept once, answered once."""

import io
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'station' is not installed here")

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from scene import InputError
from station import history
from station.changes import add_threshold, current_threshold
from station.database import SCHEMA, Database, Unavailable, migrate, open_database
from station.queue import Answer, Order, Queue, Upload, answer, claim, give_back, renew
from station.spool import Refused, Spool
from station.tables import audit, inspections, photographs, verdicts

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 100
LEASE = 30.0


@pytest.fixture
def database(database_url: str) -> Database:
    found = open_database(database_url, busy_seconds=5.0)
    migrate(found)
    return found


@pytest.fixture
def queue(database: Database, tmp_path: Path) -> Queue:
    spool = Spool(tmp_path / "spool", 10_000, 0)
    spool.prepare()
    return Queue(database, spool, 20)


def offer(queue: Queue, *contents: bytes, source_key: str | None = None) -> str | None:
    uploads = [Upload(f"{n}.png", io.BytesIO(content)) for n, content in enumerate(contents)]
    return queue.accept(Order("mug", "A1", "api", source_key), uploads)


def count(database: Database, table: object) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())  # type: ignore[arg-type]


def test_what_is_accepted_is_on_the_disk_and_in_the_database(queue: Queue) -> None:
    key = offer(queue, PNG, PNG + b"1")
    assert key is not None
    assert queue.spool.path(key, 1).read_bytes() == PNG + b"1"
    found = history.inspection(queue.database, key)
    assert [each["size"] for each in found["photographs"]] == [len(PNG), len(PNG) + 1]
    assert found["state"] == "queued"
    assert queue.waiting() == 2


@pytest.mark.parametrize(
    ("content", "status"), [(b"", 422), (b"GET / HTTP", 415), (PNG + b"0" * 10_000, 413)]
)
def test_a_refused_photograph_leaves_nothing(queue: Queue, content: bytes, status: int) -> None:
    with pytest.raises(Refused) as caught:
        offer(queue, PNG, content)
    assert caught.value.status == status
    assert count(queue.database, inspections) == count(queue.database, photographs) == 0
    assert not [path for path in queue.spool.root.rglob("*") if path.is_file()]


def test_a_full_queue_refuses_and_forgets_the_files(queue: Queue) -> None:
    for _ in range(20):
        offer(queue, PNG)
    with pytest.raises(Refused) as caught:
        offer(queue, PNG)
    assert caught.value.status == 429
    assert len([path for path in queue.spool.root.rglob("*") if path.is_file()]) == 20


def test_the_same_source_is_accepted_once(queue: Queue) -> None:
    assert offer(queue, PNG, source_key="a" * 64) is not None
    assert offer(queue, PNG, source_key="a" * 64) is None
    assert count(queue.database, inspections) == 1


def test_two_workers_never_claim_the_same_inspection(queue: Queue) -> None:
    for _ in range(20):
        offer(queue, PNG)
    claimed: list[int] = []
    lock = threading.Lock()

    def work(owner: str) -> None:
        while (job := claim(queue.database, inspections, owner, LEASE)) is not None:
            with lock:
                claimed.append(job.id)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 20


def test_a_lease_that_ran_out_gives_the_inspection_to_another(queue: Queue) -> None:
    offer(queue, PNG)
    first = claim(queue.database, inspections, "dead", -1.0)
    second = claim(queue.database, inspections, "alive", LEASE)
    assert first is not None
    assert second is not None
    assert (second.id, second.attempts) == (first.id, 2)
    assert claim(queue.database, inspections, "third", LEASE) is None


def test_a_sign_of_life_keeps_the_lease(queue: Queue) -> None:
    offer(queue, PNG)
    job = claim(queue.database, inspections, "slow", 0.1)
    assert job is not None
    renew(queue.database, inspections, job.id, "slow", LEASE)
    time.sleep(0.2)
    assert claim(queue.database, inspections, "other", LEASE) is None


def test_the_second_answer_to_an_inspection_changes_nothing(queue: Queue) -> None:
    offer(queue, PNG)
    first = claim(queue.database, inspections, "a", -1.0)
    second = claim(queue.database, inspections, "b", LEASE)
    assert first is not None
    assert second is not None
    assert answer(queue.database, second, "b", Answer("good", {"images": []}, 1.0), ["files"])
    assert not answer(queue.database, first, "a", Answer("defective", {"images": []}), ["files"])
    found = history.inspection(queue.database, first.key)
    assert (found["verdict"], found["score"], found["state"]) == ("good", 1.0, "done")
    assert count(queue.database, verdicts) == 1


def test_given_back_work_keeps_its_place_and_counts_as_told(queue: Queue) -> None:
    keys = [offer(queue, PNG) for _ in range(2)]
    job = claim(queue.database, inspections, "a", LEASE)
    give_back(queue.database, "a", "the disk is full", counts=False)
    again = claim(queue.database, inspections, "b", LEASE)
    assert job is not None
    assert again is not None
    assert (again.key, again.attempts, again.failure) == (keys[0], 1, "the disk is full")


def test_scores_survive_the_database_to_the_bit(queue: Queue) -> None:
    offer(queue, PNG)
    job = claim(queue.database, inspections, "a", LEASE)
    value = 318.2539367675781
    document = {"images": [{"score": value, "pose": [0.1, 1e-300, 5e-324]}]}
    assert job is not None
    answer(queue.database, job, "a", Answer("defective", document, value), [])
    with queue.database.read() as connection:
        row = connection.execute(select(verdicts)).one()
    assert row.score == value
    assert row.document == document


@pytest.mark.parametrize("table", ["audit", "verdicts", "reviews", "thresholds"])
@pytest.mark.parametrize("change", ["UPDATE {} SET id = id + 1", "DELETE FROM {}"])
def test_history_is_only_ever_appended_to(queue: Queue, table: str, change: str) -> None:
    offer(queue, PNG)
    job = claim(queue.database, inspections, "a", LEASE)
    assert job is not None
    answer(queue.database, job, "a", Answer("good", {"images": []}, 1.0), [])
    history.review(queue.database, job.key, "good", "Ann")
    with queue.database.write() as connection:
        add_threshold(connection, "mug", kind="found", snapshot="s", who="Ann")
    before = count(queue.database, audit)
    with (
        pytest.raises(DBAPIError, match="only ever appended"),
        queue.database.write() as connection,
    ):
        connection.execute(text(change.format(table)))
    assert count(queue.database, audit) == before > 0


def test_threshold_versions_count_up_and_the_last_one_counts(database: Database) -> None:
    with database.write() as connection:
        for value in (None, 3.0):
            add_threshold(connection, "mug", kind="chosen", value=value, snapshot="s", who="Ann")
        add_threshold(connection, "valve", kind="found", snapshot="s", who="Ann")
    with database.read() as connection:
        found = current_threshold(connection, "mug")
    assert found is not None
    assert (found.version, found.value, found.who) == (2, 3.0, "Ann")


def test_the_last_word_of_a_review_counts_and_filters_find_it(queue: Queue) -> None:
    keys = [offer(queue, PNG) or "" for _ in range(3)]
    for verdict in ("good", "defective", "unknown"):
        job = claim(queue.database, inspections, "a", LEASE)
        assert job is not None
        answer(queue.database, job, "a", Answer(verdict, {"images": []}, 1.0, 1.1), [])
    for said in ("defective", "good"):
        history.review(queue.database, keys[1], said, "Ann")
    listed = history.page(queue.database, history.Filter(review="good"))["inspections"]
    assert [each["key"] for each in listed] == [keys[1]]
    doubtful = history.review_queue(queue.database, "mug")
    assert [each["key"] for each in doubtful] == [keys[2], keys[0]]
    pages, before = [], None
    while True:
        found = history.page(queue.database, history.Filter(), before, 2)
        pages += [each["key"] for each in found["inspections"]]
        before = found["next"]
        if before is None:
            break
    assert pages == keys[::-1]


def test_an_older_schema_is_brought_forward_once_and_a_newer_one_is_refused(
    database: Database,
) -> None:
    newer = SCHEMA + 1
    steps = {newer: ["ALTER TABLE inspections ADD COLUMN line VARCHAR(20)"]}
    migrate(database, newer, steps)
    migrate(database, newer, steps)
    with database.read() as connection:
        versions = connection.execute(text("SELECT version FROM schema_versions")).scalars()
        assert sorted(versions) == [SCHEMA, newer]
        connection.execute(text("SELECT line FROM inspections"))
    with pytest.raises(InputError, match="update the program"):
        migrate(database)


def test_a_migration_that_fails_changes_nothing(database: Database) -> None:
    newer = SCHEMA + 1
    steps = {newer: ["ALTER TABLE inspections ADD COLUMN line VARCHAR(20)", "DROP TABLE nowhere"]}
    with pytest.raises((DBAPIError, InputError)):
        migrate(database, newer, steps)
    with database.read() as connection:
        found = connection.execute(text("SELECT max(version) FROM schema_versions")).scalar()
    assert found == SCHEMA
    with pytest.raises((DBAPIError, Unavailable)), database.read() as connection:
        connection.execute(text("SELECT line FROM inspections"))


def test_a_locked_database_is_named_and_nothing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "station.db"
    database = open_database(f"sqlite:///{path}", busy_seconds=0.2)
    migrate(database)
    spool = Spool(tmp_path / "spool", 10_000, 0)
    spool.prepare()
    queue = Queue(database, spool, 20)
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unavailable, match="locked"):
        offer(queue, PNG)
    assert not [found for found in spool.root.rglob("*") if found.is_file()]
    other.rollback()
    assert offer(queue, PNG) is not None


def test_a_url_that_is_none_is_one_sentence() -> None:
    with pytest.raises(InputError, match="--database"):
        open_database("nonsense://x")


def test_what_was_never_accepted_is_put_aside_and_the_rest_is_not(
    queue: Queue, tmp_path: Path
) -> None:
    key = offer(queue, PNG)
    assert key is not None
    kept, stray = queue.spool.path(key, 0), queue.spool.path("f" * 32, 0)
    half = stray.with_name(f".{stray.name}.half")
    for path in (stray, half):
        path.write_bytes(PNG)
    for path in (kept, stray, half):
        os.utime(path, (1.0, 1.0))
    assert queue.spool.sweep({key}, tmp_path / "aside") == 1
    assert kept.is_file()
    assert not stray.exists()
    assert not half.exists()
    assert (tmp_path / "aside" / stray.name).read_bytes() == PNG
    with pytest.raises(ValueError, match="key"):
        queue.spool.path("../../etc/passwd", 0)

"""The station's tables. History is only added to: triggers refuse changes of what was said."""

from sqlalchemy import (
    DDL,
    JSON,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
)

metadata = MetaData()

schema_versions = Table(
    "schema_versions", metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
)  # fmt: skip

identities = Table(  # of this database: one row, which the station's folder repeats
    "identities", metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # 1
    Column("name", String(32), nullable=False),  # random
)  # fmt: skip

model_troubles = Table(  # models that a worker cannot open now
    "model_troubles", metadata,
    Column("model", String(64), primary_key=True),
    Column("message", Text, nullable=False),
    Column("at", Float, nullable=False),
)  # fmt: skip

inspections = Table(
    "inspections", metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(32), nullable=False, unique=True),  # random, in addresses
    Column("model", String(64), nullable=False),
    Column("serial", String(200)),  # of the part
    Column("source", String(20), nullable=False),  # api, page or watch
    Column("source_key", String(64), unique=True),  # what makes a watched part be inspected once
    Column("n_photographs", Integer, nullable=False),  # of photographs
    Column("accepted_at", Float, nullable=False),  # seconds since 1970
    Column("state", String(10), nullable=False),  # queued, running, done
    Column("attempts", Integer, nullable=False, default=0),
    Column("owner", String(32)),  # the worker
    Column("started_at", Float),
    Column("lease_until", Float),
    Column("progress", String(200)),
    Column("failure", Text),  # what ended the last attempt
    Index("ix_inspections_state", "state", "id"),
    Index("ix_inspections_model", "model", "id"),
    sqlite_autoincrement=True,
)  # fmt: skip

photographs = Table(
    "photographs", metadata,
    Column("id", Integer, primary_key=True),
    Column("inspection_id", ForeignKey("inspections.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("name", String(300), nullable=False),  # as the client calls it; never a path here
    Column("sha256", String(64), nullable=False),
    Column("size", Integer, nullable=False),  # bytes
    Column("removed_at", Float),  # by retention
    UniqueConstraint("inspection_id", "number"),
)  # fmt: skip

verdicts = Table(
    "verdicts", metadata,
    Column("id", Integer, primary_key=True),
    Column("inspection_id", ForeignKey("inspections.id"), nullable=False, unique=True),
    Column("verdict", String(10), nullable=False),  # good, defective, unknown, error
    Column("score", Float),
    Column("threshold", Float),
    Column("threshold_version", Integer),
    Column("model_hash", String(64)),
    Column("pose_loss", Float),
    Column("exposure", Float),  # brightness against the model's rendering
    Column("document", JSON, nullable=False),  # entries as in results.json
    Column("seconds", Float, nullable=False),
    Column("worker", String(32), nullable=False),
    Column("finished_at", Float, nullable=False),
    Index("ix_verdicts_verdict", "verdict", "id"),
    sqlite_autoincrement=True,
)  # fmt: skip

reviews = Table(
    "reviews", metadata,
    Column("id", Integer, primary_key=True),
    Column("inspection_id", ForeignKey("inspections.id"), nullable=False, index=True),
    Column("answer", String(10), nullable=False),  # good, defective, unsure; the last one counts
    Column("who", String(100), nullable=False),
    Column("at", Float, nullable=False),
    sqlite_autoincrement=True,
)  # fmt: skip

thresholds = Table(
    "thresholds", metadata,
    Column("id", Integer, primary_key=True),
    Column("model", String(64), nullable=False),
    Column("version", Integer, nullable=False),  # the highest counts
    Column("kind", String(20), nullable=False),  # found, chosen, recalibrated, restored
    Column("value", Float),  # chosen by a person; None: that of the calibration
    Column("rate", Float),  # false alarms that the chosen value amounts to
    Column("snapshot", String(40), nullable=False),  # folder of its calibration files
    Column("details", JSON, nullable=False),
    Column("who", String(100), nullable=False),
    Column("at", Float, nullable=False),
    UniqueConstraint("model", "version"),
    sqlite_autoincrement=True,
)  # fmt: skip

tasks = Table(
    "tasks", metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(32), nullable=False, unique=True),
    Column("kind", String(20), nullable=False),  # recalibrate, restore, paint, erase
    Column("model", String(64), nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("who", String(100), nullable=False),
    Column("accepted_at", Float, nullable=False),
    Column("state", String(10), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("owner", String(32)),
    Column("started_at", Float),
    Column("lease_until", Float),
    Column("progress", String(200)),
    Column("failure", Text),
    Column("outcome", JSON),  # {"ok": bool, "message": str}
    sqlite_autoincrement=True,
)  # fmt: skip

deliveries = Table(
    "deliveries", metadata,
    Column("id", Integer, primary_key=True),
    Column("inspection_id", ForeignKey("inspections.id"), nullable=False),
    Column("sink", String(20), nullable=False),  # files, webhook, mqtt
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_at", Float, nullable=False),
    Column("done_at", Float),
    Column("failure", Text),
    UniqueConstraint("inspection_id", "sink"),
    Index("ix_deliveries_open", "done_at", "next_at"),
)  # fmt: skip

audit = Table(
    "audit", metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("who", String(100), nullable=False),
    Column("action", String(40), nullable=False),
    Column("subject", String(200), nullable=False),  # an inspection's key, or a model
    Column("details", JSON, nullable=False),
    sqlite_autoincrement=True,
)  # fmt: skip

APPEND_ONLY = (audit, verdicts, reviews, thresholds)

_REFUSE = """CREATE OR REPLACE FUNCTION station_append_only() RETURNS trigger AS $$
BEGIN RAISE EXCEPTION '% is only ever appended to', TG_TABLE_NAME; END $$ LANGUAGE plpgsql"""

event.listen(metadata, "before_create", DDL(_REFUSE.replace("%", "%%")).execute_if(
    dialect="postgresql"))  # fmt: skip
for _table in APPEND_ONLY:
    for _what in ("UPDATE", "DELETE"):
        event.listen(_table, "after_create", DDL(
            f"CREATE TRIGGER {_table.name}_no_{_what.lower()} BEFORE {_what} ON {_table.name} "
            f"BEGIN SELECT RAISE(ABORT, '{_table.name} is only ever appended to'); END"
        ).execute_if(dialect="sqlite"))  # fmt: skip
    event.listen(_table, "after_create", DDL(
        f"CREATE TRIGGER {_table.name}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON "
        f"{_table.name} FOR EACH STATEMENT EXECUTE FUNCTION station_append_only()"
    ).execute_if(dialect="postgresql"))  # fmt: skip

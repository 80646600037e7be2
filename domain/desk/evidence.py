"""The samples a verdict rests on: kept as rows while a run is measured, then compressed, hashed and sealed for ever."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import delete
from sqlalchemy.orm import Session

from domain.clock import to_ms
from domain.readings import Reading
from domain.store.queries import evidence as query
from domain.store.tables import EvidenceSample, TestRun, VerdictRow
from domain.verdicts import Verdict

SKEW_MS = 30_000
"""A constant difference of device and receive time from here on means: the receive time is used (equipment.md §7.0)."""


def append(session: Session, run: TestRun, readings: Iterable[Reading], now: datetime) -> int:
    """Add the readings of ``run.serial`` that belong to the run; returns how many were new. Redelivery adds nothing."""
    started_ms = to_ms(run.started_at)
    fresh: dict[str, EvidenceSample] = {}
    for reading in readings:
        placed = _on_our_clock(run, reading)
        received_before = not reading.backfill and reading.recv_ms is not None and reading.recv_ms < started_ms
        if placed.ts < started_ms or received_before:
            continue
        body = to_body(placed)
        fresh[_identity(reading, body)] = EvidenceSample(run_id=run.id, identity="", ts_ms=placed.ts, body=body)
    known = query.known_identities(session, run.id, list(fresh))
    for identity, sample in fresh.items():
        if identity not in known:
            sample.identity = identity
            session.add(sample)
            run.samples += 1
            run.last_sample_at = now
    return len(fresh.keys() - known)


def _on_our_clock(run: TestRun, reading: Reading) -> Reading:
    """A constant skew ≥ 30 s is taken off; a jump is remembered on the run, which then cannot pass."""
    if reading.recv_ms is None or reading.backfill:
        skew = run.clock_skew_ms or 0
        return dataclasses.replace(reading, ts=reading.ts + skew) if skew else reading
    difference = reading.recv_ms - reading.ts
    if run.clock_skew_ms is None:
        run.clock_skew_ms = difference if abs(difference) >= SKEW_MS else 0
    if abs(difference - run.clock_skew_ms) >= SKEW_MS:
        run.clock_jumped = True
    return dataclasses.replace(reading, ts=reading.recv_ms) if run.clock_skew_ms else reading


def _identity(reading: Reading, body: dict[str, Any]) -> str:
    if reading.seq is not None:
        return f"{reading.boot or ''}:{reading.seq}"
    return f"{reading.ts}:{zlib.crc32(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)):08x}"


def to_body(reading: Reading) -> dict[str, Any]:
    """A reading as it is kept: short keys, nothing that repeats the run's own columns."""
    body: dict[str, Any] = {"ts": reading.ts, "values": dict(reading.values)}
    if reading.boot is not None:
        body["boot"] = reading.boot
    if reading.seq is not None:
        body["seq"] = reading.seq
    if reading.rejected:
        body["rejected"] = dict(reading.rejected)
    if reading.backfill:
        body["backfill"] = True
    if reading.simulated:
        body["simulated"] = True
    return body


def from_body(body: dict[str, Any], *, serial: str, equipment_type: str) -> Reading:
    """The reading that was kept as ``body``."""
    return Reading(
        serial=serial,
        type=equipment_type,
        ts=body["ts"],
        values={
            k: float(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in body["values"].items()
        },
        boot=body.get("boot"),
        seq=body.get("seq"),
        rejected=body.get("rejected", {}),
        backfill=body.get("backfill", False),
        simulated=body.get("simulated", False),
    )


def samples(session: Session, run: TestRun) -> list[Reading]:
    """The samples of a run, by device time: live rows, or the sealed evidence after the verdict."""
    sealed = session.get(VerdictRow, run.id)
    bodies = unpack(sealed.evidence) if sealed else query.bodies(session, run.id)
    return [from_body(body, serial=run.serial, equipment_type=run.card["type"]) for body in bodies]


def pack(bodies: Sequence[dict[str, Any]]) -> tuple[bytes, str]:
    """Compressed JSON lines, and the SHA-256 of the uncompressed lines."""
    lines = b"\n".join(orjson.dumps(body, option=orjson.OPT_SORT_KEYS) for body in bodies)
    return zlib.compress(lines, 9), hashlib.sha256(lines).hexdigest()


def unpack(blob: bytes) -> list[dict[str, Any]]:
    """The bodies that :func:`pack` kept."""
    lines = zlib.decompress(blob)
    return [orjson.loads(line) for line in lines.split(b"\n") if line]


def intact(row: VerdictRow) -> bool:
    """Whether the evidence still is what was sealed."""
    return hashlib.sha256(zlib.decompress(row.evidence)).hexdigest() == row.evidence_sha256


def seal(session: Session, run: TestRun, verdict: Verdict, now: datetime) -> VerdictRow:
    """Record the verdict once, with its evidence; the live rows are folded into it."""
    session.flush()
    bodies = query.bodies(session, run.id)
    blob, digest = pack(bodies)
    run.outcome, run.decided_at, run.progress = verdict.outcome.value, now, verdict_body(verdict)
    row = VerdictRow(
        run_id=run.id,
        outcome=verdict.outcome.value,
        recorded_at=now,
        body=verdict_body(verdict),
        evidence=blob,
        evidence_sha256=digest,
        evidence_samples=len(bodies),
    )
    session.add(row)
    session.execute(delete(EvidenceSample).where(EvidenceSample.run_id == run.id))
    return row


def verdict_body(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON values."""
    body: dict[str, Any] = orjson.loads(orjson.dumps(dataclasses.asdict(verdict)))
    return body

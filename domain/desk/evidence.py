"""The samples a verdict rests on: kept as rows while a run is measured, then compressed, hashed and sealed for ever."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
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
"""From here on a constant difference is the clock's error (equipment.md §7.0)."""
STEADY_MS = 60_000
"""So long it must have lasted, by time of receipt: a backlog comes all at once, and its age is no clock's error (EJ)."""


def append(session: Session, run: TestRun, readings: Iterable[Reading], now: datetime) -> int:
    """Keep the readings of ``run.serial`` that came after the run began; returns how many were new. Redelivery adds nothing.

    What was measured before the run and came late is kept too: :func:`samples` leaves it out when the machine's clock is known.
    """
    started_ms = to_ms(run.started_at)
    fresh: dict[str, EvidenceSample] = {}
    for reading in readings:
        if (reading.ts if reading.recv_ms is None else reading.recv_ms) < started_ms:
            continue
        body = to_body(reading)
        identity = _identity(body)
        fresh.setdefault(identity, EvidenceSample(run_id=run.id, identity=identity, ts_ms=body["ts"], body=body))
    known = query.known_identities(session, run.id, list(fresh))
    new = [sample for identity, sample in fresh.items() if identity not in known]
    if new:
        session.add_all(new)
        run.samples += len(new)
        run.last_sample_at = now
    return len(new)


def _identity(body: Mapping[str, Any]) -> str:
    if "seq" in body:
        return f"{body.get('boot', '')}:{body['seq']}"
    said = {key: value for key, value in body.items() if key != "recv"}  # a redelivery comes at another time
    return f"{body['ts']}:{zlib.crc32(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)):08x}"


def to_body(reading: Reading) -> dict[str, Any]:
    """A reading as it is kept: short keys, nothing that the run says itself; ``ts`` is what the machine's clock said."""
    body: dict[str, Any] = {
        "ts": reading.ts if reading.device_ts is None else reading.device_ts,
        "values": dict(reading.values),
        "recv": reading.recv_ms,
        "boot": reading.boot,
        "seq": reading.seq,
        "rejected": dict(reading.rejected) or None,
        "backfill": reading.backfill or None,
        "simulated": reading.simulated or None,
    }
    return {key: value for key, value in body.items() if value is not None}


def from_body(body: Mapping[str, Any], *, serial: str, equipment_type: str) -> Reading:
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
        recv_ms=body.get("recv"),
    )


def samples(session: Session, run: TestRun) -> list[Reading]:
    """The samples of a run from its beginning on: live rows, or the sealed evidence after the verdict; the same at any time.

    What was measured before the repair proves nothing of it, however late it came.
    """
    sealed = session.get(VerdictRow, run.id)
    known = terms(run, sealed)
    bodies = unpack(sealed.evidence) if sealed else query.bodies(session, run.id)
    began = to_ms(datetime.fromisoformat(known["started_at"])) - _clock_error(bodies)
    return [
        from_body(body, serial=run.serial, equipment_type=known["card"]["type"])
        for body in bodies
        if body["ts"] >= began
    ]


def terms(run: TestRun, sealed: VerdictRow | None) -> dict[str, Any]:
    """By what a run is judged, as JSON values: what was sealed with its verdict, before that what the run says.

    Keys: plan, card, original_rule, entries, target_l (litres or None), demo_site, started_at (ISO time).
    """
    if sealed is not None:
        kept: dict[str, Any] = sealed.body["run"]
        return kept
    return {
        "plan": run.plan,
        "card": run.card,
        "original_rule": run.original_rule,
        "entries": run.entries,
        "target_l": run.target_l,
        "demo_site": run.demo_site,
        "started_at": run.started_at.astimezone(UTC).isoformat(),
    }


def _clock_error(bodies: Iterable[Mapping[str, Any]]) -> int:
    """By how many ms the machine's clock is slow; 0 where that cannot be told from samples that waited somewhere.

    What a machine sends may come late (a queue, a restart) but never early: the least lateness is the clock's, if it lasts.
    """
    received = [
        (body["recv"], body["recv"] - body["ts"]) for body in bodies if "recv" in body and "backfill" not in body
    ]
    least = min((late for _, late in received), default=0)
    prompt = [recv for recv, late in received if late <= least + SKEW_MS]
    return least if abs(least) >= SKEW_MS and max(prompt) - min(prompt) >= STEADY_MS else 0


def pack(bodies: Sequence[dict[str, Any]]) -> bytes:
    """Compressed JSON lines."""
    return zlib.compress(b"\n".join(orjson.dumps(body, option=orjson.OPT_SORT_KEYS) for body in bodies), 9)


def unpack(blob: bytes) -> list[dict[str, Any]]:
    """The bodies that :func:`pack` kept."""
    lines = zlib.decompress(blob)
    return [orjson.loads(line) for line in lines.split(b"\n") if line]


def digest(body: Mapping[str, Any], blob: bytes) -> str:
    """SHA-256 of the verdict with the terms of its run, as one JSON line with sorted keys, and of the evidence's lines."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS) + b"\n" + zlib.decompress(blob)).hexdigest()


def intact(row: VerdictRow) -> bool:
    """Whether verdict, terms and evidence still are what was sealed."""
    return row.outcome == row.body["outcome"] and digest(row.body, row.evidence) == row.evidence_sha256


def seal(session: Session, run: TestRun, verdict: Verdict, now: datetime) -> VerdictRow:
    """Record the verdict once, with its evidence and by what it was judged; the live rows are folded into it."""
    session.flush()
    bodies = query.bodies(session, run.id)
    blob, said = pack(bodies), verdict_body(verdict)
    body = {**said, "run": terms(run, None)}
    run.outcome, run.decided_at, run.progress = verdict.outcome.value, now, said
    row = VerdictRow(
        run_id=run.id,
        outcome=verdict.outcome.value,
        recorded_at=now,
        body=body,
        evidence=blob,
        evidence_sha256=digest(body, blob),
        evidence_samples=len(bodies),
    )
    session.add(row)
    session.execute(delete(EvidenceSample).where(EvidenceSample.run_id == run.id))
    return row


def verdict_body(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON values."""
    body: dict[str, Any] = orjson.loads(orjson.dumps(dataclasses.asdict(verdict)))
    return body

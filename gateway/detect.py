"""From the spool to tickets: decode, fold, and commit in one transaction what follows, with the *detected* cursor.

The cursor moves only together with the rule states of its position. After a crash everything behind it is folded again; its
effects are known by their keys (episode, sample identity, place in the spool), so nothing doubles.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import chain

import structlog
from sqlalchemy.orm import Session

from domain.clock import SystemClock
from domain.desk.intake import record_findings
from domain.desk.verification import append_samples, measured_serials
from domain.errors import UnavailableError
from domain.findings import Finding
from domain.readings import Reading
from domain.store import ingest as store
from domain.store.ingest import Held
from domain.store.session import Sessions
from domain.strangers import Stranger
from gateway.core import library as core
from gateway.ingest import quarantine
from gateway.ingest.decode import Decoder
from gateway.ingest.guard import Guard
from gateway.ingest.spool import READ_BYTES, Chunk, Spool, body_at
from gateway.leases import Leases
from gateway.machines import Machines
from gateway.messages import Birth, Decoded, Message, Quarantined, Reason, Registry, Reply, Status
from gateway.samples import RAW_BYTES

SNAPSHOT_S = 5.0
"""How often the cursor and the rule states are kept, at least; bounds what is folded again after a crash."""
PENDING_READINGS = 20_000
"""So many readings, or messages for the quarantine, wait for SQL in memory; more stay in the spool."""
AT_ONCE = 500
"""So many findings are committed, or machines borrowed from the compiled core, at once: a broker that was away for long makes
ten thousand machines fall silent in one tick."""
PENDING_BYTES = 256 << 20
"""So much of the spool is folded before SQL has taken the consequences."""

Effect = Callable[[Session], object]

log = structlog.get_logger()


@dataclass(slots=True)
class Effects:
    """What the messages since the last commit brought about. ``readings`` are those that Python has decoded; of what the compiled
    core has folded since ``position`` the evidence is read from the spool once more, if a test run is being measured."""

    position: int

    findings: list[Finding] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    given_up: int = 0
    """Of ``held``, found at the commit: what the quarantine had no room for."""


class Detection:
    """Reads the spool, feeds the machines' rules, writes what follows. Belongs to one thread."""

    def __init__(
        self,
        leases: Leases,
        spool: Spool,
        decoder: Decoder,
        sessions: Sessions,
        machines: Machines,
        guard: Guard,
        at_the_door: Guard,
    ) -> None:
        """``guard`` notes places in the spool, ``at_the_door`` rows of the quarantine."""
        self.position = spool.start
        """The *folded* position; the committed one is in SQL."""
        self.committed = spool.start
        self.decoded = 0
        """Objects that could be used."""
        self.quarantined: Counter[str] = Counter()
        self.rule_events: Counter[str] = Counter()
        self.given_up = 0
        """Objects that no quarantine had room for."""
        self._guard, self._at_the_door = guard, at_the_door
        self._leases, self._spool, self._decoder, self._sessions = leases, spool, decoder, sessions
        self._machines = machines
        self._effects = Effects(self.position)
        self._rearmed: set[tuple[str, datetime]] = set()
        self._time = SystemClock().monotonic
        self._snapshot_at = self._time() + SNAPSHOT_S

    def load(self) -> datetime | None:
        """Take up cursor and rule states; returns when they were kept. Raises UnavailableError."""
        at = self.seek()
        with self._sessions.read() as session:
            self._machines.restore(store.detector_dumps(session, self._machines.registry.units))
        return at

    def seek(self) -> datetime | None:
        """Take up the cursor alone; returns when it was kept. Raises UnavailableError."""
        with self._sessions.read() as session:
            position, at = store.cursor(session, self._spool.id)
        self.position = self.committed = max(self._spool.start, min(position, self._spool.end))
        self._effects = Effects(self.position)
        return at

    @property
    def caught_up(self) -> bool:
        """Whether everything durable has been folded."""
        return self.position >= self._spool.end

    @property
    def urgent(self) -> bool:
        """Whether something waits that people or machines wait for."""
        return bool(self._effects.findings or self._effects.replies)

    def step(self, max_bytes: int = READ_BYTES) -> bool:
        """Fold one chunk; False where there was none, or while too much waits for SQL."""
        waiting = max(len(self._effects.readings), len(self._effects.held))
        if waiting >= PENDING_READINGS or self.position - self._effects.position >= PENDING_BYTES:
            return False
        if self._machines.compiled and not self._guard.careful(self.position):
            begin, buffer = self._spool.read_raw(self.position, max_bytes)
            if buffer and self._fold_ordinary(begin, buffer):
                return True
        chunk = self._spool.read(self.position, max_bytes)
        for position, span in chunk.damaged:
            self._hold_damaged(position, span, chunk)
        for position, record in self._guard.through(chunk, self._leave_out):
            self._fold_here(position, record)
        self._machines.settle()
        self._guard.leave(chunk.end)
        moved, self.position = chunk.end > self.position, max(self.position, chunk.end)
        return moved

    def _fold_ordinary(self, begin: int, buffer: bytes) -> bool:
        """Let the compiled core fold what it can of ``buffer``, and the rest here; False where nothing in it is whole."""
        self._guard.enter(begin + len(buffer))
        folded = self._machines.take(buffer)
        for nth, (at, done) in enumerate(folded.odd, start=1):
            self._fold_here(begin + at, body_at(buffer, at), done)
            if nth % AT_ONCE == 0:
                self._machines.settle()
                self._leases.keep()
        self._machines.settle()
        self._guard.leave(begin + len(buffer))
        self.decoded += folded.samples
        if folded.consumed:
            self.position = begin + folded.consumed
        return folded.consumed > 0

    def _fold_here(self, position: int, record: bytes, done: int = 0) -> None:
        """One message, of which the first ``done`` samples are folded already."""
        message, unusable = Message.unpack(record), self.quarantined.total()
        if message.folded:
            return
        said = self._decoder.decode(message)[done:]
        for decoded in said:
            self._take(position, message, decoded)
        self.decoded += max(0, len(said) - (self.quarantined.total() - unusable))

    @property
    def unknown_keys(self) -> int:
        """Values under keys that no channel has; they are left out, and nothing else is said of them."""
        return self._decoder.strangers.total() + self._machines.unknown_keys

    @property
    def strangers(self) -> set[Stranger]:
        """Who was unknown in what waits to be committed."""
        return {held.stranger for held in self._effects.held if held.stranger is not None}

    def admit(
        self,
        held: Sequence[tuple[int, Message]],
        registry: Registry,
        now: datetime,
        settle: Callable[[Session], None],
    ) -> None:
        """Fold what was held of a machine, in the order in which it came, and commit it together with ``settle``.

        Raises UnavailableError: then the same is to be done again; folding it twice changes nothing.
        """
        outside, self._decoder.registry = self._decoder.registry, registry
        chunk = Chunk([(number, message.pack()) for number, message in held], max(number for number, _ in held) + 1)
        try:
            for number, record in self._at_the_door.through(chunk, self._leave_out_held):
                message = Message.unpack(record)
                for decoded in self._decoder.decode(message):
                    self._take(_row(number), message, _known(decoded))
        finally:
            self._decoder.registry = outside
            self._machines.settle()
        self._at_the_door.leave(chunk.end)
        self.flush(now, snapshot=True, settle=settle)

    def silence(self, now: datetime, listening_since: datetime | None) -> None:
        """Let the rules notice who is silent; not while there is a backlog."""
        if self.caught_up:
            self._found(self._machines.silent(now, listening_since, between=self._leases.keep))

    def rearm(self, since: datetime) -> None:
        """Close the episodes of machines whose repair was verified after ``since``, once for each of their verdicts."""
        with self._sessions.read() as session:
            verified = set(store.verified_after(session, since))
        for serial, at in sorted(verified - self._rearmed):
            self._found(self._machines.rearm(serial, at))
        self._rearmed = verified

    def flush(self, now: datetime, *, snapshot: bool = False, settle: Callable[[Session], None] | None = None) -> None:
        """Commit what waits, and ``settle``; with ``snapshot``, or when it is time, with cursor and rule states.

        Raises UnavailableError: then everything waits on. An effect that breaks its command is put into quarantine, so that
        it cannot hold up the others. Findings beyond ``AT_ONCE`` are committed before: they are known by their episodes, should
        the cursor not follow.
        """
        while len(self._effects.findings) > AT_ONCE:
            some = Effects(self.position, findings=self._effects.findings[:AT_ONCE])
            self._commit(some, now, self._leases.check)
            del self._effects.findings[:AT_ONCE]
            self._leases.keep()
        snapshot = snapshot or self._time() >= self._snapshot_at
        moved = snapshot and (self.position != self.committed or self._machines.changed)
        self._machines.listen()
        seen = dict(self._machines.seen)
        if not (moved or seen or self._waiting() or settle):
            return
        dumps = self._machines.dumps() if moved else {}
        place = self._place(self.position)

        def keep(session: Session) -> None:
            self._leases.check(session)
            store.save_seen(session, seen)
            if settle is not None:
                settle(session)
            if moved:
                for some in chain((dumps,), self._machines.memories()):
                    store.save_dumps(session, place, some)
                store.save_cursor(session, self._spool.id, self.position, now)

        self._commit(self._effects, now, keep)
        self._give_up(self._effects.given_up)
        self._effects = Effects(self.position)
        self._machines.seen.clear()
        if moved:
            self._machines.kept(dumps)
            self.committed = self.position
            self._snapshot_at = self._time() + SNAPSHOT_S

    def _take(self, position: int | str, message: Message, decoded: Decoded) -> None:
        if isinstance(decoded, Reading):
            try:
                findings = self._machines.fold(decoded)
            except Exception as error:  # one machine's poison must not stop the others
                log.exception("rule_failed", serial=decoded.serial)
                broken = Quarantined(
                    Reason.INTERNAL, f"{type(error).__name__}: {error}", message.payload[:RAW_BYTES], decoded.serial
                )
                self._hold(position, message, broken)
                return
            if findings:
                self._found(findings)
            self._effects.readings.append(_as_the_machine_said(decoded))
        elif isinstance(decoded, Reply):
            self._effects.replies.append(decoded)
        elif isinstance(decoded, Quarantined):
            self._hold(position, message, decoded)
        else:
            assert isinstance(decoded, (Birth, Status))
            self._machines.told(decoded)

    def _found(self, findings: Sequence[Finding]) -> None:
        self._effects.findings.extend(findings)
        self.rule_events.update("raised" if finding.cleared_at is None else "cleared" for finding in findings)

    def _leave_out_held(self, number: int, record: bytes) -> None:
        self._leave_out(_row(number), record)

    def _leave_out(self, position: int | str, record: bytes) -> None:
        """A record that has killed the gateway twice: people may look at it; the cursor passes it for good."""
        message = Message.unpack(record)
        log.error("record_left_out", position=position, bytes=len(record))
        why = "the gateway died twice at this record"
        self._hold(position, message, Quarantined(Reason.INTERNAL, why, message.payload[:RAW_BYTES]))
        self._snapshot_at = self._time()

    def _give_up(self, count: int) -> None:
        if count and not self.given_up:
            log.error("quarantine_full", cure="brewair quarantine list; drop, or replay")
        self.given_up += count

    def _hold_damaged(self, position: int, span: bytes, chunk: Chunk) -> None:
        """What lies where there should be a record, for people: it was received about when what lies beside it was."""
        log.error("record_damaged", position=position, bytes=len(span))
        recv_ms = Message.unpack(chunk.records[0][1]).recv_ms if chunk.records else self._machines.watermark_ms
        why = f"{len(span)} bytes of the spool are damaged: its disk wants looking at"
        self._hold(position, Message("", b"", recv_ms), Quarantined(Reason.DAMAGED, why, span[:RAW_BYTES]))

    def _hold(self, position: int | str, message: Message, item: Quarantined) -> None:
        self.quarantined[item.reason.value] += 1
        self._effects.held.append(quarantine.of_message(self._place(position), message, item))

    def _place(self, position: int | str) -> str:
        return position if isinstance(position, str) else quarantine.place(self._spool.id, position)

    def _waiting(self) -> bool:
        effects = self._effects
        return bool(effects.findings or effects.readings or effects.replies or effects.held)

    def _commit(self, effects: Effects, now: datetime, keep: Callable[[Session], None]) -> None:
        """One transaction; tried twice, as somebody may have been faster, then effect by effect."""
        for attempt in (1, 2):
            try:
                with self._sessions.command() as session:
                    for _, effect in self._together(effects, now):
                        effect(session)
                    keep(session)
                return
            except UnavailableError:
                raise
            except Exception:
                log.warning("commit_failed", attempt=attempt, exc_info=attempt == 2)
        with self._sessions.command() as session:
            every = self._one_by_one(effects, now, measured_serials(session))
            broken = [held for label, effect in every if (held := _alone(session, label, effect, now))]
            store.hold(session, broken)
            keep(session)

    def _together(self, effects: Effects, now: datetime) -> Iterator[tuple[str, Effect]]:
        if effects.findings:
            yield "findings", partial(record_findings, findings=effects.findings, now=now)
        yield "samples", partial(self._append_samples, effects=effects, now=now)
        yield from self._small(effects, now)

    def _append_samples(self, session: Session, effects: Effects, now: datetime) -> None:
        """Evidence of the runs that are being measured."""
        measured = measured_serials(session)
        if not measured:
            return
        readings = [reading for reading in effects.readings if reading.serial in measured]
        append_samples(session, [*readings, *self._read_again(effects, measured)], now)

    def _read_again(self, effects: Effects, serials: Sequence[str]) -> Iterator[Reading]:
        """What the compiled core has folded of these machines since the last commit."""
        position = effects.position if self._machines.compiled else self.position
        while position < self.position:
            begin, buffer = self._spool.read_raw(position, min(READ_BYTES, self.position - position))
            places, looked_at = core.pick(buffer, serials)
            yield from self._readings(body_at(buffer, at) for at in places)
            if looked_at:
                position = begin + looked_at
            else:  # damaged, or cut: what was read here record by record is known by its identity
                chunk = self._spool.read(begin, READ_BYTES)
                yield from (one for one in self._readings(body for _, body in chunk.records) if one.serial in serials)
                position = max(chunk.end, begin + 1)

    def _readings(self, records: Iterable[bytes]) -> Iterator[Reading]:
        for message in map(Message.unpack, records):
            said = () if message.folded else self._decoder.decode(message)
            yield from (_as_the_machine_said(one) for one in said if isinstance(one, Reading))

    def _one_by_one(self, effects: Effects, now: datetime, measured: Sequence[str]) -> Iterator[tuple[str, Effect]]:
        for finding in effects.findings:
            yield f"finding {finding}", partial(record_findings, findings=[finding], now=now)
        readings = [*effects.readings, *self._read_again(effects, measured)]
        for serial in sorted(measured):
            own = [reading for reading in readings if reading.serial == serial]
            yield f"samples of {serial}", partial(append_samples, readings=own, now=now)
        yield from self._small(effects, now)

    def _small(self, effects: Effects, now: datetime) -> Iterator[tuple[str, Effect]]:
        if effects.held:
            yield "quarantine", partial(_hold_rows, effects=effects)
        for one in effects.replies:
            yield (
                f"reply {one}",
                partial(
                    store.command_answered, command_id=one.id, serial=one.serial, ok=one.ok, error=one.error, now=now
                ),
            )


def _hold_rows(session: Session, effects: Effects) -> None:
    effects.given_up = store.hold(session, effects.held)


def _row(number: int) -> str:
    """Where what was held of a machine lies, as a place."""
    return f"held:{number}"


def _alone(session: Session, label: str, effect: Effect, now: datetime) -> Held | None:
    """Apply one effect in a savepoint; what breaks comes back for the quarantine."""
    try:
        with session.begin_nested():
            effect(session)
            session.flush()
    except UnavailableError:
        raise
    except Exception as error:
        log.exception("effect_failed", effect=label.split()[0])
        return Held(
            position=f"effect:{zlib.crc32(label.encode()):08x}",
            part=0,
            received_at=now,
            topic="",
            payload=label.encode(),
            reason=Reason.INTERNAL.value,
            explanation=f"{type(error).__name__}: {error}",
            serial=None,
        )
    return None


def _known(decoded: Decoded) -> Decoded:
    """What is unknown although its machine is registered is poison: it must not come to be held as a stranger's again."""
    if isinstance(decoded, Quarantined) and decoded.stranger is not None:
        return replace(decoded, reason=Reason.UNKNOWN_TOPIC, raw=decoded.raw[:RAW_BYTES], stranger=None)
    return decoded


def _as_the_machine_said(reading: Reading) -> Reading:
    """Evidence holds the machine's own time, believed or not: the judge decides about clocks."""
    if reading.device_ts is None:
        return reading
    return replace(reading, ts=reading.device_ts, device_ts=None)

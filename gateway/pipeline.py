"""The whole story of the gateway on one page.

    receive → accept (spool, fdatasync) → acknowledge          depends on the spool alone
              └─ store    spool → telemetry → checkpoint       waits while the time-series store is away
              └─ detect   spool → rules → tickets → cursor     waits while SQL is away
    tick: silence, deadlines, running tests, commands, replays, claimed machines, freeing the spool

A program drives the three in threads (``service.py``); a simulation or a journey drives them in turn with ``ingest``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import msgspec
import structlog

from domain import wire
from domain.clock import Clock, SystemClock, from_ms, to_ms
from domain.desk.verification import judge_running
from domain.desk.watch import WATCHES
from domain.errors import UnavailableError
from domain.store import ingest as sql
from domain.store import strangers
from domain.store.session import Sessions
from domain.telemetry.port import RAW_RETENTION, RefusedPoint, Telemetry
from gateway.adapters.registry import ADAPTERS
from gateway.detect import Detection
from gateway.ingest import quarantine
from gateway.ingest.decode import Decoder
from gateway.ingest.guard import Guard
from gateway.ingest.receiver import Batch
from gateway.ingest.spool import Checkpoint, Spool
from gateway.ingest.writer import Writer
from gateway.leases import Leases
from gateway.machines import Machines, registry_of
from gateway.messages import Message, Registry
from gateway.outbox import Publish, Requests, send_due

REGISTRY_EVERY_S = 2.0
LOOK_EVERY_S = 0.5
REGISTRY_REST = 9.0
"""With very many machines reading them all takes a tenth of the time and no more."""
MOVED_WITHIN = timedelta(days=1)
"""A new spool may be that of a moved shard: repairs that were verified meanwhile close their episodes too."""
REARM_OVERLAP = timedelta(minutes=5)
"""Verdicts are looked at so long: those that the tick itself gives, and those of portals whose clock is behind ours."""
PURGE_EVERY = timedelta(hours=6)
WATCH_EVERY = timedelta(minutes=1)
"""Deadlines are hours, so nobody looks at them every second; running tests are judged at every tick."""
ASK_WITHIN_S = 10.0
"""A reader that is further behind than this has no news to ask about."""
STORE_AT_ONCE = 1000
LOOK_BYTES = 1 << 16

log = structlog.get_logger()


class Pipeline:
    """Everything between a received message and its consequences.

    ``publish`` sends commands to machines. ``listening_since`` is set by who keeps the connection: silence before it is the
    gateway's own; None means that nothing was ever missed. ``compiled``: ordinary messages go through the compiled core.
    """

    def __init__(
        self,
        *,
        gateway: str,
        spool: Spool,
        checkpoint: Checkpoint,
        sessions: Sessions,
        telemetry: Telemetry,
        clock: Clock,
        publish: Publish,
        zone: ZoneInfo,
        shards: frozenset[int] = frozenset(range(16)),
        keep_s: float = 3600.0,
        compiled: bool = False,
    ) -> None:
        self.spool, self.telemetry = spool, telemetry
        self.listening_since: datetime | None = None
        self.registry = Registry()
        self.machines = Machines(compiled=compiled)
        self.accepted = self.refused_points = self.unclaimed = 0
        self._sessions, self._clock, self._publish = sessions, clock, publish
        self._zone, self._shards, self._keep = zone, shards, timedelta(seconds=keep_s)
        self._for_rules = Decoder(ADAPTERS.values(), self.registry, known_only=True, refresh=self._look_again)
        self._for_store = Decoder(ADAPTERS.values(), self.registry, known_only=False)
        self._guards = [Guard(spool.folder / name) for name in ("at-rules", "at-store", "at-door")]
        self.leases = Leases(sessions, shards, holder=spool.id, gateway=gateway)
        at_rules, at_store, at_door = self._guards
        self.detection = Detection(self.leases, spool, self._for_rules, sessions, self.machines, at_rules, at_door)
        self.writer = Writer(
            spool,
            self._for_store,
            telemetry,
            checkpoint,
            on_refused=self.refused,
            now_ms=lambda: to_ms(self.now()),
            guard=at_store,
            on_held=partial(quarantine.keep, sessions),
            compiled=compiled,
        )
        self._requests = Requests(publish)
        self._door: frozenset[str] = frozenset()
        self._accepting = threading.Lock()
        self._wall = SystemClock()
        self._loaded = False
        self._registry_due = self._next_look = 0.0
        self._latest_ms = 0
        self._rearmed_until: datetime | None = None
        self._purge_due: datetime | None = None
        self._watches_due: datetime | None = None

    def load(self) -> None:
        """Take up registry, cursor and rule states. Raises UnavailableError while SQL is away."""
        self.refresh_registry()
        self._rearmed_until = self.detection.load() or self._clock.now() - MOVED_WITHIN
        self._loaded = True

    def accept(self, messages: Sequence[Message]) -> None:
        """Make messages durable; after this they may be acknowledged. Raises UnavailableError: then they may not."""
        self.take_in(Batch.of(messages))

    def take_in(self, batch: Batch) -> None:
        """The same for a batch of a receiver."""
        with self._accepting:
            self.spool.append_block(batch.block)
            self.accepted += batch.count

    def store(self) -> bool:
        """Bring one chunk into the telemetry store; False where there was none."""
        return self.writer.step()

    def detect(self) -> bool:
        """Fold one chunk and commit what is urgent; False where there was none."""
        worked = self.detection.step()
        if self.detection.urgent:
            self.detection.flush(self.now())
        return worked

    def ingest(self, messages: Iterable[Message | tuple[str, bytes, int]]) -> None:
        """Without threads: everything that follows from messages (or (topic, payload, receipt in ms)) up to tickets.

        Telemetry is written when enough has come together, and at the tick.
        """
        given = [one if isinstance(one, Message) else Message(*one) for one in messages]
        if given:
            self.accept(given)
            self._latest_ms = max(self._latest_ms, given[-1].recv_ms)
        self._next_look = 0.0
        while self.detect():
            pass
        if self.spool.end - self.writer.position >= STORE_AT_ONCE * 200:
            self.drain()

    def drain(self) -> None:
        """Write all telemetry that waits."""
        while self.store():
            pass
        self.writer.save()

    def now(self) -> datetime:
        """Business time; never before the receipt of what was taken in."""
        return max(self._clock.now(), from_ms(self._latest_ms))

    def tick(self, now: datetime) -> None:
        """What time alone brings about, up to ``now``. Raises UnavailableError while a store is away; come again then."""
        if self._wall.monotonic() >= self._registry_due:
            self.refresh_registry()
        self.detection.flush(now)
        self._forget(now)  # before anything is taken in again: a full spool has to get room first
        self._replay(now)
        self._admit(now)
        self.detection.silence(now, self.listening_since)
        self.detection.rearm((self._rearmed_until or now) - REARM_OVERLAP)
        self._rearmed_until = now
        self.detection.flush(now)
        for watch in WATCHES:
            if watch is judge_running:
                self._watch(partial(judge_running, ours=self.registry.units), now)
            elif wire.FOREIGN_SHARD in self._shards and (self._watches_due is None or now >= self._watches_due):
                self._watch(watch, now)
        if self._watches_due is None or now >= self._watches_due:
            self._watches_due = now + WATCH_EVERY
        send_due(self._sessions, self.registry, ADAPTERS, self._publish, now)
        self._ask(now)

    def refresh_registry(self) -> None:
        """Read the registered machines again; the next time is the later the longer it took.

        A machine of which something is held stays at the door until that is taken in.
        """
        began = self._wall.monotonic()
        with self._sessions.read() as session:
            registry = registry_of(sql.machines(session), self._shards, self._zone, self.registry.units)
            arrived = registry.units.keys() - self.registry.units.keys() if self._loaded else ()
            dumps = sql.detector_dumps(session, arrived)
            claimed = strangers.at_the_door(session)
            self.unclaimed = strangers.waiting(session)
        if registry.units == self.registry.units:  # who asks whether something has changed need not look at each
            registry = replace(registry, units=self.registry.units, bound=self.registry.bound)
        self.registry = registry
        unwritten = (registry.owners(stranger) for stranger in self.detection.strangers)
        self._door = (claimed & registry.units.keys()).union(*unwritten)
        self._for_rules.registry = registry.without(self._door)
        self._for_store.registry = registry
        self.machines.adopt(dumps)
        self.machines.use(self.registry, at_the_door=self._door)
        ended = self._wall.monotonic()
        self._registry_due = ended + max(REGISTRY_EVERY_S, REGISTRY_REST * (ended - began))
        self._next_look = ended + max(LOOK_EVERY_S, REGISTRY_REST * (ended - began))

    def _look_again(self) -> bool:
        """A newer registry for a machine that nobody knows; not for every message of a stranger."""
        if self._wall.monotonic() < self._next_look:
            return False
        try:
            self.refresh_registry()
        except UnavailableError:
            return False
        return True

    @property
    def worked_off(self) -> bool:
        """Whether all that is durable has reached both stores, and the cursors say so."""
        end = self.spool.end
        return self.writer.position >= end and self.detection.committed >= end

    def close(self) -> None:
        """Keep cursors and rule states where SQL is there, and close the spool."""
        try:
            self.detection.flush(self.now(), snapshot=True)
        except UnavailableError as error:
            log.warning("state_not_kept", why=str(error))
        self.writer.save()
        for guard in self._guards:
            guard.close()
        self.spool.close()

    def waiting_s(self, position: int) -> float:
        """How long ago the first record behind ``position`` was received; 0 where there is none."""
        records = self.spool.read(position, LOOK_BYTES).records
        if not records:
            return 0.0
        return max(0.0, (to_ms(self.now()) - Message.unpack(records[0][1]).recv_ms) / 1000)

    def _watch(self, watch: Callable[..., None], now: datetime) -> None:
        """One watch, one transaction; a broken one is logged and does not hold up the others."""
        try:
            with self._sessions.command() as session:
                watch(session, now)
        except UnavailableError:
            raise
        except Exception:
            log.exception("watch_failed", watch=getattr(watch, "__name__", str(watch)))

    def _replay(self, now: datetime) -> None:
        wanted = quarantine.wanted_again(self._sessions, self._shards)
        if wanted and self._take_in_again([message for _, message in wanted]):
            quarantine.replayed(self._sessions, [number for number, _ in wanted], now)
            log.info("replayed", messages=len(wanted))

    def _take_in_again(self, messages: Sequence[Message]) -> bool:
        """Make durable what SQL has; False while the spool refuses, which holds nothing else up: a later tick tries again."""
        try:
            self.accept(messages)
        except UnavailableError:
            return False
        return True

    def _admit(self, now: datetime) -> None:
        """Take in what was held of machines that are registered now, and only then what they say now.

        As long as a machine is at the door, what it says is held behind the rest. Everything up to here is written first, so
        that after the last of it nothing is missing, and nothing comes too late for the rules.
        """
        if not self._door:
            return
        self.detection.flush(now)
        for serial in sorted(self._door):
            held = quarantine.held_of(self._sessions, serial)
            if held:
                if not self._take_in_again([msgspec.structs.replace(message, folded=True) for _, message in held]):
                    return
                settle = partial(strangers.admitted, serial=serial, ids=[number for number, _ in held], now=now)
                self.detection.admit(held, self.registry, now, settle)
                log.info("admitted", serial=serial, messages=len(held))
        self.refresh_registry()

    def _ask(self, now: datetime) -> None:
        """Ask machines for what a reader lacks; one that is behind may still come to it."""
        readers = ((self._for_rules, self.detection.position), (self._for_store, self.writer.position))
        for decoder, position in readers:
            wanted = decoder.requests()
            if wanted and self.waiting_s(position) < ASK_WITHIN_S:
                self._requests.send(wanted, now)

    def _forget(self, now: datetime) -> None:
        behind = min(self.writer.position, self.detection.committed)
        self.spool.release(behind, (self._wall.now() - self._keep).timestamp())
        if self._purge_due is None or now >= self._purge_due:
            self._purge_due = now + PURGE_EVERY
            self.telemetry.purge(round((now - RAW_RETENTION).timestamp() * 1000))

    def refused(self, refused: RefusedPoint) -> None:
        """Keep a point that the telemetry store will never take. Raises UnavailableError."""
        self.refused_points += 1
        quarantine.keep(self._sessions, [quarantine.of_point(refused, self.now())])

"""The gateway as a program: stores opened, three threads and a tick, until somebody says stop.

What comes is made durable and stored at once; rules and tickets wait until the shards are ours, as another gateway may
still be working them. A gateway with the same shards has the same client id: it does not even connect before.

Whatever is away (broker, SQL, telemetry store, disk space) is waited for, with one log line per change of state.
"""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import structlog

from domain import wire
from domain.clock import Clock, SystemClock
from domain.errors import BrewairError, SettingsError, TakenError, UnavailableError
from domain.metrics import serving
from domain.settings import Settings
from domain.store.leases import KEPT
from domain.store.schema import upgrade
from domain.store.session import Sessions, open_engine
from domain.telemetry.stores import open_telemetry
from gateway import metrics
from gateway.adapters.registry import ADAPTERS
from gateway.core.library import compiled
from gateway.ingest.dropped import Dropped
from gateway.ingest.receiver import Receiver
from gateway.ingest.receivers import RECEIVERS
from gateway.ingest.spool import READ_BYTES, Checkpoint, Spool, replace_text
from gateway.leases import UNKNOWN
from gateway.pipeline import Pipeline

STORED, DROPPED, FILLED_BY = "stored", "dropped.json", "gateway"
"""Files in the spool folder: the checkpoint of the telemetry store, what ``drop_oldest`` gave up, and whose messages it holds."""
RESERVE_BYTES = 64 << 20
"""Disk held back for checkpoint and databases."""
POLL_S = 0.1
CHECKPOINT_EVERY_S = 0.25
TICK_EVERY_S = 1.0
IDLE_EVERY_S = 1.0
FINISH_S, FINISH_LOOK_S = 3.0, 0.02
YOUNG = 1
"""Generation up to which the collector looks at each tick, in 0.1 ms: SQLAlchemy's IN leaves cycles that hold all serials asked
for, and left to itself the collector of a gateway that makes few objects would let half an hour of them gather (60 kB/s)."""
RECEIVING = "gateway-receive"
DETECT_EVERY_S, STORE_EVERY_S = 0.05, 0.25
"""How long messages come together before rules and store look at them, unless there is a chunk's worth already: a request for
each handful costs more than it carries, and nobody notices the wait."""
LONGEST_BACKOFF_S = 30.0
SQL_PATIENCE_S = 10.0
"""So long the first connection waits for SQL to say that nobody has our client id; then what comes matters more."""
LEASES_EVERY_S = 2.0
STALL_S = 10.0
"""A loop that did not come round for so long was stopped, or the machine slept; a wall clock that moved so far against
the monotonic one was set: silence before now proves nothing."""
NEVER = datetime.max.replace(tzinfo=UTC)

log = structlog.get_logger()


class Gateway:
    """Open on construction, ``run`` until ``stop`` is set. ``pipeline`` may be looked at from outside while it runs."""

    def __init__(self, settings: Settings, clock: Clock, rng: random.Random | None = None) -> None:
        """Raises SettingsError where a folder cannot be written or an address does not fit."""
        self.name = gateway_name(settings.shards)
        self._settings, self._clock, self._rng = settings, clock, rng or random.SystemRandom()
        self._time = SystemClock().monotonic
        self._ending = threading.Event()
        """Nothing more is taken in."""
        self._stop = threading.Event()
        self._loaded = threading.Event()
        self._connect = threading.Event()
        self._hearing = False
        self._standing_by = False
        self._held_by = ""
        self._failure: BaseException | None = None
        self._engine = _writable(settings, lambda: open_engine(settings.database_url))
        telemetry = open_telemetry(settings, lambda refused: self.pipeline.refused(refused))
        self.received: int = 0
        self.acknowledged: int = 0
        self.patience: dict[str, _Patience] = {
            what: _Patience(what, self._rng) for what in ("spool", "sql", "telemetry")
        }
        self.dropped: Dropped = Dropped(settings.spool_dir / DROPPED)
        self._filled_by = settings.spool_dir / FILLED_BY
        spool = Spool(
            settings.spool_dir,
            max_bytes=settings.spool_max_bytes,
            policy=settings.spool_policy,
            reserve_bytes=RESERVE_BYTES,
            on_dropped=self.dropped,
        )
        self.receiver: Receiver = RECEIVERS[settings.mqtt_receiver](
            settings,
            client_id=self.name,
            filters=subscriptions(settings.shards),
            memory=settings.spool_dir / "subscriptions",
            clock=clock,
            rng=self._rng,
        )
        self.pipeline: Pipeline = Pipeline(
            gateway=self.name,
            spool=spool,
            checkpoint=Checkpoint(settings.spool_dir / STORED),
            sessions=Sessions(self._engine),
            telemetry=telemetry,
            clock=clock,
            publish=self.receiver.publish,
            zone=settings.timezone,
            shards=settings.shards,
            keep_s=settings.spool_keep_s,
            compiled=compiled(settings),
        )
        self.pipeline.listening_since = NEVER
        self._found_until = spool.end

    def run(self, stop: threading.Event, *, drain: bool = False) -> bool:
        """Work until ``stop`` is set, then leave everything in order; with ``drain`` without a broker, and only until all
        that the spool holds has reached both stores. True where it has. Raises what made going on impossible."""
        works = (self._detect, self._store) if drain else (self._receive, self._detect, self._store)
        threads = [
            threading.Thread(target=self._guarded, args=(work,), name=f"gateway-{work.__name__.strip('_')}")
            for work in works
        ]
        core = "compiled" if self.pipeline.machines.compiled else "python"
        log.info("gateway_started", gateway=self.name, spool=str(self._settings.spool_dir), core=core)
        with serving(self._settings.metrics_bind, lambda: metrics.of(self)):
            for thread in threads:
                thread.start()
            while not stop.wait(POLL_S) and self._failure is None:
                if drain and self._worked_off_as_far_as_we_may():
                    break
            self._ending.set()
            self._finish(threads)
        self._stop.set()
        self.pipeline.spool.wake()
        for thread in threads:
            thread.join()
        self.pipeline.close()
        drained = self.pipeline.worked_off
        self._leave_shards(drained)
        self.pipeline.telemetry.close()
        self._engine.dispose()
        log.info("gateway_stopped", accepted=self.pipeline.accepted, stored=self.pipeline.writer.stored)
        if self._failure is not None:
            raise self._failure
        return drained

    def _finish(self, threads: Sequence[threading.Thread]) -> None:
        """Let rules and store have what was acknowledged, so that whoever takes the shards next need not wait for it; not while
        one of them is away, nor for long."""
        until, pipeline = self._time() + FINISH_S, self.pipeline

        def finished() -> bool:
            end, receiving = pipeline.spool.end, any(one.is_alive() for one in threads if one.name == RECEIVING)
            folded = not pipeline.leases.held or pipeline.detection.position >= end
            return not receiving and folded and pipeline.writer.position >= end

        while self._failure is None and self._time() < until and not finished():
            if not (self.patience["sql"].well and self.patience["telemetry"].well):
                break
            self._stop.wait(FINISH_LOOK_S)

    def _worked_off_as_far_as_we_may(self) -> bool:
        """While another gateway works our shards, its rules are ahead of our spool: telemetry is all that is left to do."""
        if self.pipeline.leases.held:
            return self.pipeline.worked_off
        return self._held_by not in ("", UNKNOWN) and self.pipeline.writer.position >= self.pipeline.spool.end

    def _leave_shards(self, drained: bool) -> None:
        """Where nothing of ours waits, whoever takes the shards next need not wait either; else there is time to drain."""
        leases, now = self.pipeline.leases, self._clock.now()
        if not drained:
            log.warning("spool_not_worked_off", cure="start again, or brewair gateway --drain", held_by=self._held_by)
        with suppress(UnavailableError):
            if leases.held and drained:
                leases.give_back(now)
            elif leases.held:
                leases.take(now, KEPT)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            if not isinstance(error, BrewairError):
                log.exception("gateway_failed", thread=work.__name__)
            self._failure = self._failure or error
            self._ending.set()
            self._stop.set()

    # --- the three threads

    def _receive(self) -> None:
        spool = self.patience["spool"]
        until = self._time() + SQL_PATIENCE_S
        while not self._connect.wait(POLL_S) and not self._ending.is_set():
            if self._time() >= until and not self._standing_by:
                break
        while not self._ending.is_set():
            batch = self.receiver.receive(POLL_S)
            self.received += batch.count
            self._hear(self.receiver.connected)
            while batch.count and not self._ending.is_set():
                with spool:
                    self.pipeline.take_in(batch)
                if spool.well:
                    self.receiver.ack(batch)
                    self.acknowledged += batch.count
                    break
                self._hear(False)
                self._idle(spool.pause_s)
        self.receiver.close()

    def _hear(self, hearing: bool) -> None:
        """Whether what machines say reaches the rules: not without a connection, nor while the spool takes nothing in."""
        if hearing != self._hearing:
            self._hearing = hearing
            self.pipeline.listening_since = self._clock.now() if hearing else NEVER

    def _idle(self, pause_s: float) -> None:
        """Wait, and keep the connection meanwhile."""
        until = self._time() + pause_s
        while (left_s := until - self._time()) > 0 and not self._ending.is_set():
            self.receiver.idle(min(left_s, IDLE_EVERY_S))
            self._ending.wait(min(left_s, IDLE_EVERY_S))

    def _detect(self) -> None:
        self._get_shards()
        sql = self.patience["sql"]
        next_tick = last_round = self._time()
        wall_s = self._wall_s()
        while not self._stop.is_set():
            worked = False
            with sql:
                self.pipeline.leases.renew(self._clock.now())
                worked = self.pipeline.detect()
                stalled, stepped = self._time() - last_round > STALL_S, abs(self._wall_s() - wall_s) > STALL_S
                if (stalled or stepped) and self._hearing:
                    self.pipeline.listening_since = self._clock.now()
                last_round, wall_s = self._time(), self._wall_s()
                if last_round >= next_tick:
                    next_tick = last_round + TICK_EVERY_S
                    self.pipeline.tick(self._clock.now())
                    gc.collect(YOUNG)
            if not sql.well:
                self._stop.wait(sql.pause_s)
                last_round = self._time()
            else:
                self._gather(self.pipeline.detection.position, DETECT_EVERY_S, worked=worked)

    def _get_shards(self) -> None:
        """Schema, registry, leases, rule states: what has to be there before anything is folded."""
        sql = self.patience["sql"]
        while not self._stop.is_set():
            with sql:
                upgrade(self._engine)
                self.pipeline.refresh_registry()
                self._loaded.set()
                holder = self.pipeline.leases.take(self._clock.now())
                if holder is None:
                    self.pipeline.load()
                    self._own_the_spool()
                    self._standing_by, self._held_by = False, ""
                    self._connect.set()
                    return
                self.pipeline.detection.seek()  # whether anything is left to do for whoever has them
                if holder != self._held_by:
                    log.warning("shards_held_elsewhere", by=holder, gateway=self.name)
                    self._held_by = holder
                self._standing_by = holder in (self.name, UNKNOWN)
            if not self._standing_by:
                self._connect.set()
            self._stop.wait(LEASES_EVERY_S if sql.well else sql.pause_s)

    def _own_the_spool(self) -> None:
        """A spool that another set of shards has filled must be worked off by that set. Raises SettingsError."""
        filled_by = (self._filled_by.read_text().strip() if self._filled_by.exists() else "") or self.name
        waits = min(self.pipeline.writer.position, self.pipeline.detection.committed) < self._found_until
        if filled_by != self.name and waits:
            raise SettingsError(
                "The spool {path} still holds messages of {gateway}: first run brewair gateway --drain with its shards",
                path=self._settings.spool_dir,
                gateway=filled_by,
            )
        if filled_by != self.name or not self._filled_by.exists():
            replace_text(self._filled_by, self.name)

    def _wall_s(self) -> float:
        """The wall clock against the one that never jumps: a change of it is a step of the wall clock."""
        return SystemClock().now().timestamp() - self._time()

    def _store(self) -> None:
        telemetry = self.patience["telemetry"]
        ready, saved_at = False, self._time()
        while not self._stop.is_set():
            if not self._loaded.wait(POLL_S):
                continue  # whose foreign topic is whose is written in SQL
            worked = False
            with telemetry:
                if not ready:
                    self.pipeline.telemetry.setup()
                    ready = True
                worked = self.pipeline.store()
                if not worked or self._time() - saved_at >= CHECKPOINT_EVERY_S:
                    self.pipeline.writer.save()
                    saved_at = self._time()
            if not telemetry.well:
                ready = False  # a store that comes back may be an empty one
                self._stop.wait(telemetry.pause_s)
            else:
                self._gather(self.pipeline.writer.position, STORE_EVERY_S, worked=worked)

    def _gather(self, position: int, patience_s: float, *, worked: bool) -> None:
        """Wait for something behind ``position``, and a little more where that is not much or cannot be worked on now."""
        spool = self.pipeline.spool
        if spool.wait(position, POLL_S) and (not worked or spool.end - position < READ_BYTES):
            self._stop.wait(patience_s)


class _Patience:
    """Swallows UnavailableError inside ``with``: says so once, and how long to wait before the next attempt.

    The wait is at least what the other side asked for, else a random share of a doubling span.
    """

    def __init__(self, what: str, rng: random.Random) -> None:
        self.well = True
        self.pause_s = 0.0
        self._what, self._rng = what, rng
        self._failures = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            if not self.well:
                log.info(f"{self._what}_available")
            self.well, self._failures, self.pause_s = True, 0, 0.0
            return False
        if not isinstance(error, UnavailableError) or isinstance(error, TakenError):
            return False  # what was taken from us does not come back by waiting
        if self.well:
            log.warning(f"{self._what}_unavailable", why=str(error))
        self.well = False
        self._failures += 1
        longest = min(LONGEST_BACKOFF_S, 0.25 * 2 ** min(self._failures, 10))
        self.pause_s = max(error.retry_after, self._rng.uniform(0.0, longest))
        return True


def gateway_name(shards: frozenset[int]) -> str:
    """Client id and name of the cursor: the same shards are always the same gateway (no dots: NATS)."""
    spans: list[list[int]] = []
    for shard in sorted(shards):
        if spans and spans[-1][-1] == shard - 1:
            spans[-1][-1] = shard
        else:
            spans.append([shard, shard])
    return "brewair-gw-" + "_".join(f"{a}" if a == b else f"{a}-{b}" for a, b in spans)


def subscriptions(shards: frozenset[int]) -> list[str]:
    """MQTT filters of our shards; those of foreign conventions belong to ``FOREIGN_SHARD``."""
    native = (
        [wire.UP_FILTER]
        if len(shards) == wire.SHARDS
        else [f"{wire.ROOT}/{shard:02d}/+/+/up/#" for shard in sorted(shards)]
    )
    if wire.FOREIGN_SHARD not in shards:
        return native
    return native + [one for adapter in ADAPTERS.values() if adapter.convention for one in adapter.filters]


def _writable(settings: Settings, make: Callable[[], Any]) -> Any:
    """Do something in the data folder; a folder that cannot be written is a matter of settings."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        return make()
    except OSError as error:
        raise SettingsError(
            "The data folder {path} cannot be written: {why}", path=settings.data_dir, why=error.strerror
        ) from error


@contextmanager
def running(settings: Settings, clock: Clock) -> Iterator[Gateway]:
    """A gateway in threads of this process, for as long as the ``with`` lasts."""
    stop = threading.Event()
    gateway = Gateway(settings, clock)
    failure: list[BaseException] = []

    def work() -> None:
        try:
            gateway.run(stop)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, name="gateway")
    thread.start()
    try:
        yield gateway
    finally:
        stop.set()
        thread.join()
    if failure:
        raise failure[0]

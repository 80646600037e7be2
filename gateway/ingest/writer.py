"""From the spool to the telemetry store, with a checkpoint behind what is stored.

At-least-once: after a crash the last points are written again, which changes nothing. While the store is away the spool
grows and nothing else notices.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import structlog

from domain import wire
from domain.clock import SystemClock
from domain.errors import UnavailableError
from domain.readings import Reading
from domain.store.ingest import Held
from domain.telemetry.port import LineStore, RefusedPoint, Telemetry
from gateway.core.library import Lines
from gateway.core.programs import channels_of
from gateway.ingest import quarantine
from gateway.ingest.decode import Decoder
from gateway.ingest.guard import Guard
from gateway.ingest.spool import READ_BYTES, Checkpoint, Spool, body_at
from gateway.messages import Message, Quarantined, Reason, Unit
from gateway.samples import AHEAD_MS, CHANNELS, OLDEST_MS

DELAYS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0)
"""Upper ends of the classes of the time from receipt to storage."""

log = structlog.get_logger()


class Delays:
    """Messages by the time from their receipt until they were stored: ``classes`` are those of ``DELAYS_S``, and beyond."""

    def __init__(self) -> None:
        self.classes = [0] * (len(DELAYS_S) + 1)
        self.total_s = 0.0

    def add(self, received_ms: Iterable[tuple[int, int]], now_ms: int) -> None:
        """Count messages: times of receipt, and how many share it."""
        for at_ms, messages in received_ms:
            delay_s = max(0, now_ms - at_ms) / 1000
            self.classes[bisect_left(DELAYS_S, delay_s)] += messages
            self.total_s += delay_s * messages


class Writer:
    """Drains the spool. ``position`` is the *stored* cursor; ``stored`` counts readings written since the start, ``writes``
    what became of the attempts. ``now_ms`` is business time, as the receipt."""

    def __init__(
        self,
        spool: Spool,
        decoder: Decoder,
        telemetry: Telemetry,
        checkpoint: Checkpoint,
        on_refused: Callable[[RefusedPoint], None],
        now_ms: Callable[[], int],
        guard: Guard,
        on_held: Callable[[list[Held]], None],
        *,
        compiled: bool = False,
    ) -> None:
        """``on_held`` keeps what this reader does not understand yet; the rules may, as they began at another place.

        ``compiled``: the lines of ordinary samples are made by the compiled core, where the store takes lines.
        """
        self.position = min(checkpoint.load(), spool.end)
        self.stored = 0
        self.writes: Counter[str] = Counter()
        self.delays = Delays()
        self.left_out = 0
        self._saved = self.position
        self._time = SystemClock().monotonic
        self._saved_at = self._time()
        self._now_ms, self._guard = now_ms, guard
        self._spool, self._decoder, self._telemetry = spool, decoder, telemetry
        self._checkpoint, self._on_refused, self._on_held = checkpoint, on_refused, on_held
        self._held: list[Held] = []
        self._lines: Lines | None = None
        if compiled and isinstance(telemetry, LineStore):
            self._store = telemetry
            self._lines = Lines({key: channels_of(key) for key in CHANNELS}, OLDEST_MS, AHEAD_MS)
        self._spoken: tuple[Mapping[str, Unit], dict[str, bool]] | None = None

    def step(self, max_bytes: int = READ_BYTES) -> bool:
        """Store one chunk; False where there was none. Raises UnavailableError: the same chunk is next then."""
        self._held.clear()
        if self._lines is not None and not self._guard.careful(self.position):
            begin, buffer = self._spool.read_raw(self.position, max_bytes)
            if buffer and self._store_ordinary(self._lines, begin, buffer):
                return True
        chunk = self._spool.read(self.position, max_bytes)
        if chunk.records:
            messages = []
            readings = []
            for position, record in self._guard.through(chunk, self._leave_out):
                messages.append(message := Message.unpack(record))
                readings += self._read(position, message)
            self._guard.leave(chunk.end)
            self._write(readings)
            self._hold()
            self.stored += len(readings)
            self.delays.add(Counter([message.recv_ms for message in messages]).items(), self._now_ms())
        moved, self.position = chunk.end > self.position, max(self.position, chunk.end)
        return moved

    def _store_ordinary(self, lines: Lines, begin: int, buffer: bytes) -> bool:
        """Let the compiled core write what it can of ``buffer``, and the rest behind it; False where nothing in it is whole."""
        units, simulated = self._decoder.registry.units, self._decoder.simulated
        if self._spoken is None or self._spoken[0] is not units or self._spoken[1] != simulated:
            self._introduce(lines)
        self._guard.enter(begin + len(buffer))
        written = lines.take(buffer)
        readings = [one for at in written.odd for one in self._read(begin + at, Message.unpack(body_at(buffer, at)))]
        self._guard.leave(begin + len(buffer))
        if not written.consumed:
            return False
        if written.body:
            try:
                self._store.write_lines(written.body)
                self.writes["ok"] += 1
            except UnavailableError:
                self.writes["retry"] += 1
                raise
        self._write(readings)
        self._hold()
        self.stored += written.samples + len(readings)
        self.delays.add(written.received, self._now_ms())
        self.position = begin + written.consumed
        return True

    def _introduce(self, lines: Lines) -> None:
        """Tell the compiled core which machines there are, and which call themselves simulated."""
        units, simulated = self._decoder.registry.units, dict(self._decoder.simulated)
        lines.speakers(
            [
                (
                    wire.up(unit.type, unit.serial, "telemetry"),
                    unit.type,
                    unit.serial,
                    simulated.get(unit.serial, unit.simulated),
                )
                for unit in units.values()
                if not unit.convention
            ]
        )
        self._spoken = (units, simulated)

    def save(self) -> None:
        """Move the checkpoint to what is stored. Raises UnavailableError."""
        if self.position != self._saved:
            self._checkpoint.save(self.position)
            self._saved = self.position
        self._saved_at = self._time()

    @property
    def checkpoint_age_s(self) -> float:
        """How long ago the checkpoint was last brought to what is stored, or found there."""
        return self._time() - self._saved_at

    def _read(self, position: int, message: Message) -> list[Reading]:
        """The readings of a message; detection holds what nobody understands, but for what depends on what was read before."""
        said = self._decoder.decode(message)
        self._held += [
            quarantine.of_message(quarantine.place(self._spool.id, position), message, one)
            for one in said
            if isinstance(one, Quarantined) and one.reason is Reason.UNKNOWN_ALIAS
        ]
        return [one for one in said if isinstance(one, Reading)]

    def _hold(self) -> None:
        """Keep what waits. Raises UnavailableError: the same chunk is read again then."""
        held, self._held = self._held, []
        if held:
            self._on_held(held)

    def _leave_out(self, position: int, record: bytes) -> None:
        """Detection puts it into quarantine."""
        self.left_out += 1
        log.error("record_left_out", position=position, bytes=len(record))

    def _write(self, readings: list[Reading]) -> None:
        """Store readings; one that breaks the store's adapter is found by halving, and refused."""
        if not readings:
            return
        try:
            self._telemetry.write(readings)
            self.writes["ok"] += 1
        except UnavailableError:
            self.writes["retry"] += 1
            raise
        except Exception as error:
            if len(readings) > 1:
                self.writes["split"] += 1
                middle = len(readings) // 2
                self._write(readings[:middle])
                self._write(readings[middle:])
                return
            self.writes["refused"] += 1
            log.exception("reading_not_storable", serial=readings[0].serial)
            self._on_refused(RefusedPoint("unwritable", f"{type(error).__name__}: {error}", repr(readings[0]).encode()))

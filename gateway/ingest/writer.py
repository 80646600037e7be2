"""From the spool to the telemetry store, with a checkpoint behind what is stored.

At-least-once: after a crash the last points are written again, which changes nothing. While the store is away the spool
grows and nothing else notices.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from domain.errors import UnavailableError
from domain.readings import Reading
from domain.telemetry.port import RefusedPoint, Telemetry
from gateway.ingest.decode import Decoder
from gateway.ingest.spool import READ_BYTES, Checkpoint, Spool
from gateway.messages import Message

log = structlog.get_logger()


class Writer:
    """Drains the spool. ``position`` is the *stored* cursor; ``stored`` counts readings written since the start."""

    def __init__(
        self,
        spool: Spool,
        decoder: Decoder,
        telemetry: Telemetry,
        checkpoint: Checkpoint,
        on_refused: Callable[[RefusedPoint], None],
    ) -> None:
        self.position = min(checkpoint.load(), spool.end)
        self.stored = 0
        self._saved = self.position
        self._spool, self._decoder, self._telemetry = spool, decoder, telemetry
        self._checkpoint, self._on_refused = checkpoint, on_refused

    def step(self, max_bytes: int = READ_BYTES) -> bool:
        """Store one chunk; False where there was none. Raises UnavailableError: the same chunk is next then."""
        chunk = self._spool.read(self.position, max_bytes)
        if chunk.records:
            readings = [
                decoded
                for _, record in chunk.records
                for decoded in self._decoder.decode(Message.unpack(record))
                if isinstance(decoded, Reading)
            ]
            self._write(readings)
            self.stored += len(readings)
        self.position = max(self.position, chunk.end)
        return bool(chunk.records)

    def save(self) -> None:
        """Move the checkpoint to what is stored. Raises UnavailableError."""
        if self.position != self._saved:
            self._checkpoint.save(self.position)
            self._saved = self.position

    def _write(self, readings: list[Reading]) -> None:
        """Store readings; one that breaks the store's adapter is found by halving, and refused."""
        if not readings:
            return
        try:
            self._telemetry.write(readings)
        except UnavailableError:
            raise
        except Exception as error:
            if len(readings) > 1:
                middle = len(readings) // 2
                self._write(readings[:middle])
                self._write(readings[middle:])
                return
            log.exception("reading_not_storable", serial=readings[0].serial)
            self._on_refused(RefusedPoint("unwritable", f"{type(error).__name__}: {error}", repr(readings[0]).encode()))

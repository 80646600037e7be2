"""The embedded telemetry store: one SQLite file, apart from the tickets so that neither waits for the other.

One row per (series, ts); its fields are a JSON object, so that fields of one moment merge (``json_patch``) and a new
channel needs no new column.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson

from domain.errors import UnavailableError
from domain.readings import Reading
from domain.telemetry.fields import as_stored, fields_of, numeric
from domain.telemetry.port import Row

BATCH_ROWS = 1000
"""Rows per transaction: a reader or another process waits a few milliseconds at most."""
BUSY_S = 5.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, type TEXT NOT NULL, serial TEXT NOT NULL, UNIQUE (type, serial));
CREATE TABLE IF NOT EXISTS sample (
  series INTEGER NOT NULL REFERENCES series, ts INTEGER NOT NULL, fields TEXT NOT NULL, PRIMARY KEY (series, ts)
) WITHOUT ROWID;
"""
_UPSERT = """
INSERT INTO sample (series, ts, fields) VALUES (?, ?, ?)
ON CONFLICT (series, ts) DO UPDATE SET fields = json_patch(fields, excluded.fields)
"""
_RANGE = """
SELECT ts, fields FROM sample JOIN series ON series.id = sample.series
WHERE type = ? AND serial = ? AND ts >= ? AND ts < ?
"""


class SqliteTelemetry:
    """Telemetry in the file ``path``; safe for many threads (a connection each) and several processes (WAL)."""

    def __init__(self, path: Path) -> None:
        self.answers: Counter[str] = Counter()
        self._path = path
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._series: dict[tuple[str, str], int] = {}

    def setup(self) -> None:
        """Make folder, file and tables."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(
                "Cannot make the folder {path}: {why}", path=self._path.parent, why=error.strerror
            ) from error
        with self._connection() as connection:
            connection.executescript(_SCHEMA)

    def ping(self) -> None:
        """Read something from the file."""
        with self._connection() as connection:
            connection.execute("SELECT 1 FROM series LIMIT 1").fetchall()

    def write(self, readings: Sequence[Reading]) -> None:
        """Store readings in transactions of ``BATCH_ROWS``."""
        rows = [(reading, fields) for reading in readings if (fields := fields_of(reading))]
        for start in range(0, len(rows), BATCH_ROWS):
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(
                    _UPSERT,
                    [
                        (self._series_id(connection, reading), reading.ts, orjson.dumps(fields).decode())
                        for reading, fields in rows[start : start + BATCH_ROWS]
                    ],
                )
                connection.execute("COMMIT")

    def range(
        self,
        serial: str,
        type: str,
        start_ms: int,
        end_ms: int,
        channels: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[Row]:
        """Single samples, oldest first; with ``limit`` the newest so many."""
        names = [] if channels is None else list(channels)
        if channels is not None and not names:
            return []
        has_any = "AND (" + " OR ".join("json_type(fields, ?) IS NOT NULL" for _ in names) + ")" if names else ""
        with self._connection() as connection:
            found = connection.execute(
                f"{_RANGE} {has_any} ORDER BY ts DESC LIMIT ?",
                (type, serial, start_ms, end_ms, *(f"$.{name}" for name in names), -1 if limit is None else limit),
            ).fetchall()
        wanted = set(names)
        rows = []
        for ts, text in reversed(found):
            fields = as_stored(type, orjson.loads(text))
            rows.append(Row(ts, fields if channels is None else {k: v for k, v in fields.items() if k in wanted}))
        return rows

    def downsampled(
        self, serial: str, type: str, start_ms: int, end_ms: int, channels: Sequence[str], every_s: int
    ) -> list[Row]:
        """Means over aligned spans."""
        names = numeric(type, channels)
        if not names:
            return []
        every_ms = every_s * 1000
        means = ", ".join("avg(json_extract(fields, ?))" for _ in names)
        with self._connection() as connection:
            found = connection.execute(
                f"SELECT ts - ts % ? AS span, {means} FROM ({_RANGE}) GROUP BY span ORDER BY span",  # noqa: S608
                (every_ms, *(f"$.{name}" for name in names), type, serial, start_ms, end_ms),
            ).fetchall()
        rows = (Row(span, {n: v for n, v in zip(names, row, strict=True) if v is not None}) for span, *row in found)
        return [row for row in rows if row.values]

    def last(self, serial: str, type: str) -> Row | None:
        """The newest sample."""
        newest = self.range(serial, type, 0, 1 << 62, limit=1)
        return newest[0] if newest else None

    def purge(self, before_ms: int) -> None:
        """Delete older samples."""
        with self._connection() as connection:
            connection.execute("DELETE FROM sample WHERE ts < ?", (before_ms,))

    def close(self) -> None:
        """Close every thread's connection."""
        while self._all:
            self._all.pop().close()
        self._local = threading.local()

    def _series_id(self, connection: sqlite3.Connection, reading: Reading) -> int:
        key = (reading.type, reading.serial)
        found = self._series.get(key)
        if found is None:
            connection.execute("INSERT OR IGNORE INTO series (type, serial) VALUES (?, ?)", key)
            (found,) = connection.execute("SELECT id FROM series WHERE type = ? AND serial = ?", key).fetchone()
            self._series[key] = found
        return found

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; on any failure its transaction is undone and ids learnt in it are forgotten."""
        connection: sqlite3.Connection | None = None
        try:
            connection = getattr(self._local, "connection", None) or self._open()
            yield connection
        except BaseException as error:
            self._series.clear()
            if connection is not None and connection.in_transaction:
                connection.rollback()
            if not isinstance(error, sqlite3.Error):
                raise
            raise UnavailableError("The telemetry store {path}: {why}", path=self._path, why=error) from error

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        # FULL: the gateway frees its spool behind what is committed here.
        connection.execute("PRAGMA synchronous=FULL")
        self._local.connection = connection
        self._all.append(connection)
        return connection

"""The spool: what the gateway has acknowledged, on disk before it says so.

A folder of segments, each named by the position of its first byte; positions only ever grow. A record is a marker, a CRC,
its length and its bytes. ``append`` returns after fdatasync. Whatever a crash or a bad disk did to the files, opening
succeeds: a torn tail is cut off, a damaged record is skipped, both are counted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

from domain.errors import SettingsError, UnavailableError

MARK = b"\xb7BR1"
_HEADER = struct.Struct("<4sII")
SEGMENT_BYTES = 16 << 20
READ_BYTES = 1 << 20
PAGE_BYTES = 4096
SUFFIX = ".seg"
RESERVE = "reserve"
SMALL = 16
"""A small spool or disk has the 16th part of it as reserve (EJ)."""
FULL_RETRY_S = 1.0
LOW_WATER = 0.9
"""A spool that was full takes in again below this share of its size, so that it does not stop and go."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True)
class Counts:
    """What went wrong since the spool was opened: torn tails, bytes given up by ``drop_oldest``."""

    torn: int = 0
    dropped_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records with their positions, and where to go on reading; ``damaged`` is what was in the way, as far as it can be read."""

    records: list[tuple[int, bytes]]
    end: int
    damaged: Sequence[tuple[int, bytes]] = ()


@dataclass(slots=True)
class Segment:
    """One file; ``size`` is what is durable in it."""

    path: Path
    base: int
    size: int

    @property
    def end(self) -> int:
        return self.base + self.size


@dataclass(slots=True)
class _Active:
    """The segment that is written to, by its open file."""

    segment: Segment
    descriptor: int = field(repr=False)


def pack(body: bytes) -> bytes:
    """A record around ``body``."""
    length = len(body).to_bytes(4, "little")
    return MARK + zlib.crc32(body, zlib.crc32(length)).to_bytes(4, "little") + length + body


def bodies(block: bytes) -> Iterator[bytes]:
    """What ``pack`` made the records of ``block`` of, up to the first that is not intact."""
    at: int | None = 0
    while at is not None and (end := _whole_record(block, at)) is not None:
        yield block[at + _HEADER.size : end]
        at = end


def body_at(buffer: bytes, at: int) -> bytes:
    """What the record that begins at ``at`` was made of; it is known to be intact."""
    _, _, length = _HEADER.unpack_from(buffer, at)
    return buffer[at + _HEADER.size : at + _HEADER.size + length]


def _whole_record(buffer: bytes, at: int) -> int | None:
    """Where the record that begins at ``at`` ends, or None where there is no intact one."""
    if at + _HEADER.size > len(buffer):
        return None
    mark, crc, length = _HEADER.unpack_from(buffer, at)
    end: int = at + _HEADER.size + length
    if mark != MARK or end > len(buffer):
        return None
    body = memoryview(buffer)[at + _HEADER.size : end]
    return end if zlib.crc32(body, zlib.crc32(buffer[at + 8 : at + 12])) == crc else None


def _next_record(buffer: bytes, after: int) -> int | None:
    """Where the next intact record begins."""
    at = buffer.find(MARK, after)
    while at >= 0 and _whole_record(buffer, at) is None:
        at = buffer.find(MARK, at + 1)
    return at if at >= 0 else None


def _good_end(buffer: bytes) -> int:
    """Where the last intact record ends."""
    good = 0
    at: int | None = 0
    while at is not None:
        end = _whole_record(buffer, at)
        good = good if end is None else end
        at = _next_record(buffer, at + 1) if end is None else end
    return good


class Spool:
    """An append-only log with one writer and any number of readers (threads of one process).

    ``id`` names this life of the folder: cursors kept elsewhere are worth nothing in another one. ``policy`` decides what a
    full spool does: ``block`` refuses to append until it has drained below ``LOW_WATER``, ``drop_oldest`` gives up the
    oldest segment and tells ``on_dropped`` its records. ``reserve_bytes`` of disk are held back: when the disk is full they
    are given to the checkpoint and the databases beside it, so that draining can go on, and nothing is taken in before they
    are there again. ``durable=False`` leaves out fdatasync, for simulations that nobody will miss after a power cut.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = 8 << 30,
        policy: str = "block",
        segment_bytes: int = SEGMENT_BYTES,
        durable: bool = True,
        reserve_bytes: int = 0,
        on_dropped: Callable[[list[bytes]], None] | None = None,
    ) -> None:
        self.counts = Counts()
        self.folder, self.max_bytes = folder, max_bytes
        self._policy, self._segment_bytes = policy, min(segment_bytes, max(1, max_bytes // 4))
        self._durable, self._on_dropped = durable, on_dropped
        self._reserve = folder / RESERVE
        self._full = self._disk_full = False
        self._changed = threading.Condition()
        self._released = 0
        self._tail_unknown = False
        self._damaged_at: set[int] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SettingsError(
                "The spool folder {path} cannot be written: {why}", path=folder, why=error.strerror
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise SettingsError("The spool folder {path} is used by another gateway", path=folder) from error
        self.id = _identity(folder)
        self._segments = segments_of(folder)
        self._active = self._recover()
        self._reserve_bytes = min(reserve_bytes, max_bytes // SMALL, shutil.disk_usage(folder).total // SMALL)
        self._hold_reserve()

    @property
    def start(self) -> int:
        """Position of the oldest record that is still there."""
        with self._changed:
            return self._segments[0].base

    @property
    def end(self) -> int:
        """Position behind the newest durable record."""
        with self._changed:
            return self._segments[-1].end

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        with self._changed:
            return sum(segment.size for segment in self._segments)

    @property
    def damaged(self) -> int:
        """Damaged places met so far."""
        return len(self._damaged_at)

    def append(self, bodies: Sequence[bytes]) -> int:
        """Write records and return, once they are on disk, the position behind them; see :meth:`append_block`."""
        return self.append_block(b"".join(map(pack, bodies)))

    def append_block(self, block: bytes) -> int:
        """Write what ``pack`` made, as it is, and return, once it is on disk, the position behind it.

        Raises UnavailableError when the disk or the spool is full; then nothing was written, and nothing may be
        acknowledged.
        """
        try:
            self._leave_disk_alone()
            self._cut_tail()
            self._make_room(len(block))
            if self._active.segment.size >= self._segment_bytes:
                self._roll(self._active.segment.end)
            self._write(block)
        except OSError as error:
            self._tail_unknown = True
            if error.errno in NO_ROOM:
                self._disk_full = True
                self._reserve.unlink(missing_ok=True)
            raise UnavailableError(
                "The spool {path} cannot be written: {why}",
                retry_after=FULL_RETRY_S,
                path=self.folder,
                why=error.strerror,
            ) from error
        with self._changed:
            self._active.segment.size += len(block)
            self._changed.notify_all()
            return self._active.segment.end

    def read(self, position: int, max_bytes: int = READ_BYTES) -> Chunk:
        """Durable records from ``position`` on, about ``max_bytes`` of them and at least one where there is one.

        A position before the oldest segment means the oldest; damaged places are skipped and counted.
        """
        while True:
            segment = self._segment_at(position)
            if segment is None:
                return Chunk([], position)
            position = max(position, segment.base)
            try:
                chunk = self._read_segment(segment, position, max_bytes)
            except FileNotFoundError:
                continue  # freed just now: go on with what is there
            if chunk.records or chunk.damaged:
                return chunk
            position = chunk.end
            if self._is_last(segment):
                return chunk

    def read_raw(self, position: int, max_bytes: int = READ_BYTES) -> tuple[int, bytes]:
        """What lies at ``position``, as it is: where it begins (later where older segments were freed), and up to ``max_bytes``
        of it. The last record in it may be cut, and nobody has looked whether records are intact."""
        while (segment := self._segment_at(position)) is not None:
            begin = max(position, segment.base)
            with self._changed:
                size = min(max_bytes, segment.end - begin)
            try:
                with segment.path.open("rb", buffering=0) as file:
                    return begin, _read_at(file.fileno(), begin - segment.base, size)
            except FileNotFoundError:
                continue  # freed just now: go on with what is there
        return position, b""

    def wait(self, position: int, timeout_s: float) -> bool:
        """Wait until there is something behind ``position``; False after ``timeout_s`` without."""
        with self._changed:
            return self._changed.wait_for(lambda: self._segments[-1].end > position, timeout_s)

    def wake(self) -> None:
        """Make every ``wait`` look again (at the end of the program)."""
        with self._changed:
            self._changed.notify_all()

    def release(self, position: int, written_before: float) -> None:
        """Free segments that lie wholly behind ``position``, the lower of the cursors, and were last written before
        ``written_before`` (seconds since 1970); younger ones stay, to refill a store that lost data."""
        self._released = max(self._released, position)
        with self._changed:
            while len(self._segments) > 1 and self._segments[1].base <= position:
                if self._segments[0].path.stat().st_mtime > written_before:
                    return
                self._remove_oldest()

    def close(self) -> None:
        """Close the files and let another process have the folder."""
        os.close(self._active.descriptor)
        os.close(self._lock)

    # --- reading

    def _segment_at(self, position: int) -> Segment | None:
        with self._changed:
            return next((segment for segment in self._segments if segment.end > position), None)

    def _is_last(self, segment: Segment) -> bool:
        with self._changed:
            return self._segments[-1].base <= segment.base

    def _read_segment(self, segment: Segment, position: int, max_bytes: int) -> Chunk:
        with self._changed:
            rest = segment.end - position
        with segment.path.open("rb", buffering=0) as file:
            for size in (min(max_bytes, rest), rest):
                buffer = _read_at(file.fileno(), position - segment.base, size)
                chunk = self._parse(buffer, position, whole=size == rest)
                if chunk.records or size == rest:
                    break
        return chunk

    def _parse(self, buffer: bytes, position: int, *, whole: bool) -> Chunk:
        """The records of ``buffer`` and where they end. What is broken counts as damage only where ``buffer`` is
        ``whole``, as it may else just be cut by the size of the read."""
        records: list[tuple[int, bytes]] = []
        damaged: list[tuple[int, bytes]] = []
        at = 0
        while at < len(buffer):
            stop = _whole_record(buffer, at)
            if stop is not None:
                records.append((position + at, buffer[at + _HEADER.size : stop]))
                at = stop
            elif whole:
                found = _next_record(buffer, at + 1) or len(buffer)
                self._damaged_at.add(position + at)
                damaged.append((position + at, buffer[at:found]))
                at = found
            else:
                break
        return Chunk(records, position + at, damaged)

    # --- writing

    def _recover(self) -> _Active:
        try:
            if self._segments:
                last = self._segments[-1]
                with last.path.open("rb", buffering=0) as file:
                    content = _read_at(file.fileno(), 0, last.size)
                last.size = _good_end(content)
                if last.size < len(content):
                    self.counts.torn += 1
                    os.truncate(last.path, last.size)
                return _Active(last, os.open(last.path, os.O_WRONLY | os.O_APPEND))
            return self._new_segment(0)
        except OSError as error:
            raise SettingsError(
                "The spool folder {path} cannot be written: {why}", path=self.folder, why=error.strerror
            ) from error

    def _new_segment(self, base: int) -> _Active:
        path = self.folder / f"{base:020d}{SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o600)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        segment = Segment(path, base, 0)
        with self._changed:
            self._segments.append(segment)
        return _Active(segment, descriptor)

    def _roll(self, base: int) -> None:
        before = self._active
        self._active = self._new_segment(base)
        os.close(before.descriptor)

    def _roll_when_drained(self) -> None:
        """Begin a new segment where both cursors have passed all of this one, so that it can be freed."""
        if self._active.segment.size and self._active.segment.end <= self._released:
            self._cut_tail()
            self._roll(self._active.segment.end)

    def _write(self, block: bytes) -> None:
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(self._active.descriptor, rest) :]
        if self._durable:
            os.fdatasync(self._active.descriptor)

    def _cut_tail(self) -> None:
        """After a failed write nobody knows what lies behind the durable end."""
        if self._tail_unknown:
            os.ftruncate(self._active.descriptor, self._active.segment.size)
            self._tail_unknown = False

    def _make_room(self, needed: int) -> None:
        """Give up what both cursors have passed, then what the policy permits, until ``needed`` bytes fit."""
        while self.size + needed > self.max_bytes * (LOW_WATER if self._full else 1):
            self._roll_when_drained()
            with self._changed:
                if not self._remove_drained():
                    self._drop_oldest()
        self._full = False

    def _drop_oldest(self) -> None:
        """Give up the oldest segment, counting what nobody had read. Raises UnavailableError where that may not be."""
        if self._policy != "drop_oldest" or len(self._segments) < 2:
            self._full = True
            raise UnavailableError(
                "The spool {path} is full ({max_bytes} bytes)",
                retry_after=FULL_RETRY_S,
                path=self.folder,
                max_bytes=self.max_bytes,
            )
        oldest = self._segments[0]
        lost = max(oldest.base, self._released)
        self.counts.dropped_bytes += oldest.end - lost
        if self._on_dropped is not None:
            self._on_dropped([body for _, body in self._read_segment(oldest, lost, oldest.size).records])
        self._remove_oldest()

    def _leave_disk_alone(self) -> None:
        """After the disk was full: free what is drained, and take nothing in before the reserve is there again.

        Raises OSError (no room) until then.
        """
        if not self._disk_full:
            return
        self._roll_when_drained()
        with self._changed:
            while self._remove_drained():
                pass
        if not self._hold_reserve():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._disk_full = False

    def _hold_reserve(self) -> bool:
        """Hold the reserve where the disk has twice as much; True where it is held, or none is wanted."""
        if not self._reserve_bytes or self._reserve.exists():
            return True
        if shutil.disk_usage(self.folder).free < 2 * self._reserve_bytes:
            return False
        try:
            descriptor = os.open(self._reserve, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._reserve_bytes)
            finally:
                os.close(descriptor)
        except OSError:
            self._reserve.unlink(missing_ok=True)
            return False
        return True

    def _remove_drained(self) -> bool:
        """Free the oldest segment where both cursors have passed it, kept or not."""
        if len(self._segments) < 2 or self._segments[1].base > self._released:
            return False
        self._remove_oldest()
        return True

    def _remove_oldest(self) -> None:
        self._segments.pop(0).path.unlink(missing_ok=True)


class Checkpoint:
    """A position kept in a file: replaced as a whole, so that a crash leaves the old or the new one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> int:
        """The position; 0 where there is none or it cannot be read (then more is read again, which changes nothing)."""
        try:
            return int(self._path.read_text())
        except (OSError, ValueError):
            return 0

    def save(self, position: int) -> None:
        """Keep ``position``. Raises UnavailableError where the disk refuses."""
        replace_text(self._path, f"{position}\n")


def replace_text(path: Path, text: str) -> None:
    """Write a small file as a whole: after a crash it is the old or the new one. Raises UnavailableError where that cannot be."""
    fresh = path.with_suffix(".new")
    try:
        with fresh.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise UnavailableError("The file {path} cannot be written: {why}", path=path, why=error.strerror) from error


def _identity(folder: Path) -> str:
    path = folder / "id"
    if not path.exists():
        replace_text(path, uuid4().hex[:16])
    return path.read_text().strip()


def segments_of(folder: Path) -> list[Segment]:
    """The segments in a folder, oldest first, with the sizes of their files; a segment ends where the next begins."""
    found = sorted((int(path.stem), path) for path in folder.glob(f"*{SUFFIX}") if path.stem.isdigit())
    segments = [Segment(path, base, path.stat().st_size) for base, path in found]
    for segment, following in pairwise(segments):
        segment.size = min(segment.size, following.base - segment.base)
    return segments


def scan(folder: Path) -> Iterator[tuple[Segment, list[bytes], int]]:
    """Every segment with its intact records and its number of damaged places; changes nothing, and needs nobody's leave:
    the gateway may be at work. A segment that is freed meanwhile is left out."""
    for segment in segments_of(folder):
        try:
            buffer = segment.path.read_bytes()[: segment.size]
        except FileNotFoundError:
            continue
        at, records, damaged = 0, [], 0
        while at < len(buffer):
            stop = _whole_record(buffer, at)
            if stop is None:
                found = _next_record(buffer, at + 1)
                damaged, at = damaged + 1, len(buffer) if found is None else found
            else:
                records.append(buffer[at + _HEADER.size : stop])
                at = stop
        yield segment, records, damaged


def first_record(folder: Path, position: int) -> bytes | None:
    """The first intact record at or behind ``position``, None where there is none; changes nothing."""
    for segment in segments_of(folder):
        if segment.end > position:
            buffer = segment.path.read_bytes()[max(0, position - segment.base) : segment.size]
            at = 0 if _whole_record(buffer, 0) else _next_record(buffer, 1)
            if at is not None and (stop := _whole_record(buffer, at)):
                return buffer[at + _HEADER.size : stop]
    return None


def _read_at(descriptor: int, at: int, size: int) -> bytes:
    """Up to ``size`` bytes; where the disk cannot read a page of them, zeros: damage, which is no reason to stop."""
    parts: list[bytes] = []
    while size > 0:
        try:
            part = os.pread(descriptor, size, at)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            part = _page_at(descriptor, at, min(size, PAGE_BYTES - at % PAGE_BYTES))
        if not part:
            break
        parts.append(part)
        at, size = at + len(part), size - len(part)
    return b"".join(parts)


def _page_at(descriptor: int, at: int, size: int) -> bytes:
    try:
        return os.pread(descriptor, size, at)
    except OSError:
        return bytes(size)

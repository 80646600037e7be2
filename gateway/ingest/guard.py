"""Which record was being worked on when the process died, so that no record can kill the gateway for ever.

An exception is no death: it is caught where it happens. A death is a crash inside a C library or the kernel's memory
killer. The note lies in a file that is mapped into memory: it costs no system call and outlives the process. After a death
within a chunk its records are taken one by one; a record at which the process died twice then is left out.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from domain.errors import SettingsError
from gateway.ingest.spool import Chunk

LeftOut = Callable[[int, bytes], object]
DEATHS = 2
NOWHERE = -1
_NOTE = struct.Struct("<qqqq")
"""End of the chunk at work · record at work · record under suspicion · deaths at it."""


class Guard:
    """One reader's note: ``through`` before the work on a chunk, ``leave`` after it. No I/O may lie between the two, or
    an innocent record would be suspected of every kill."""

    def __init__(self, path: Path) -> None:
        """Raises SettingsError where the file cannot be used."""
        try:
            if not path.exists() or path.stat().st_size != _NOTE.size:
                path.write_bytes(_NOTE.pack(NOWHERE, NOWHERE, NOWHERE, 0))
            with path.open("r+b") as file:
                self._note = mmap.mmap(file.fileno(), _NOTE.size)
        except OSError as error:
            raise SettingsError(
                "The spool folder {path} cannot be written: {why}", path=path.parent, why=error.strerror
            ) from error
        self._list = path.with_suffix(".out")
        self.left_out = {int(line) for line in _lines(self._list) if line.isdigit()}
        """Positions that are never worked on again; they are unique for ever."""
        chunk_end, record, self._suspect, self._deaths = _NOTE.unpack(self._note[:])
        if record != NOWHERE:
            self._deaths = self._deaths + 1 if record == self._suspect else 1
            self._suspect = record
        if self._deaths >= DEATHS:
            self._condemn()
        self._careful_until = chunk_end
        self._write(chunk_end, NOWHERE)

    def through(self, chunk: Chunk, left_out: LeftOut) -> Iterable[tuple[int, bytes]]:
        """The records of a chunk, whose work begins now; where a process died before, each is noted first, and one that
        has killed often enough goes to ``left_out`` instead."""
        start = chunk.records[0][0] if chunk.records else chunk.end
        careful = self.careful(start) or any(start <= bad < chunk.end for bad in self.left_out)
        self.enter(chunk.end)
        return self._one_by_one(chunk, left_out) if careful else chunk.records

    def careful(self, position: int) -> bool:
        """Whether records from ``position`` on must be taken one by one: a process died there, or one of them is left out."""
        return position < self._careful_until or any(position <= bad for bad in self.left_out)

    def enter(self, end: int) -> None:
        """The work on everything up to ``end`` begins now."""
        self._write(max(end, self._careful_until), NOWHERE)

    def leave(self, end: int) -> None:
        """The chunk up to ``end`` was survived."""
        if end >= self._careful_until:
            self._careful_until = NOWHERE
        self._write(self._careful_until, NOWHERE)

    def _one_by_one(self, chunk: Chunk, left_out: LeftOut) -> Iterator[tuple[int, bytes]]:
        for position, record in chunk.records:
            if position in self.left_out:
                left_out(position, record)
                continue
            self._write(self._careful_until, position)
            yield position, record

    def close(self) -> None:
        """Give the file back."""
        self._note.close()

    def _condemn(self) -> None:
        self.left_out.add(self._suspect)
        self._suspect, self._deaths = NOWHERE, 0
        with suppress(OSError), self._list.open("w") as file:  # a full disk: it is learnt again after the next start
            file.writelines(f"{position}\n" for position in sorted(self.left_out))

    def _write(self, chunk_end: int, record: int) -> None:
        _NOTE.pack_into(self._note, 0, chunk_end, record, self._suspect, self._deaths)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []

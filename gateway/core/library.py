"""The compiled core as Python sees it (ctypes): frames of a read, lines of a chunk, machines of a fleet.

A call lets other threads run. An object belongs to one thread.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson

from domain.errors import BrewairError, SettingsError
from domain.settings import Settings

FILE = {"darwin": "libbrewair_core.dylib", "win32": "brewair_core.dll"}.get(sys.platform, "libbrewair_core.so")
PATH = Path(__file__).with_name(FILE)
VERSION = 2
"""Of the border; a library of another one is refused."""


class CoreFailed(BrewairError):
    """The compiled core has failed inside; its memory is worth nothing any more."""


class _Outcome(ctypes.Structure):
    _fields_ = [
        ("consumed", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("samples", ctypes.c_uint64),
        ("clean", ctypes.c_uint64),
        ("first", ctypes.c_void_p),
        ("first_len", ctypes.c_uint64),
        ("second", ctypes.c_void_p),
        ("second_len", ctypes.c_uint64),
        ("third", ctypes.c_void_p),
        ("third_len", ctypes.c_uint64),
    ]

    def first_bytes(self) -> bytes:
        return ctypes.string_at(self.first, self.first_len) if self.first_len else b""

    def second_bytes(self) -> bytes:
        return ctypes.string_at(self.second, self.second_len) if self.second_len else b""

    def third_bytes(self) -> bytes:
        return ctypes.string_at(self.third, self.third_len) if self.third_len else b""


_POINTER, _BYTES, _U64, _I64, _U32 = (
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes.c_uint64,
    ctypes.c_int64,
    ctypes.c_uint32,
)
_OUT = ctypes.POINTER(_Outcome)
_SIGNATURES: Mapping[str, tuple[Any, tuple[Any, ...]]] = {
    "bc_version": (_U32, ()),
    "bc_frames_new": (_POINTER, ()),
    "bc_frames_free": (None, (_POINTER,)),
    "bc_frames_take": (ctypes.c_int, (_POINTER, _BYTES, _U64, _I64, _U32, _OUT)),
    "bc_lines_new": (_POINTER, (_I64, _I64)),
    "bc_lines_free": (None, (_POINTER,)),
    "bc_lines_catalogue": (ctypes.c_int, (_POINTER, _BYTES, _U64)),
    "bc_lines_speakers": (ctypes.c_int, (_POINTER, _BYTES, _U64)),
    "bc_lines_take": (ctypes.c_int, (_POINTER, _BYTES, _U64, _OUT)),
    "bc_fleet_new": (_POINTER, ()),
    "bc_fleet_free": (None, (_POINTER,)),
    "bc_fleet_spec": (ctypes.c_int, (_POINTER, _BYTES, _U64, _OUT)),
    "bc_fleet_put": (ctypes.c_int, (_POINTER, _BYTES, _U64)),
    "bc_fleet_lend": (ctypes.c_int, (_POINTER, _BYTES, _U64, _OUT)),
    "bc_fleet_interval": (ctypes.c_int, (_POINTER, _BYTES, _U64, ctypes.c_double)),
    "bc_fleet_take": (ctypes.c_int, (_POINTER, _BYTES, _U64, _OUT)),
    "bc_fleet_kept": (ctypes.c_int, (_POINTER,)),
    "bc_fleet_changed": (ctypes.c_int, (_POINTER, _OUT)),
    "bc_fleet_memories": (ctypes.c_int, (_POINTER, _U64, _U64, _OUT)),
    "bc_fleet_tell": (ctypes.c_int, (_POINTER, _U32, _OUT)),
    "bc_fleet_silent": (ctypes.c_int, (_POINTER, _I64, _I64, _I64, _OUT)),
    "bc_pick": (ctypes.c_int, (_BYTES, _U64, _BYTES, _U64, ctypes.POINTER(_U32), _U64, _OUT)),
}


@cache
def library() -> ctypes.CDLL | None:
    """The library that was built with this installation; None where there is none, or it is of another version."""
    if not PATH.exists():
        return None
    try:
        loaded = ctypes.CDLL(str(PATH))
        for name, (answer, arguments) in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = answer, arguments
    except (OSError, AttributeError):
        return None
    return loaded if loaded.bc_version() == VERSION else None


def compiled(settings: Settings) -> bool:
    """Whether ordinary messages are worked off by the compiled core. Raises SettingsError where it is demanded and not there."""
    if settings.gateway_core == "python":
        return False
    if settings.gateway_core == "compiled" and library() is None:
        raise SettingsError(
            "BREWAIR_GATEWAY_CORE is compiled, but {path} is not there: install Rust's cargo, then brewair again",
            path=PATH,
        )
    return library() is not None


def _well(status: int) -> bool:
    """Whether a call said yes. Raises CoreFailed where it broke."""
    if status < 0:
        raise CoreFailed("The compiled core has failed; Python goes on from what was kept last")
    return status == 0


class _Handle:
    """Something made on the other side, and given back when nobody here needs it any more."""

    def __init__(self, kind: str, *given: int) -> None:
        found = library()
        if found is None:
            raise CoreFailed("The compiled core is not there")
        self._library = found
        self._free = getattr(found, f"bc_{kind}_free")
        self._handle = getattr(found, f"bc_{kind}_new")(*given)
        self._out = _Outcome()

    def __del__(self) -> None:
        if handle := self.__dict__.pop("_handle", None):
            self._free(handle)


class Taken(NamedTuple):
    """Messages at the beginning of a read: ``block`` are their records for the spool, ``acks`` their PUBACKs. ``clean``: what
    follows behind ``consumed`` is nothing, or a message whose end has not come; else Python has to look at it."""

    consumed: int
    clean: bool
    messages: int
    block: bytes
    acks: bytes


class Frames(_Handle):
    """Cuts QoS 1 messages from what a broker sends. ``version`` as CONNECT names it."""

    def __init__(self, version: int) -> None:
        super().__init__("frames")
        self._version = version

    def take(self, data: bytes, recv_ms: int) -> Taken:
        """The whole messages at the beginning of ``data``. Raises CoreFailed."""
        out = self._out
        _well(self._library.bc_frames_take(self._handle, data, len(data), recv_ms, self._version, out))
        return Taken(out.consumed, bool(out.clean), out.count, out.first_bytes(), out.second_bytes())


class Written(NamedTuple):
    """A chunk of the spool up to ``consumed``, as line protocol. ``odd``: where the records begin that Python must write, behind
    ``body``. ``received``: messages by their time of receipt in ms."""

    consumed: int
    body: bytes
    lines: int
    samples: int
    odd: Sequence[int]
    received: list[tuple[int, int]]


class Lines(_Handle):
    """Turns chunks of the spool into line protocol. ``catalogues``: channels by equipment type."""

    def __init__(self, catalogues: Mapping[str, list[dict[str, Any]]], oldest_ms: int, ahead_ms: int) -> None:
        super().__init__("lines", oldest_ms, ahead_ms)
        self._numbers = {}
        for number, (key, channels) in enumerate(catalogues.items()):
            given = orjson.dumps(channels)
            if _well(self._library.bc_lines_catalogue(self._handle, given, len(given))):
                self._numbers[key] = number

    def speakers(self, machines: Sequence[tuple[str, str, str, bool]]) -> None:
        """Replace all machines: topic of telemetry, equipment type, serial, whether it is simulated."""
        given = orjson.dumps(
            [
                (topic, f"{equipment_type},serial={serial} ", self._numbers[equipment_type], simulated)
                for topic, equipment_type, serial, simulated in machines
                if equipment_type in self._numbers
            ]
        )
        _well(self._library.bc_lines_speakers(self._handle, given, len(given)))

    def take(self, chunk: bytes) -> Written:
        """Everything whole at the beginning of ``chunk``. Raises CoreFailed."""
        out = self._out
        _well(self._library.bc_lines_take(self._handle, chunk, len(chunk), out))
        received = memoryview(out.third_bytes()).cast("q").tolist()
        return Written(
            out.consumed,
            out.first_bytes(),
            out.count,
            out.samples,
            memoryview(out.second_bytes()).cast("I").tolist(),
            list(zip(received[::2], received[1::2], strict=True)),
        )


class Folded(NamedTuple):
    """A chunk of the spool up to ``consumed``, folded. ``odd``: where the records begin that Python must go on with, and how many
    of their samples are folded already."""

    consumed: int
    samples: int
    watermark_ms: int
    odd: list[tuple[int, int]]


NEWS, RHYTHMS, STRANGERS = range(3)
MEMORIES_AT_ONCE = 500
_APART = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Fleet(_Handle):
    """Machines whose ordinary samples are folded on the other side. A memory is what ``Detector.dump`` gives."""

    def __init__(self) -> None:
        super().__init__("fleet")

    def add_spec(self, spec: Mapping[str, Any]) -> int | None:
        """What machines of one nameplate share; its number, or None where it cannot be used."""
        given = orjson.dumps(spec)
        well = _well(self._library.bc_fleet_spec(self._handle, given, len(given), self._out))
        return int(self._out.count) if well else None

    def put(
        self,
        serial: str,
        topic: str,
        spec: int,
        *,
        interval_s: float | None = None,
        memory: Mapping[str, Any] | None = None,
        changed: bool = False,
    ) -> bool:
        """Take a machine in, or back, with a memory that was ``changed`` since it was kept; False where it cannot be read."""
        given = orjson.dumps(
            {
                "serial": serial,
                "topic": topic,
                "spec": spec,
                "interval_s": interval_s,
                "memory": memory,
                "changed": changed,
            }
        )
        return _well(self._library.bc_fleet_put(self._handle, given, len(given)))

    def lend(self, serial: str) -> dict[str, Any] | None:
        """A machine's memory; until it is ``put`` again its messages are odd. None where it is not here."""
        name = serial.encode()
        if not _well(self._library.bc_fleet_lend(self._handle, name, len(name), self._out)):
            return None
        memory: dict[str, Any] = orjson.loads(self._out.first_bytes())
        return memory

    def interval(self, serial: str, interval_s: float) -> bool:
        """How often a machine says it speaks; False where it is not here."""
        name = serial.encode()
        return _well(self._library.bc_fleet_interval(self._handle, name, len(name), interval_s))

    def take(self, chunk: bytes) -> Folded:
        """Fold everything whole at the beginning of ``chunk``. Raises CoreFailed."""
        out = self._out
        _well(self._library.bc_fleet_take(self._handle, chunk, len(chunk), out))
        odd = memoryview(out.first_bytes()).cast("I").tolist()
        return Folded(out.consumed, out.samples, out.count, list(zip(odd[::2], odd[1::2], strict=True)))

    def kept(self) -> None:
        """The memories as they are now are safe."""
        _well(self._library.bc_fleet_kept(self._handle))

    @property
    def changed(self) -> int:
        """How many memories differ from what was kept last."""
        _well(self._library.bc_fleet_changed(self._handle, self._out))
        return int(self._out.count)

    def tell(self, what: int) -> dict[str, Any]:
        """NEWS (what was heard since this was asked), RHYTHMS, or STRANGERS, by serial (or key)."""
        _well(self._library.bc_fleet_tell(self._handle, what, self._out))
        said: dict[str, Any] = orjson.loads(self._out.first_bytes())
        return said

    def memories(self) -> Iterator[dict[str, orjson.Fragment]]:
        """The memories that changed, by serial, as the JSON that they are; ``MEMORIES_AT_ONCE`` at a time: all of ten thousand
        are three times twenty megabytes. Nothing may be taken in between."""
        begin = 0
        while True:
            _well(self._library.bc_fleet_memories(self._handle, begin, MEMORIES_AT_ONCE, self._out))
            begin, said = self._out.consumed, self._out.first_bytes()
            if apart := _APART.decode(said):
                yield {serial: orjson.Fragment(bytes(memory)) for serial, memory in apart.items()}
            if not begin:
                return

    def silent(self, now_ms: int, least_ms: int, more_ms: int) -> list[str]:
        """Serials of those not heard for three intervals (``least_ms`` at least) and ``more_ms``."""
        _well(self._library.bc_fleet_silent(self._handle, now_ms, least_ms, more_ms, self._out))
        said: list[str] = orjson.loads(self._out.first_bytes())
        return said


ROOM = 4096


def pick(chunk: bytes, serials: Sequence[str]) -> tuple[list[int], int]:
    """Where the records of native machines begin in ``chunk``, and up to where that was looked. Raises CoreFailed."""
    found = library()
    if found is None:
        raise CoreFailed("The compiled core is not there")
    names, places, out = "\n".join(serials).encode(), (_U32 * ROOM)(), _Outcome()
    _well(found.bc_pick(chunk, len(chunk), names, len(names), places, ROOM, out))
    return list(places[: out.count]), out.consumed

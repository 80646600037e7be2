"""One machine as the broker sees it: physics plus protocol (wire.md), without a socket and without a clock of its own.

``advance`` lets time pass and gives what is published meanwhile; ``receive`` takes a command. The same calls give the same
bytes, and one long ``advance`` gives what many short ones give.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from device_sim.profiles.physics import Notice, Physics
from domain import wire
from domain.catalogue.model import ModelCard

KEEPALIVE_S = 60
"""MQTT keepalive; a broker declares a silent client dead after 1.5 times this."""
BUFFER_OBJECTS = 20_000
"""Objects kept while offline, oldest dropped first: a week at 30 s."""
BACKFILL_OBJECTS = 300
"""Objects per backfill message: well under the wire's limits of 1000 objects and 256 KiB."""
TEST_INTERVAL_S = 10
FIRMWARE = "1.4.2"
REMEMBERED_COMMANDS = 32
BOOT_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Publication:
    """One MQTT message. ``objects`` are the (ts, seq) in it; ``will`` = the broker says it in the machine's place."""

    topic: str
    payload: bytes
    serial: str
    ts: int
    qos: int = 1
    retain: bool = False
    objects: tuple[tuple[int, int], ...] = ()
    will: bool = False


class RejectedCommandError(Exception):
    """The machine cannot do what the command asks; the text is the reply's ``error``."""


class Machine:
    """A simulated machine with serial number, nameplate and physics, alive from ``start_ms`` (UTC ms) on."""

    def __init__(
        self, serial: str, card: ModelCard, physics: Physics, rng: random.Random, *, start_ms: int, interval_s: int = 30
    ) -> None:
        if not wire.SERIAL.match(serial):
            raise ValueError(f"not a serial number: {serial!r}")
        self.serial, self.card, self.physics, self.rng = serial, card, physics, rng
        self.now_ms = start_ms
        self.normal_interval_ms = interval_s * 1000
        self.display = ""
        self._topics = {kind: wire.up(card.type, serial, kind) for kind in wire.UP_KINDS}
        self._command_topic = wire.down_command(card.type, serial)
        self._phase_ms = rng.randrange(interval_s) * 1000
        self._booted = False
        self._connected = False
        self._silent_since: int | None = None
        self._will_sent = True
        self._buffer: deque[dict[str, Any]] = deque(maxlen=BUFFER_OBJECTS)
        self._replies: dict[str, bytes] = {}
        self._interval_ms = self.normal_interval_ms
        self._interval_until: int | None = None
        self._test_until: int | None = None
        self._nonce_until: int | None = None
        self._boot, self._seq, self._birth_due = "", 0, False
        self._due_ms = start_ms
        self._signature: tuple[object, ...] = ()

    @property
    def will(self) -> Publication:
        """The last will that the machine leaves with its broker."""
        return Publication(self._topics["status"], wire.OFFLINE, self.serial, self.now_ms, retain=True, will=True)

    @property
    def command_topic(self) -> str:
        """Where this machine listens."""
        return self._command_topic

    @property
    def testing(self) -> bool:
        """Whether test mode is on."""
        return self._test_until is not None

    # ------------------------------------------------------------------ time

    def advance(self, to_ms: int) -> list[Publication]:
        """Everything published in (now, ``to_ms``], in order. Steps that would end later are left for the next call."""
        sent: list[Publication] = []
        self._follow_condition(sent)
        while True:
            step = self._step_ms()
            if self.now_ms + step > to_ms:
                return sent
            self._step(step, sent)

    def touch(self, now_ms: int, change: Callable[[Physics], None]) -> list[Publication]:
        """Bring the machine to exactly ``now_ms``, then let ``change`` happen to it (a fault, a repair, a hand)."""
        sent = self._bring_to(now_ms)
        change(self.physics)
        self._follow_condition(sent)
        return sent

    def _bring_to(self, now_ms: int) -> list[Publication]:
        sent = self.advance(now_ms)
        if now_ms > self.now_ms:
            self._step(now_ms - self.now_ms, sent)
        return sent

    def _step_ms(self) -> int:
        if not self._booted:
            return self.normal_interval_ms
        ends = [
            self._due_ms,
            *(t for t in (self._interval_until, self._test_until, self._nonce_until) if t is not None),
        ]
        return max(1, min(self.physics.max_step_ms(self.now_ms), min(ends) - self.now_ms))

    def _step(self, step_ms: int, sent: list[Publication]) -> None:
        self.physics.step(self.now_ms, step_ms)
        self.now_ms += step_ms
        now = self.now_ms
        if not self._booted:
            self._mourn(sent)
            return
        for notice in self.physics.notices():
            self._say_event(notice, sent)
        signature = self.physics.signature()
        due = now >= self._due_ms
        if due:
            self._due_ms += self._interval_ms * ((now - self._due_ms) // self._interval_ms + 1)
        if due or signature != self._signature:
            self._signature = signature
            self._say_sample(sent)
        self._expire()
        self._mourn(sent)

    def _expire(self) -> None:
        """What a command set for a time ends by itself; after the sample that falls on the same moment."""
        now = self.now_ms
        if self._interval_until is not None and now >= self._interval_until:
            self._set_interval(self.normal_interval_ms, None)
        if self._test_until is not None and now >= self._test_until:
            self._end_test()
        if self._nonce_until is not None and now >= self._nonce_until:
            self.display, self._nonce_until = "", None

    # ------------------------------------------------------------------ mains and network

    def _follow_condition(self, sent: list[Publication]) -> None:
        """Boot, die, connect or lose the line, as the machine's condition says."""
        condition = self.physics.condition
        if condition.powered and not self._booted:
            self._switch_on()
        elif self._booted and not condition.powered:
            self._booted = False
            self._buffer.clear()  # kept in memory that needs power
        online = self._booted and condition.network
        if online and not self._connected:
            self._connect(sent)
        elif self._connected and not online:
            self._connected, self._silent_since, self._will_sent = False, self.now_ms, False

    def _switch_on(self) -> None:
        self._booted = True
        self._boot = "".join(self.rng.choice(BOOT_LETTERS) for _ in range(4))
        self._seq = 0
        self._set_interval(self.normal_interval_ms, None)
        self._test_until = self._nonce_until = None
        self.display = ""
        self._due_ms = self.now_ms + self._phase_ms + 1000
        self._birth_due = True
        self.physics.power_on(self.now_ms)
        self._signature = self.physics.signature()

    def _connect(self, sent: list[Publication]) -> None:
        self._connected, self._silent_since = True, None
        if self._birth_due:
            birth = {
                "ts": self.now_ms,
                "boot": self._boot,
                "model": self.card.key,
                "fw": FIRMWARE,
                "interval_s": self.normal_interval_ms // 1000,
                "simulated": True,
            }
            sent.append(Publication(self._topics["birth"], orjson.dumps(birth), self.serial, self.now_ms, retain=True))
            self._birth_due = False
        sent.append(Publication(self._topics["status"], wire.ONLINE, self.serial, self.now_ms, retain=True))
        while self._buffer:
            chunk = [self._buffer.popleft() for _ in range(min(BACKFILL_OBJECTS, len(self._buffer)))]
            for kind in ("telemetry", "event"):
                of_kind = [o for o in chunk if ("level" in o and "detail" in o) == (kind == "event")]
                if of_kind and kind == "telemetry":
                    sent.append(self._publication("telemetry", [o | {"backfill": True} for o in of_kind]))
                else:
                    sent.extend(self._publication("event", o | {"backfill": True}) for o in of_kind)

    def _mourn(self, sent: list[Publication]) -> None:
        """1.5 keepalives after the last sign of life the broker publishes the will."""
        if not self._will_sent and self._silent_since is not None:
            overdue = self.now_ms - self._silent_since >= KEEPALIVE_S * 1500
            if overdue and not self._connected:
                self._will_sent = True
                sent.append(self.will)

    # ------------------------------------------------------------------ saying

    def _say_sample(self, sent: list[Publication]) -> None:
        values = self.physics.sample(self.now_ms)
        if values:
            self._say("telemetry", values, sent)

    def _say_event(self, notice: Notice, sent: list[Publication]) -> None:
        self._say("event", {"fault_code": notice.fault_code, "level": notice.level, "detail": notice.detail}, sent)

    def _say(self, kind: str, body: Mapping[str, Any], sent: list[Publication]) -> None:
        self._seq += 1
        said = {"ts": self.now_ms, "boot": self._boot, "seq": self._seq, **body}
        if self._connected:
            sent.append(self._publication(kind, said))
        else:
            self._buffer.append(said)

    def _publication(self, kind: str, body: dict[str, Any] | list[dict[str, Any]]) -> Publication:
        objects = tuple((o["ts"], o["seq"]) for o in (body if isinstance(body, list) else [body]))
        return Publication(self._topics[kind], orjson.dumps(body), self.serial, self.now_ms, objects=objects)

    # ------------------------------------------------------------------ commands

    def receive(self, topic: str, payload: bytes, now_ms: int) -> list[Publication]:
        """Obey a command at ``now_ms``; a machine without mains or network hears nothing.

        Redelivered commands (same id) are answered again, not obeyed again. What is no JSON object with an id has no reply.
        """
        sent = self._bring_to(now_ms)
        if topic != self._command_topic or not self._connected:
            return sent
        try:
            command = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return sent
        if not isinstance(command, dict) or not isinstance(command.get("id"), str):
            return sent
        identity = command["id"]
        if identity not in self._replies:
            self._replies[identity] = orjson.dumps({"id": identity, **self._obey(command)})
            if len(self._replies) > REMEMBERED_COMMANDS:
                del self._replies[next(iter(self._replies))]
        sent.append(Publication(self._topics["reply"], self._replies[identity], self.serial, self.now_ms))
        return sent

    def _obey(self, command: Mapping[str, Any]) -> dict[str, Any]:
        expires_at, params = command.get("expires_at"), command.get("params", {})
        if isinstance(expires_at, (int, float)) and self.now_ms >= expires_at:
            return {"ok": False, "error": "expired"}
        handler = COMMANDS.get(str(command.get("name")))
        try:
            if handler is None:
                raise RejectedCommandError(f"unknown command; known: {', '.join(COMMANDS)}")
            if not isinstance(params, dict):
                raise RejectedCommandError("params must be an object")
            handler(self, params)
        except RejectedCommandError as error:
            return {"ok": False, "error": str(error)}
        return {"ok": True}

    def _command_set_interval(self, params: Mapping[str, Any]) -> None:
        interval = _seconds(params, "interval_s", 1, 3600)
        self._set_interval(interval, self.now_ms + _seconds(params, "ttl_s", 1, 7 * 86_400))

    def _command_test_mode(self, params: Mapping[str, Any]) -> None:
        interval = min(_seconds(params, "interval_s", 1, 3600), TEST_INTERVAL_S * 1000)
        ttl = _seconds(params, "ttl_s", 1, 7 * 86_400)
        if not self.physics.programs:
            raise RejectedCommandError("this machine has no test program")
        program = params.get("program") or self.physics.programs[0]
        if program not in self.physics.programs:
            raise RejectedCommandError(f"unknown program; known: {', '.join(self.physics.programs)}")
        active = _seconds(params, "active_s", 0, 7 * 86_400) if "active_s" in params else 0
        self._test_until = self.now_ms + ttl
        self._set_interval(interval, self._test_until)
        self.physics.start_test(program, self.now_ms, active / 1000)

    def _command_stop(self, params: Mapping[str, Any]) -> None:
        self._end_test()
        self.physics.stop()

    def _command_show_nonce(self, params: Mapping[str, Any]) -> None:
        nonce, ttl = params.get("nonce"), _seconds(params, "ttl_s", 1, 86_400)
        if not isinstance(nonce, str) or not nonce:
            raise RejectedCommandError("nonce must be a text")
        self.display, self._nonce_until = nonce, self.now_ms + ttl

    def _set_interval(self, interval_ms: int, until_ms: int | None) -> None:
        self._interval_ms, self._interval_until = interval_ms, until_ms
        self._due_ms = self.now_ms + interval_ms

    def _end_test(self) -> None:
        if self._test_until is not None:
            self._test_until = None
            self._set_interval(self.normal_interval_ms, None)
            self.physics.end_test()


COMMANDS: Mapping[str, Callable[[Machine, Mapping[str, Any]], None]] = {
    "set_interval": Machine._command_set_interval,
    "test_mode": Machine._command_test_mode,
    "stop": Machine._command_stop,
    "show_nonce": Machine._command_show_nonce,
}


def _seconds(params: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """A span of the parameters in ms; RejectedCommandError where it is no number of seconds in ``low``…``high``."""
    value = params.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value) or not low <= value <= high:
        raise RejectedCommandError(f"{name} must be {low}…{high} seconds")
    return round(value * 1000)

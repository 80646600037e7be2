"""The rule engine: a fold over a machine's readings, in event time, that raises and clears findings (equipment.md §6).

A deterministic function of its inputs; it knows no clock. Its memory can be written as JSON and taken up again at any reading.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from domain.catalogue.fault_rule import FaultRule
from domain.catalogue.model import ModelCard
from domain.catalogue.registry import EQUIPMENT
from domain.catalogue.rules import FACTS, RULES
from domain.detection.baseline import Baseline
from domain.detection.states import StateInference
from domain.detection.watch import Watch
from domain.findings import Finding, Kind, Severity
from domain.readings import Reading, Value

CHANGE_GUARD_MS = 60_000
START_GUARD_MS = 120_000
REARM_MS = 1_800_000
"""A rule that cleared stays silent this long."""
SILENT_MS = 90_000
REORDER_MS = 10_000
"""A sample older than this behind the last one, though the machine sent it later, means that its clock was set back."""
UNKNOWN_INTERVAL_MS = 300_000
"""Assumed before the machine's rhythm is known: the slowest in the field (Tasmota [S35])."""
REMEMBERED = 64
_NOT_RUNNING = frozenset(("off", "offline", "standby", ""))


class Detector:
    """All rules on one machine. Feed it readings with ``fold`` and time with ``tick``; keep it with ``dump`` and ``load``."""

    __slots__ = (
        "_boots", "_card", "_deltas", "_facts", "_frozen_ms", "_guard_until", "_holds", "_inference", "_last_seen", "_last_seq",
        "_reference", "_remembered", "_same_moment", "_silence", "_watches", "interval_s", "last_ts", "serial",
    )  # fmt: skip

    def __init__(
        self,
        card: ModelCard,
        serial: str,
        *,
        rules: Sequence[FaultRule[Any]] | None = None,
        baseline: Baseline | None = None,
    ) -> None:
        """``rules`` default to those of the card's type; ``interval_s`` may be set from the machine's birth."""
        self.serial = serial
        self._card = card
        self._reference = (baseline or Baseline()).reference()
        self.interval_s: float | None = None
        self.last_ts: int | None = None
        rows = RULES[card.type] if rules is None else tuple(rules)
        self._silence = next((Watch(row) for row in rows if row.key == "R01"), None)
        self._watches = tuple(Watch(row) for row in rows if row.key != "R01")
        for watch in self._watches:
            watch.roots = tuple(w for w in self._watches if w.rule.key in watch.rule.suppressed_by)
            watch.peers = tuple(w for w in self._watches if w is not watch and w.rule.key == watch.rule.key)
        self._restart()
        self._frozen_ms = 0
        self._guard_until = 0
        self._holds: dict[str, int] = {}
        self._deltas: deque[int] = deque(maxlen=9)
        self._last_seen: int | None = None
        self._remembered: deque[str] = deque(maxlen=REMEMBERED)
        self._boots: deque[str] = deque(maxlen=8)
        self._last_seq = -1
        self._same_moment: list[Mapping[str, Value]] = []

    def _restart(self) -> None:
        self._inference = StateInference(self._card)
        self._facts = FACTS[self._card.type](self._card, self._reference)
        for watch in self._watches:
            watch.forget()

    @property
    def state(self) -> str:
        """The machine's state at the last reading; ``offline`` while R01 is open or nothing was heard yet."""
        if self._last_seen is None or (self._silence and self._silence.open):
            return "offline"
        return self._facts.state or "offline"

    @property
    def open_findings(self) -> tuple[Finding, ...]:
        """Episodes that have not cleared."""
        watches = (*self._watches, self._silence) if self._silence else self._watches
        return tuple(w.open for w in watches if w.open)

    def fold(self, reading: Reading) -> tuple[Finding, ...]:
        """Take in one reading; returns what it raised (``cleared_at`` None) and what it cleared (the same episode, with it).

        Redelivered, late and backfilled readings prove that the machine is there and feed no rule.
        """
        said = self._heard(reading)
        if reading.backfill or not self._is_next(reading):
            return tuple(said)
        if len(self._same_moment) > 1:
            # what came in several objects of one moment is one sample (wire.md)
            whole = {channel: value for part in self._same_moment for channel, value in part.items()}
            reading = replace(reading, values=whole)
        ts, facts = reading.ts, self._facts
        before = facts.state
        facts.update(reading, self._inference.step(reading), self._inference.pn)
        if facts.changed:
            self._guard(before, facts.state, ts)
        quiet = ts < self._guard_until
        if quiet:
            self._frozen_ms += facts.dt_ms
        own_t = ts - self._frozen_ms
        gap_ms = max(3 * self._rhythm_ms(), 60_000)
        values = reading.values
        for watch in self._watches:
            if quiet and watch.guarded:
                continue
            for channel in watch.needs:
                if channel not in values:
                    break
            else:
                rule = watch.rule
                if rule.when is not None and not rule.when(facts):
                    continue
                t = own_t if watch.guarded else ts
                if watch.open is None:
                    if watch.roots and any(r.stands(own_t if r.guarded else ts, gap_ms) for r in watch.roots):
                        continue
                    agrees = rule.raises(facts)
                    if (agrees or watch.window) and watch.lasted(agrees, t, watch.on_ms, gap_ms):
                        said += self._raise(watch)
                else:
                    agrees = rule.clears(facts)
                    if (agrees or watch.window) and watch.lasted(agrees, t, watch.off_ms, gap_ms):
                        said.append(self._clear(watch, ts))
        return tuple(said)

    def tick(self, now_ms: int, *, peers_online: bool | None) -> tuple[Finding, ...]:
        """R01, and only that: raised once the machine was silent for 3 intervals (at least 90 s) and 180 s more.

        ``now_ms`` is on the scale of ``Reading.recv_ms`` (of ``ts`` where readings have none). ``peers_online``: whether other
        machines of the site are heard: True → cause ``no_power`` (suspected 假性: guided self-check), False → ``network`` (the
        site's outage: all its machines say so, intake groups them), None → undecided. The moment does not depend on when it is
        asked. No tick while catching up with a backlog.
        """
        watch = self._silence
        if watch is None or watch.open is not None or self._last_seen is None:
            return ()
        patience = max(3 * self._expected_interval_ms(), SILENT_MS)
        at = max(self._last_seen + patience + watch.on_ms, self._holds.get("R01", 0))
        if now_ms < at:
            return ()
        kind, cause = _SILENCE[peers_online]
        watch.open = Finding(
            rule="R01", family=watch.rule.family, severity=watch.rule.severity, serial=self.serial, raised_at=at, kind=kind,
            cause=cause, evidence={"last_seen": float(self._last_seen), "silent_s": (at - self._last_seen) / 1000},
        )  # fmt: skip
        return (watch.open,)

    def rearm(self, at_ms: int) -> tuple[Finding, ...]:
        """Close every open episode (a repair was verified or waived); the rules may raise again after 30 min."""
        watches = (*self._watches, self._silence) if self._silence else self._watches
        return tuple(self._clear(watch, at_ms) for watch in watches if watch.open)

    def _heard(self, reading: Reading) -> list[Finding]:
        seen = reading.ts if reading.recv_ms is None else reading.recv_ms
        if self._last_seen is None or seen > self._last_seen:
            self._last_seen = seen
        watch = self._silence
        if watch is None or watch.open is None or seen <= float(watch.open.evidence["last_seen"]):
            return []
        return [self._clear(watch, max(seen, watch.open.raised_at))]

    def _is_next(self, reading: Reading) -> bool:
        """Whether the reading continues the story; keeps the memory by which redelivered ones are known."""
        ts, boot, seq, last = reading.ts, reading.boot, reading.seq, self.last_ts
        if seq is not None:
            identity = f"{boot}:{seq}"
            if identity in self._remembered:
                return False
            self._remembered.append(identity)
        if last is not None and ts < last and not self._clock_was_set_back(reading, last):
            return False
        if ts == last:
            if reading.values in self._same_moment:
                return False
            self._same_moment.append(reading.values)
        else:
            if last is not None and 0 < ts - last < 3_600_000:
                self._deltas.append(ts - last)
            self._same_moment = [reading.values]
        if seq is not None:
            if boot is not None and boot not in self._boots:
                self._boots.append(boot)
                self._last_seq = seq
            elif boot is None or boot == self._boots[-1]:
                self._last_seq = max(seq, self._last_seq)
        self.last_ts = ts
        return True

    def _clock_was_set_back(self, reading: Reading, last: int) -> bool:
        """An earlier time in a later object of the same boot, or in a boot never heard of: all counting starts anew."""
        if reading.seq is None or last - reading.ts <= REORDER_MS:
            return False
        boot = reading.boot
        current = boot is None or (bool(self._boots) and boot == self._boots[-1])
        if (current and reading.seq > self._last_seq) or (boot is not None and boot not in self._boots):
            self._restart()
            self._guard_until = 0
            self._holds = {key: min(until, reading.ts + REARM_MS) for key, until in self._holds.items()}
            return True
        return False

    def _guard(self, before: str, state: str, ts: int) -> None:
        active = EQUIPMENT[self._card.type].active_states
        cold = before in _NOT_RUNNING if "starting" in active else before in ("off", "offline")
        started = cold and state in active
        self._guard_until = max(self._guard_until, ts + (START_GUARD_MS if started else CHANGE_GUARD_MS))

    def _rhythm_ms(self) -> int:
        """Median distance of the last samples; the declared one while there are too few."""
        if len(self._deltas) >= 3:
            return sorted(self._deltas)[len(self._deltas) // 2]
        return int(self.interval_s * 1000) if self.interval_s else 30_000

    def _expected_interval_ms(self) -> int:
        measured = self._rhythm_ms() if len(self._deltas) >= 3 else 0
        return max(int((self.interval_s or 0) * 1000), measured) or UNKNOWN_INTERVAL_MS

    def _raise(self, watch: Watch) -> list[Finding]:
        rule, facts = watch.rule, self._facts
        severity, kind, cause = rule.weigh(facts) if rule.weigh else (rule.severity, rule.kind, rule.cause)
        outranked = any(peer.open and peer.open.severity <= severity for peer in watch.peers)
        if outranked or facts.ts < self._holds.get(_hold_key(rule, cause), 0):
            return []
        evidence = {name: _figure(getattr(facts, name)) for name in rule.evidence}
        watch.forget()
        watch.open = Finding(
            rule=rule.key, family=rule.family, severity=severity, serial=self.serial, raised_at=facts.ts, kind=kind,
            cause=cause, evidence={name: value for name, value in evidence.items() if value == value},
        )  # fmt: skip
        return [watch.open]

    def _clear(self, watch: Watch, at_ms: int) -> Finding:
        assert watch.open is not None
        finding = replace(watch.open, cleared_at=at_ms)
        self._holds[_hold_key(watch.rule, finding.cause)] = at_ms + REARM_MS
        watch.open = None
        watch.forget()
        return finding

    def dump(self) -> dict[str, Any]:
        """Everything remembered, JSON-able; ``load`` takes it up again and goes on as if nothing had happened."""
        watches = (*self._watches, self._silence) if self._silence else self._watches
        return {
            **{name: getattr(self, f"_{name}") for name in ("frozen_ms", "guard_until", "last_seen", "last_seq")},
            "interval_s": self.interval_s,
            "last_ts": self.last_ts,
            "deltas": list(self._deltas),
            "holds": dict(self._holds),
            "remembered": list(self._remembered),
            "boots": list(self._boots),
            "same_moment": [dict(values) for values in self._same_moment],
            "inference": self._inference.dump(),
            "facts": self._facts.dump(),
            "windows": {w.rule.row: list(w.window) for w in watches if w.window},
            "open": {w.rule.row: _written(w.open) for w in watches if w.open},
        }

    @classmethod
    def load(
        cls,
        card: ModelCard,
        serial: str,
        dumped: Mapping[str, Any],
        *,
        rules: Sequence[FaultRule[Any]] | None = None,
        baseline: Baseline | None = None,
    ) -> Detector:
        """A detector that goes on where ``dump`` was taken. Rows that no longer exist are left out."""
        self = cls(card, serial, rules=rules, baseline=baseline)
        for name in ("frozen_ms", "guard_until", "last_seen", "last_seq"):
            setattr(self, f"_{name}", dumped[name])
        self.interval_s, self.last_ts = dumped["interval_s"], dumped["last_ts"]
        self._deltas.extend(dumped["deltas"])
        self._holds = dict(dumped["holds"])
        self._remembered.extend(dumped["remembered"])
        self._boots.extend(dumped["boots"])
        self._same_moment = [dict(values) for values in dumped["same_moment"]]
        self._inference.restore(dumped["inference"])
        self._facts.restore(dumped["facts"])
        for watch in (*self._watches, *((self._silence,) if self._silence else ())):
            watch.window.extend(dumped["windows"].get(watch.rule.row, ()))
            watch.agreeing = sum(code & 1 for code in watch.window)
            written = dumped["open"].get(watch.rule.row)
            watch.open = _read(written) if written else None
        return self


_SILENCE = {
    True: (Kind.FALSE, "no_power"),
    False: (Kind.UNDECIDED, "network"),
    None: (Kind.UNDECIDED, ""),
}


def _hold_key(rule: FaultRule[Any], cause: str) -> str:
    """What stays silent after a clear: the rule with all its rows; of the maker's codes, this code only."""
    return f"{rule.key}:{cause}" if rule.weigh and rule.key == "R26" else rule.key


def _figure(value: Any) -> float | str:
    return value if isinstance(value, str) else round(float(value), 4)


def _written(finding: Finding) -> dict[str, Any]:
    return {**asdict(finding), "severity": int(finding.severity), "kind": str(finding.kind)}


def _read(written: Mapping[str, Any]) -> Finding:
    return Finding(**{**written, "severity": Severity(written["severity"]), "kind": Kind(written["kind"])})

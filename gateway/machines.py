"""The machines as the gateway sees them: rule engines, what each said last, and who is silent."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from domain import wire
from domain.catalogue.model import ModelCard
from domain.catalogue.registry import card_of
from domain.clock import from_ms, to_ms
from domain.detection.engine import Detector
from domain.errors import NotFoundError
from domain.findings import Finding
from domain.readings import Reading
from domain.store.ingest import Machine, Seen
from gateway.messages import Birth, Registry, Status, Unit

PATIENCE_MS, RAISE_MS = 90_000, 180_000
UNKNOWN_INTERVAL_S = 300.0
"""As R01: 3 intervals, at least 90 s, and 180 s more; 300 s where the interval is unknown (equipment.md §6)."""

log = structlog.get_logger()


def registry_of(machines: Iterable[Machine], shards: frozenset[int], default_zone: ZoneInfo) -> Registry:
    """The registered machines of these shards; a machine without a usable zone has the default one."""
    return Registry.of(
        Unit(
            machine.serial,
            machine.type,
            machine.model,
            site_id=machine.site_id,
            convention=machine.convention,
            topic=machine.topic,
            zone=_zone(machine.zone, default_zone),
            interval_s=machine.interval_s,
            simulated=machine.simulated,
            altitude_m=machine.altitude_m,
        )
        for machine in machines
        if int(wire.shard_of(machine.serial)) in shards
    )


def _zone(name: str, default: ZoneInfo) -> ZoneInfo:
    try:
        return ZoneInfo(name) if name else default
    except (KeyError, ValueError, OSError):
        return default


class Machines:
    """One rule engine per registered machine. Belongs to one thread."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.seen: dict[str, Seen] = {}
        """What is new since the last flush."""
        self.changed: set[str] = set()
        """Machines whose rule state differs from the one that was kept last."""
        self.watermark_ms = 0
        """The latest device time taken in."""
        self._detectors: dict[str, Detector] = {}
        self._dumps: dict[str, dict[str, Any]] = {}
        self._heard_ms: dict[str, int] = {}
        self.skew_ms: dict[str, int] = {}
        """Receipt minus the machine's own time, of its latest sample; the way here counts as skew too."""

    def restore(self, dumps: Mapping[str, dict[str, Any]]) -> None:
        """Begin with the rule states of an earlier life."""
        self._dumps = dict(dumps)
        self._detectors.clear()
        self.changed.clear()

    def use(self, registry: Registry) -> None:
        """Work with another registry; a machine that became another model goes on with its memory and the new card."""
        before, self.registry = self.registry, registry
        for serial in list(self._detectors):
            if _nameplate(registry.units.get(serial)) != _nameplate(before.units.get(serial)):
                self._dumps[serial] = self._detectors.pop(serial).dump()

    def fold(self, reading: Reading) -> tuple[Finding, ...]:
        """Take in a reading; returns what it raised and cleared."""
        detector = self._detector(reading.serial)
        if detector is None:
            return ()
        try:
            findings = detector.fold(reading)
        except Exception:
            del self._detectors[reading.serial]  # half-changed: the next reading starts from what was kept last
            raise
        self.changed.add(reading.serial)
        heard_ms = reading.ts if reading.recv_ms is None else reading.recv_ms
        seen = self._hear(reading.serial, heard_ms)
        if not reading.backfill:
            self.skew_ms[reading.serial] = heard_ms - (reading.ts if reading.device_ts is None else reading.device_ts)
            self.watermark_ms = max(self.watermark_ms, reading.ts)
            seen.last_ts_ms = max(seen.last_ts_ms or 0, reading.ts)
            seen.latest.update(reading.values)
            seen.run_state = detector.state
        return findings

    def told(self, news: Birth | Status) -> None:
        """Take in a birth or a state. What was retained is no sign of life."""
        if isinstance(news, Birth):
            seen = self.seen.setdefault(news.serial, Seen())
            seen.fw, seen.simulated, seen.interval_s = news.fw, news.simulated, news.interval_s or seen.interval_s
            detector = self._detector(news.serial)
            if detector is not None and news.interval_s is not None:
                detector.interval_s = news.interval_s
                self.changed.add(news.serial)
        elif not news.retained and news.online:
            self._hear(news.serial, news.recv_ms)
        elif not news.online and not (news.retained and news.serial in self._heard_ms):
            self.seen.setdefault(news.serial, Seen()).online = False

    def silent(self, now: datetime, listening_since: datetime | None) -> list[Finding]:
        """Who has been silent too long (R01). Silence before ``listening_since`` is our own and proves nothing."""
        now_ms = to_ms(now)
        alone = _alone(self._detectors, self.registry, self._heard_ms, now_ms)
        findings: list[Finding] = []
        for serial, detector in self._detectors.items():
            if listening_since is not None:
                listened_ms = now_ms - to_ms(listening_since)
                if listened_ms < _patience_ms(detector) + RAISE_MS:
                    continue
            said = detector.tick(now_ms, peers_online=alone.get(serial))
            if said:
                findings.extend(said)
                self.changed.add(serial)
                seen = self.seen.setdefault(serial, Seen())
                seen.online, seen.run_state = False, detector.state
        return findings

    def rearm(self, serial: str, at: datetime) -> tuple[Finding, ...]:
        """A repair was verified or waived at ``at``: close the episodes that were open then."""
        detector = self._detector(serial)
        at_ms = to_ms(at)
        if detector is None or not any(finding.raised_at <= at_ms for finding in detector.open_findings):
            return ()
        self.changed.add(serial)
        return detector.rearm(at_ms)

    def dumps(self) -> dict[str, dict[str, Any]]:
        """The rule states that changed."""
        return {serial: self._detectors[serial].dump() for serial in self.changed if serial in self._detectors}

    def kept(self, dumps: Mapping[str, dict[str, Any]]) -> None:
        """These states are safe now."""
        self._dumps.update(dumps)
        self.changed -= dumps.keys()

    def _hear(self, serial: str, heard_ms: int) -> Seen:
        seen = self.seen.setdefault(serial, Seen())
        if heard_ms >= self._heard_ms.get(serial, 0):
            self._heard_ms[serial] = heard_ms
            seen.last_seen_at = from_ms(heard_ms)
            seen.online = True
        return seen

    def _detector(self, serial: str) -> Detector | None:
        found = self._detectors.get(serial)
        unit = self.registry.units.get(serial)
        if found is not None or unit is None:
            return found
        try:
            card = dataclasses.replace(card_of(unit.type, unit.model), site_altitude_m=unit.altitude_m)
        except NotFoundError as error:
            log.warning("machine_without_card", serial=serial, why=str(error))
            return None
        dumped = self._dumps.get(serial)
        found = _resumed(card, serial, dumped)
        if found.interval_s is None:
            found.interval_s = unit.interval_s
        self._detectors[serial] = found
        return found


def _resumed(card: ModelCard, serial: str, dumped: Mapping[str, Any] | None) -> Detector:
    """The machine's rules where they were; anew where nothing was kept, or nothing that can be used."""
    if dumped is not None:
        try:
            return Detector.load(card, serial, dumped)
        except Exception:
            log.exception("rule_state_unusable", serial=serial)
    return Detector(card, serial)


def _nameplate(unit: Unit | None) -> tuple[str, str, float] | None:
    return (unit.type, unit.model, unit.altitude_m) if unit else None


def _patience_ms(detector: Detector) -> int:
    return max(round(3000 * (detector.interval_s or UNKNOWN_INTERVAL_S)), PATIENCE_MS)


def _alone(
    detectors: Mapping[str, Detector], registry: Registry, heard_ms: Mapping[str, int], now_ms: int
) -> dict[str, bool | None]:
    """For each machine whether others of its site are heard; None where it has no neighbours."""
    neighbours: Counter[int] = Counter()
    audible: Counter[int] = Counter()
    heard = {
        serial: now_ms - heard_ms.get(serial, 0) < _patience_ms(detector) for serial, detector in detectors.items()
    }
    sites = {serial: registry.units[serial].site_id for serial in detectors if serial in registry.units}
    for serial, site in sites.items():
        neighbours[site] += 1
        audible[site] += heard[serial]
    return {
        serial: None if neighbours[site] < 2 else audible[site] - heard[serial] > 0 for serial, site in sites.items()
    }

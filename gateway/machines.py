"""The machines as the gateway sees them: rule engines, what each said last, and who is silent."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import orjson
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
from gateway.core import library as core
from gateway.core.programs import spec_of
from gateway.messages import Birth, Neighbour, Registry, Status, Unit

PATIENCE_MS, RAISE_MS = 90_000, 180_000
UNKNOWN_INTERVAL_S = 300.0
"""As R01: 3 intervals, at least 90 s, and 180 s more; 300 s where the interval is unknown (equipment.md §6)."""
BORROWED = 500
"""So many memories are borrowed from the compiled core at a time, where all machines are looked at."""

log = structlog.get_logger()


def registry_of(
    machines: Iterable[Machine],
    shards: frozenset[int],
    default_zone: ZoneInfo,
    before: Mapping[str, Unit] = MappingProxyType({}),
) -> Registry:
    """The registered machines that the gateway of these shards hears; one without a usable zone has the default one.

    Those that are as they were ``before`` are the same objects: ten thousand are not there twice.
    """
    ours: list[Unit] = []
    others: list[Neighbour] = []
    for machine in machines:
        if _home(machine) not in shards:
            if machine.last_seen_at is not None:
                others.append(Neighbour(machine.site_id, to_ms(machine.last_seen_at), machine.interval_s))
            continue
        unit = Unit(
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
        known = before.get(machine.serial)
        ours.append(unit if known is None or known != unit else known)
    sites = {unit.site_id for unit in ours}
    return Registry.of(ours, [other for other in others if other.site_id in sites])


def _home(machine: Machine) -> int:
    """Whose gateway hears the machine. The topics of foreign conventions name no shard, whatever the serial hashes to."""
    return wire.FOREIGN_SHARD if machine.convention else int(wire.shard_of(machine.serial))


def _zone(name: str, default: ZoneInfo) -> ZoneInfo:
    try:
        return ZoneInfo(name) if name else default
    except (KeyError, ValueError, OSError):
        return default


class Machines:
    """One rule engine per registered machine. Belongs to one thread.

    With ``compiled`` the machines of the native convention live in the compiled core, which folds their ordinary samples (see
    ``take``). Whatever else is asked about one borrows its memory for a :class:`Detector` here; ``settle`` brings it home.
    """

    def __init__(self, *, compiled: bool = False) -> None:
        self.registry = Registry()
        self.seen: dict[str, Seen] = {}
        """What is new since the last flush."""
        self.watermark_ms = 0
        """The latest device time taken in."""
        self.skew_ms: dict[str, int] = {}
        """Receipt minus the machine's own time, of its latest sample; the way here counts as skew too."""
        self.unknown_keys = 0
        """Values that the compiled core has left out, as no channel has their key."""
        self._changed: set[str] = set()
        self._detectors: dict[str, Detector] = {}
        self._kept: dict[str, bytes] = {}
        """Memories as JSON: of machines that have not spoken yet, and where one begins anew whose rules broke."""
        self._asleep: set[str] = set()
        """Machines of an earlier life that have not been looked at in this one: they may be silent, too."""
        self._heard_ms: dict[str, int] = {}
        self._compiled = compiled
        self._fleet = core.Fleet() if compiled else None
        self._specs: dict[ModelCard, int | None] = {}
        self._homes: dict[str, int] = {}
        """Machines that live in the compiled core, and by which spec."""
        self._at_the_door: Collection[str] = ()

    def restore(self, dumps: Mapping[str, bytes]) -> None:
        """Begin with the rule states of an earlier life, each as JSON."""
        self._kept = dict(dumps)
        self._asleep = set(dumps)
        self._detectors.clear()
        self._changed.clear()
        if self._compiled:
            self._fleet, self._specs, self._homes = core.Fleet(), {}, {}
            self._move_in()

    def adopt(self, dumps: Mapping[str, bytes]) -> None:
        """Go on with the rule states that another gateway has left of machines that are ours now, each as JSON."""
        self._kept.update(dumps)
        self._asleep |= dumps.keys()

    def use(self, registry: Registry, *, at_the_door: Collection[str] = ()) -> None:
        """Work with another registry; a machine that became another model goes on with its memory and the new card.

        What machines ``at_the_door`` say is not for the rules yet: somebody has to look at each message.
        """
        before, door = self.registry, self._at_the_door
        self.registry, self._at_the_door = registry, at_the_door
        if registry.units is before.units and at_the_door == door:
            return
        for serial in {*self._detectors, *self._homes}:
            moved = _nameplate(registry.units.get(serial)) != _nameplate(before.units.get(serial))
            if moved or (serial in at_the_door and serial in self._homes):
                self._move_out(serial)
        self._move_in()

    @property
    def changed(self) -> bool:
        """Whether a rule state differs from the one that was kept last."""
        return bool(self._changed) or (self._fleet is not None and self._fleet.changed > 0)

    @property
    def compiled(self) -> bool:
        """Whether ``take`` can be called."""
        return self._fleet is not None

    def take(self, chunk: bytes) -> core.Folded:
        """Fold the ordinary samples in a chunk of the spool. Raises CoreFailed.

        What is odd comes back: it has to be decoded and folded here, and then ``settle`` called.
        """
        assert self._fleet is not None
        folded = self._fleet.take(chunk)
        self.watermark_ms = max(self.watermark_ms, folded.watermark_ms)
        return folded

    def fold(self, reading: Reading) -> tuple[Finding, ...]:
        """Take in a reading; returns what it raised and cleared."""
        detector = self._detector(reading.serial)
        if detector is None:
            return ()
        try:
            findings = detector.fold(reading)
        except Exception:
            del self._detectors[reading.serial]  # half-changed: the next reading starts from what was kept last
            self._move_in(reading.serial)
            raise
        self._changed.add(reading.serial)
        heard_ms = reading.ts if reading.recv_ms is None else reading.recv_ms
        seen = self._hear(reading.serial, heard_ms)
        if not reading.backfill:
            self.skew_ms[reading.serial] = heard_ms - (reading.ts if reading.device_ts is None else reading.device_ts)
            self.watermark_ms = max(self.watermark_ms, reading.ts)
            seen.last_ts_ms = max(seen.last_ts_ms or 0, reading.ts)
            seen.latest.update(reading.values)
            seen.run_state = detector.state
        return findings

    def settle(self) -> None:
        """Bring the memories home that were borrowed from the compiled core."""
        if self._fleet is None:
            return
        for serial in [serial for serial in self._detectors if serial in self._homes]:
            memory, changed = self._detectors[serial].dump(), serial in self._changed
            topic = _topic(self.registry.units[serial])
            if self._fleet.put(serial, topic, self._homes[serial], memory=memory, changed=changed):
                del self._detectors[serial]
                self._changed.discard(serial)
                self._kept.pop(serial, None)
            else:
                log.error("memory_not_taken", serial=serial)
                del self._homes[serial]  # it stays here

    def told(self, news: Birth | Status) -> None:
        """Take in a birth or a state. What was retained is no sign of life."""
        if isinstance(news, Birth):
            seen = self.seen.setdefault(news.serial, Seen())
            seen.fw, seen.simulated, seen.interval_s = news.fw, news.simulated, news.interval_s or seen.interval_s
            if news.interval_s is not None:
                self._pace(news.serial, news.interval_s)
        elif not news.retained and news.online:
            self._hear(news.serial, news.recv_ms)
        elif not news.online and not (news.retained and news.serial in self._heard_ms):
            self.seen.setdefault(news.serial, Seen()).online = False

    def silent(
        self, now: datetime, listening_since: datetime | None, between: Callable[[], None] = lambda: None
    ) -> list[Finding]:
        """Who has been silent too long (R01). Silence before ``listening_since`` is our own and proves nothing. ``between`` is
        called now and then where many are: ten thousand take half a minute."""
        now_ms = to_ms(now)
        for serial in self._asleep - self._homes.keys():
            self._detector(serial)
        self._asleep.clear()
        rhythms: dict[str, tuple[int, float | None]] = {
            serial: (self._heard_ms.get(serial, 0), detector.interval_s) for serial, detector in self._detectors.items()
        }
        suspects = list(self._detectors)
        if self._fleet is not None and (quiet := self._fleet.silent(now_ms, PATIENCE_MS, RAISE_MS)):
            self.listen()
            suspects += quiet
            for serial, (heard_ms, interval_s) in self._fleet.tell(core.RHYTHMS).items():
                rhythms[serial] = (max(heard_ms or 0, self._heard_ms.get(serial, 0)), interval_s)
        alone = _alone(rhythms, self.registry, now_ms) if suspects else {}
        findings: list[Finding] = []
        for nth, serial in enumerate(suspects, start=1):
            if nth % BORROWED == 0:
                self.settle()
                between()
            if listening_since is not None:
                listened_ms = now_ms - to_ms(listening_since)
                if listened_ms < _patience_ms(rhythms[serial][1]) + RAISE_MS:
                    continue
            detector = self._detector(serial)
            said = detector.tick(now_ms, peers_online=alone.get(serial)) if detector else ()
            if detector and said:
                findings.extend(said)
                self._changed.add(serial)
                seen = self.seen.setdefault(serial, Seen())
                seen.online, seen.run_state = False, detector.state
        self.settle()
        return findings

    def rearm(self, serial: str, at: datetime) -> tuple[Finding, ...]:
        """A repair was verified or waived at ``at``: close the episodes that were open then."""
        detector = self._detector(serial)
        at_ms = to_ms(at)
        if detector is None or not any(finding.raised_at <= at_ms for finding in detector.open_findings):
            self.settle()
            return ()
        self._changed.add(serial)
        said = detector.rearm(at_ms)
        self.settle()
        return said

    def listen(self) -> None:
        """Take up what the compiled core has heard: ``seen`` and ``skew_ms`` are whole then."""
        if self._fleet is None:
            return
        self.unknown_keys += sum(self._fleet.tell(core.STRANGERS).values())
        for serial, news in self._fleet.tell(core.NEWS).items():
            latest = news["heard_ms"] >= self._heard_ms.get(serial, 0)
            seen = self._hear(serial, news["heard_ms"])
            if news["last_ts"] is None:
                continue
            if latest:
                self.skew_ms[serial] = news["skew_ms"]
            newer = seen.last_ts_ms is None or news["last_ts"] >= seen.last_ts_ms
            seen.latest = {**seen.latest, **news["latest"]} if newer else {**news["latest"], **seen.latest}
            if newer:
                seen.last_ts_ms, seen.run_state = news["last_ts"], news["state"]

    def dumps(self) -> dict[str, Any]:
        """The rule states here that changed, as what becomes JSON."""
        return {serial: self._detectors[serial].dump() for serial in self._changed if serial in self._detectors}

    def memories(self) -> Iterator[dict[str, Any]]:
        """The rule states in the compiled core that changed, as JSON, some hundreds at a time."""
        yield from () if self._fleet is None else self._fleet.memories()

    def kept(self, dumps: Mapping[str, Any]) -> None:
        """These states, and all ``memories`` that changed, are safe now."""
        if self._fleet is not None:
            self._fleet.kept()
        self._kept.update({serial: orjson.dumps(dump) for serial, dump in dumps.items() if serial not in self._homes})
        self._changed -= dumps.keys()

    def _hear(self, serial: str, heard_ms: int) -> Seen:
        seen = self.seen.setdefault(serial, Seen())
        if heard_ms >= self._heard_ms.get(serial, 0):
            self._heard_ms[serial] = heard_ms
            seen.last_seen_at = from_ms(heard_ms)
            seen.online = True
        return seen

    def _pace(self, serial: str, interval_s: float) -> None:
        if serial in self._homes and serial not in self._detectors and self._fleet is not None:
            self._fleet.interval(serial, interval_s)
            return
        detector = self._detector(serial)
        if detector is not None:
            detector.interval_s = interval_s
            self._changed.add(serial)

    def _detector(self, serial: str) -> Detector | None:
        found = self._detectors.get(serial)
        unit = self.registry.units.get(serial)
        if found is not None or unit is None:
            return found
        card = _card(unit)
        if card is None:
            return None
        if self._fleet is not None and serial in self._homes and (memory := self._fleet.lend(serial)) is not None:
            self._kept[serial] = orjson.dumps(memory)  # should the rules break, it goes on from here
        found = _resumed(card, serial, self._kept.get(serial))
        if found.interval_s is None:
            found.interval_s = unit.interval_s
        self._detectors[serial] = found
        return found

    def _move_in(self, *serials: str) -> None:
        """Give machines, or all that can live there, to the compiled core."""
        if self._fleet is None:
            return
        for serial in serials or self.registry.units:
            unit = self.registry.units.get(serial)
            at_home = serial in self._homes and not serials
            if unit is None or unit.convention or at_home or serial in self._at_the_door:
                continue
            card = _card(unit)
            if card is None:
                continue
            if card not in self._specs:
                self._specs[card] = self._spec(self._fleet, card)
            spec = self._specs[card]
            if spec is None:
                continue
            if serial in self._detectors:
                self._homes[serial] = spec  # brought home when this is settled
                continue
            memory = orjson.loads(self._kept.get(serial, b"null"))
            changed = serial in self._changed
            if self._fleet.put(serial, _topic(unit), spec, interval_s=unit.interval_s, memory=memory, changed=changed):
                self._homes[serial] = spec
                self._changed.discard(serial)
                self._kept.pop(serial, None)

    def _spec(self, fleet: core.Fleet, card: ModelCard) -> int | None:
        """The number of a nameplate in the compiled core; None where its rules have no form there."""
        said = spec_of(card)
        return None if said is None else fleet.add_spec(said)

    def _move_out(self, serial: str) -> None:
        """Keep a machine's memory here, until it moves in again under another nameplate, or for good."""
        if serial in self._detectors:
            self._kept[serial] = orjson.dumps(self._detectors.pop(serial).dump())
        elif self._fleet is not None and serial in self._homes:
            self._kept[serial] = orjson.dumps(self._fleet.lend(serial))
            self._changed.add(serial)
        self._homes.pop(serial, None)


def _resumed(card: ModelCard, serial: str, kept: bytes | None) -> Detector:
    """The machine's rules where they were; anew where nothing was kept, or nothing that can be used."""
    if kept is not None:
        try:
            return Detector.load(card, serial, orjson.loads(kept))
        except Exception:
            log.exception("rule_state_unusable", serial=serial)
    return Detector(card, serial)


def _card(unit: Unit) -> ModelCard | None:
    try:
        return dataclasses.replace(card_of(unit.type, unit.model), site_altitude_m=unit.altitude_m)
    except NotFoundError as error:
        log.warning("machine_without_card", serial=unit.serial, why=str(error))
        return None


def _topic(unit: Unit) -> str:
    """Of its telemetry: by that the compiled core knows a machine."""
    return wire.up(unit.type, unit.serial, "telemetry")


def _nameplate(unit: Unit | None) -> tuple[str, str, float, str] | None:
    return (unit.type, unit.model, unit.altitude_m, unit.convention) if unit else None


def _patience_ms(interval_s: float | None) -> int:
    return max(round(3000 * (interval_s or UNKNOWN_INTERVAL_S)), PATIENCE_MS)


def _alone(rhythms: Mapping[str, tuple[int, float | None]], registry: Registry, now_ms: int) -> dict[str, bool | None]:
    """For each machine whether others of its site are heard; None where it has no neighbours. ``rhythms``: when each was heard
    last (ms), and its interval (s)."""
    neighbours: Counter[int] = Counter()
    audible: Counter[int] = Counter()
    heard = {serial: now_ms - heard_ms < _patience_ms(interval_s) for serial, (heard_ms, interval_s) in rhythms.items()}
    sites = {serial: registry.units[serial].site_id for serial in rhythms if serial in registry.units}
    for serial, site in sites.items():
        neighbours[site] += 1
        audible[site] += heard[serial]
    for other in registry.neighbours:
        neighbours[other.site_id] += 1
        audible[other.site_id] += now_ms - other.heard_ms < _patience_ms(other.interval_s)
    return {
        serial: None if neighbours[site] < 2 else audible[site] - heard[serial] > 0 for serial, site in sites.items()
    }

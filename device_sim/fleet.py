"""Many machines, deterministic from one seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from device_sim.faults import fault_named, inflict, mend, nearest
from device_sim.machine import Machine, Publication
from device_sim.profiles import BUILDERS, CARDS, Use
from device_sim.site import PmSeries, Site, Timetable
from domain.catalogue.model import ModelCard
from domain.errors import InvalidError, NotFoundError

CHUNK_MS = 60_000
"""Virtual time per step of a run at full speed."""
MACHINES_PER_SITE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """One machine of a fleet. ``batches`` are seconds after the fleet's start (None: daily life); ``level`` fixes a fan."""

    serial: str
    type: str
    model: str
    site: Site
    interval_s: int = 30
    batches: tuple[float, ...] | None = None
    batch_share: float = 1.0
    level: int | None = None
    seed: int | None = None
    card: ModelCard | None = None
    pm25: PmSeries | None = None


def build(spec: MachineSpec, *, seed: int, start_ms: int) -> Machine:
    """A machine alive from ``start_ms`` on; its own chance comes from (seed, serial).

    Raises InvalidError, naming field and nearest name, for a type, model, serial or level that cannot be.
    """
    if spec.type not in CARDS:
        near = nearest(spec.type, CARDS)
        raise InvalidError("No equipment type {type}{near}", field="type", type=spec.type, near=near)
    card = spec.card or CARDS[spec.type].get(spec.model)
    if card is None:
        near = nearest(spec.model, CARDS[spec.type])
        raise InvalidError("No model {model}{near}", field="model", model=spec.model, near=near)
    rng = random.Random(f"{seed if spec.seed is None else spec.seed}:{spec.serial}")
    fixed = (
        None if spec.batches is None else tuple((start_ms + round(s * 1000), spec.batch_share) for s in spec.batches)
    )
    timetable = Timetable(f"{seed}:{spec.serial}", spec.site.utc_offset_h, fixed)
    use = Use(timetable=timetable, level=spec.level, pm25=spec.pm25)
    try:
        physics = BUILDERS[spec.type](card, spec.site, use, rng)
        return Machine(spec.serial, card, physics, rng, start_ms=start_ms, interval_s=spec.interval_s)
    except ValueError as error:
        raise InvalidError("{reason}", reason=str(error)) from error


def everyday(equipment_type: str, count: int, *, seed: int, interval_s: int = 30) -> list[MachineSpec]:
    """``count`` healthy machines of one type, models in turn, four to a site, serials ``SIM-<TYPE>-0001`` and on."""
    if equipment_type not in CARDS:
        near = nearest(equipment_type, CARDS)
        raise InvalidError("No equipment type {type}{near}", field="type", type=equipment_type, near=near)
    rng = random.Random(f"sites:{seed}")
    sites = [
        Site(
            name=f"site-{k + 1:03d}",
            altitude_m=0.0,
            tap_c=rng.uniform(12.0, 22.0),
            tap_mpa=rng.uniform(0.2, 0.35),
            outdoor_c=rng.uniform(0.0, 22.0),
            pm25_median=rng.uniform(35.0, 120.0),
            seed=seed,
        )
        for k in range(-(-count // MACHINES_PER_SITE))
    ]
    models = list(CARDS[equipment_type])
    return [
        MachineSpec(
            serial=f"SIM-{equipment_type.upper()}-{k + 1:04d}",
            type=equipment_type,
            model=models[k % len(models)],
            site=sites[k // MACHINES_PER_SITE],
            interval_s=interval_s,
        )
        for k in range(count)
    ]


class Fleet:
    """Machines that live in the same time, from ``start_ms`` on."""

    def __init__(self, machines: Iterable[Machine], *, start_ms: int) -> None:
        self.start_ms = self.now_ms = start_ms
        self.machines: dict[str, Machine] = {}
        for machine in machines:
            if self.machines.setdefault(machine.serial, machine) is not machine:
                raise InvalidError(
                    "Two machines have the serial number {serial}", field="serial", serial=machine.serial
                )
        self._by_command = {machine.command_topic: machine for machine in self.machines.values()}

    @classmethod
    def build(cls, specs: Iterable[MachineSpec], *, seed: int, start_ms: int) -> Fleet:
        """Machines of ``specs``; raises InvalidError."""
        return cls((build(spec, seed=seed, start_ms=start_ms) for spec in specs), start_ms=start_ms)

    def advance(self, to_ms: int) -> list[Publication]:
        """What all machines publish until ``to_ms``, by time."""
        self.now_ms = max(self.now_ms, to_ms)
        return in_order(p for machine in self.machines.values() for p in machine.advance(to_ms))

    def receive(self, topic: str, payload: bytes, now_ms: int) -> list[Publication]:
        """Hand a command to the machine it is for; strangers' topics are nobody's."""
        machine = self._by_command.get(topic)
        return machine.receive(topic, payload, now_ms) if machine else []

    def inflict(self, serial: str, fault_key: str, now_ms: int) -> list[Publication]:
        """Let a cause of ``faults.FAULTS`` come true; raises InvalidError or NotFoundError."""
        machine = self.machine(serial)
        fault = fault_named(fault_key, machine.card.type, machine.card.heater_elements)
        return machine.touch(now_ms, lambda physics: inflict(fault, physics))

    def mend(self, serial: str, fault_key: str, now_ms: int, *, complete: bool = True) -> list[Publication]:
        """Undo a cause, wholly or half; raises InvalidError or NotFoundError."""
        machine = self.machine(serial)
        fault = fault_named(fault_key, machine.card.type, machine.card.heater_elements)
        return machine.touch(now_ms, lambda physics: mend(fault, physics, complete=complete))

    def machine(self, serial: str) -> Machine:
        """The machine; raises NotFoundError with the nearest serial."""
        found = self.machines.get(serial)
        if found is None:
            raise NotFoundError("No machine {serial}{near}", serial=serial, near=nearest(serial, self.machines))
        return found

    def run(self, to_ms: int, *, chunk_ms: int = CHUNK_MS) -> Iterator[list[Publication]]:
        """``advance`` in chunks of virtual time."""
        while self.now_ms < to_ms:
            yield self.advance(min(to_ms, self.now_ms + chunk_ms))


def in_order(publications: Iterable[Publication]) -> list[Publication]:
    """By time; equal times keep their order."""
    return sorted(publications, key=lambda p: p.ts)


@dataclass
class Tally:
    """Counts and a fingerprint of what a fleet said: equal for equal seeds, whatever the chunks."""

    messages: int = 0
    samples: int = 0
    last_ts: int = 0

    def __post_init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, publications: Sequence[Publication]) -> None:
        """Count ``publications``."""
        for publication in publications:
            self._digest.update(publication.topic.encode() + b" " + publication.payload + b"\n")
            self.samples += len(publication.objects)
            self.last_ts = publication.ts
        self.messages += len(publications)

    @property
    def sha256(self) -> str:
        """Fingerprint so far."""
        return self._digest.hexdigest()

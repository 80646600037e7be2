"""Fleets: one seed, one output; faults and repairs by name."""

from __future__ import annotations

import pytest

from device_sim.faults import FAULTS, fault_named, inflict, mend
from device_sim.fleet import Fleet, MachineSpec, Tally, build, everyday
from device_sim.profiles import CARDS
from domain.errors import InvalidError, NotFoundError
from tests.unit.device_sim.machines import SITE, START, freshair, objects, soymilk

HOUR = 3_600_000


def tally(seed: int, chunk_ms: int, equipment_type: str = "soymilk") -> Tally:
    """Six hours of four machines."""
    fleet = Fleet.build(everyday(equipment_type, 4, seed=seed), seed=seed, start_ms=START)
    found = Tally()
    for publications in fleet.run(START + 6 * HOUR, chunk_ms=chunk_ms):
        found.add(publications)
    return found


@pytest.mark.parametrize("equipment_type", sorted(CARDS))
def test_the_same_seed_gives_the_same_bytes_whatever_the_chunks(equipment_type: str) -> None:
    one, same, chunked, other = (
        tally(seed, chunk, equipment_type) for seed, chunk in ((7, 60_000), (7, 60_000), (7, 1_337_000), (8, 60_000))
    )
    assert one.sha256 == same.sha256 == chunked.sha256
    assert one.sha256 != other.sha256
    assert one.samples >= 4 * 6 * 120


def test_two_machines_of_one_fleet_are_not_twins() -> None:
    fleet = Fleet.build(everyday("soymilk", 4, seed=1), seed=1, start_ms=START)
    sent = fleet.advance(START + HOUR)
    first, fourth = fleet.machines["SIM-SOYMILK-0001"], fleet.machines["SIM-SOYMILK-0004"]
    assert first.card == fourth.card
    heard = [[s["voltage_v"] for s in objects(p for p in sent if p.serial == m.serial)] for m in (first, fourth)]
    assert heard[0] != heard[1]


def test_a_machine_keeps_its_character_when_others_join() -> None:
    alone = Fleet.build(everyday("soymilk", 1, seed=5), seed=5, start_ms=START)
    among = Fleet.build(everyday("soymilk", 3, seed=5), seed=5, start_ms=START)
    serial = "SIM-SOYMILK-0001"
    expected = [p.payload for p in alone.advance(START + HOUR)]
    assert [p.payload for p in among.advance(START + HOUR) if p.serial == serial] == expected


def test_publications_of_a_fleet_come_in_order_of_time() -> None:
    fleet = Fleet.build(everyday("freshair", 5, seed=1), seed=1, start_ms=START)
    times = [p.ts for p in fleet.advance(START + HOUR)]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"type": "soymlik"}, "type", "did you mean soymilk?"),
        ({"model": "SMM-6"}, "model", "did you mean SMM-60?"),
        ({"serial": "has space"}, None, "serial"),
        ({"type": "freshair", "model": "FAU-150", "level": 4}, None, "level"),
    ],
)
def test_a_machine_that_cannot_be_is_refused_by_name(change: dict[str, object], field: str | None, says: str) -> None:
    values: dict[str, object] = {"serial": "S", "type": "soymilk", "model": "SMM-60", "site": SITE, **change}
    with pytest.raises(InvalidError, match=says) as caught:
        build(MachineSpec(**values), seed=1, start_ms=START)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_two_machines_cannot_share_a_serial() -> None:
    spec = MachineSpec(serial="S", type="soymilk", model="SMM-60", site=SITE)
    with pytest.raises(InvalidError, match="S"):
        Fleet.build([spec, spec], seed=1, start_ms=START)


def test_faults_are_found_by_name_and_only_where_they_can_be() -> None:
    fleet = Fleet.build(everyday("soymilk", 1, seed=1), seed=1, start_ms=START)
    with pytest.raises(InvalidError, match="did you mean no_water"):
        fleet.inflict("SIM-SOYMILK-0001", "no_watter", START)
    with pytest.raises(InvalidError, match="fan_dead"):
        fleet.inflict("SIM-SOYMILK-0001", "fan_dead", START)
    with pytest.raises(InvalidError, match="several elements"):
        fleet.inflict("SIM-SOYMILK-0001", "one_element_lost", START)
    with pytest.raises(NotFoundError, match="did you mean SIM-SOYMILK-0001"):
        fleet.inflict("SIM-SOYMILK-001", "no_water", START)


@pytest.mark.parametrize("key", FAULTS)
def test_a_complete_repair_leaves_a_healthy_machine(key: str) -> None:
    fault = FAULTS[key]
    for physics in (soymilk(), freshair()):
        if fault.type not in ("", physics.card.type):
            continue
        healthy = type(physics.condition)()
        inflict(fault, physics)
        assert physics.condition != healthy
        mend(fault, physics)
        physics.step(START, 1000)
        assert physics.condition == healthy


@pytest.mark.parametrize("key", FAULTS)
def test_an_incomplete_repair_leaves_something_broken_or_is_refused(key: str) -> None:
    fault = FAULTS[key]
    physics = freshair() if fault.type == "freshair" else soymilk()
    inflict(fault, physics)
    if fault.half is None:
        with pytest.raises(InvalidError, match="incompletely"):
            mend(fault, physics, complete=False)
    else:
        mend(fault, physics, complete=False)
        assert physics.condition != type(physics.condition)()


def test_an_element_replaced_incompletely_leaves_one_of_three_open_and_a_second_repair_heals_it() -> None:
    physics, fault = soymilk(), fault_named("heater_element_open", "soymilk")
    inflict(fault, physics)
    mend(fault, physics, complete=False)
    assert (physics.condition.heater_open, physics.condition.elements_open) == (False, 1)
    mend(fault, physics)
    assert (physics.condition.heater_open, physics.condition.elements_open) == (False, 0)

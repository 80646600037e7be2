"""What /metrics says is what happened; the dashboard and the alert rules speak of nothing else."""

from __future__ import annotations

import json
import random
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from domain import wire
from domain.clock import SystemClock, to_ms
from domain.errors import SettingsError, UnavailableError
from domain.metrics import registry_of, serving
from domain.settings import load
from gateway import metrics
from gateway.ingest.receiver import Batch
from gateway.ingest.writer import DELAYS_S
from gateway.messages import Message
from gateway.service import Gateway
from portal.metrics import Requests
from tests.unit.gateway.plant import prepare

DASHBOARDS = Path(metrics.__file__).parent / "dashboards"
Scrape = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(gateway: Gateway) -> Scrape:
    """(sample, its labels) → value, as Prometheus would read it."""
    text = generate_latest(registry_of(lambda: metrics.of(gateway))).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Scrape, name: str, **labels: str) -> float:
    return found[f"brewair_{name}", tuple(sorted(labels.items()))]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    prepare(f"sqlite:///{tmp_path / 'brewair.db'}").engine.dispose()
    gateway = Gateway(load({"BREWAIR_DATA_DIR": str(tmp_path)}), SystemClock(), random.Random(1))
    gateway.pipeline.load()
    gateway.pipeline.telemetry.setup()
    yield gateway
    gateway.pipeline.close()


def message(serial: str, body: object, recv_ms: int) -> Message:
    return Message(wire.up("soymilk", serial, "telemetry"), orjson.dumps(body), recv_ms)


def test_a_gateway_that_has_done_nothing_says_so(gateway: Gateway) -> None:
    found = scrape(gateway)
    for name in ("messages_received_total", "messages_acked_total", "spool_lag_seconds", "sql_lag_seconds"):
        assert value(found, name) == 0
    assert value(found, "writes_total", result="retry") == 0
    assert value(found, "connected") == 0
    assert value(found, "machines") == 3
    assert value(found, "rx_to_stored_seconds_bucket", le="+Inf") == 0


def test_every_step_of_a_message_is_counted_where_it_happens(gateway: Gateway) -> None:
    now_ms = to_ms(SystemClock().now())
    pipeline = gateway.pipeline
    pipeline.accept(
        [
            message("SM-1", [{"ts": now_ms - 40_000 + n, "seq": n, "power_w": 6.0} for n in range(3)], now_ms - 40_000),
            message("SM-1", {"ts": now_ms + 7_200_000, "seq": 9, "power_w": 6.0}, now_ms),
            message("NOBODY", {"ts": now_ms, "power_w": 6.0}, now_ms),
            Message(wire.up("soymilk", "SM-2", "telemetry"), b"{broken", now_ms),
        ]
    )
    found = scrape(gateway)
    assert value(found, "messages_accepted_total") == 4
    assert 40 <= value(found, "spool_lag_seconds") < 100
    assert 40 <= value(found, "sql_lag_seconds") < 100
    assert value(found, "spool_waiting_bytes") == value(found, "spool_bytes") > 0
    while pipeline.detect():
        pass
    pipeline.drain()
    pipeline.detection.flush(SystemClock().now(), snapshot=True)
    found = scrape(gateway)
    assert value(found, "objects_decoded_total") == 4
    assert value(found, "quarantined_total", reason="unknown_serial") == 1
    assert value(found, "quarantined_total", reason="unreadable") == 1
    assert value(found, "readings_stored_total") == 5  # a stranger's readings too, until it is registered
    assert value(found, "writes_total", result="ok") == 1
    assert value(found, "spool_lag_seconds") == value(found, "sql_lag_seconds") == 0
    assert value(found, "spool_waiting_bytes") == 0
    assert value(found, "device_clock_skew_seconds") == 7200
    assert value(found, "device_clocks_ahead") == 1
    assert value(found, "rx_to_stored_seconds_bucket", le="30.0") == 3
    assert value(found, "rx_to_stored_seconds_bucket", le="300.0") == 4
    assert value(found, "rx_to_stored_seconds_count") == 4


def test_what_is_away_shows(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise UnavailableError("away")

    gateway.pipeline.accept([message("SM-1", {"ts": to_ms(SystemClock().now()), "power_w": 6.0}, 1)])
    with monkeypatch.context() as broken:
        broken.setattr(gateway.pipeline.telemetry, "write", away)
        with gateway.patience["telemetry"]:
            gateway.pipeline.store()
    found = scrape(gateway)
    assert value(found, "writes_total", result="retry") == 1
    assert (value(found, "well", part="telemetry"), value(found, "well", part="sql")) == (0, 1)


def test_received_and_acknowledged_are_counted_by_the_receiving_thread(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [Batch.of([message("SM-1", {"ts": 1}, 1)] * 5), Batch.of([message("SM-1", {"ts": 2}, 1)] * 2)]

    def receive(_timeout_s: float) -> Batch:
        if batches:
            return batches.pop()
        gateway._ending.set()
        return Batch()

    monkeypatch.setattr(gateway.receiver, "receive", receive)
    monkeypatch.setattr(gateway.receiver, "ack", lambda _batch: None)
    gateway._receive()
    found = scrape(gateway)
    assert value(found, "messages_received_total") == value(found, "messages_acked_total") == 7


def test_the_listener_answers_where_it_is_told_and_is_off_otherwise(gateway: Gateway) -> None:
    with serving(None, lambda: metrics.of(gateway)) as address:
        assert address == ""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with serving(("127.0.0.1", 0), lambda: metrics.of(gateway)) as address:
        with opener.open(address, timeout=10) as answer:
            text = answer.read().decode()
        port = int(re.findall(r":(\d+)/", address)[0])
        with pytest.raises(SettingsError, match="BREWAIR_METRICS_BIND"), serving(("127.0.0.1", port), lambda: ()):
            pass
    assert "brewair_messages_received_total 0.0" in text
    assert "process_resident_memory_bytes" in text
    assert load({}).metrics_bind is None


NAME = re.compile(r"\b(?:brewair|process)_\w+")


def exposed() -> set[str]:
    """Every sample name of both programs."""
    requests = Requests()
    requests.count("/x", "GET", 200)
    text = generate_latest(registry_of(lambda: requests.figures({"ready": 1}))).decode()
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def names_in(node: object) -> set[str]:
    if isinstance(node, dict):
        own = set(NAME.findall(node["expr"])) if "expr" in node else set()
        return own.union(*(names_in(inner) for inner in node.values()))
    return set().union(*map(names_in, node)) if isinstance(node, list) else set()


def test_the_dashboard_uses_only_what_exists(gateway: Gateway) -> None:
    dashboard = json.loads((DASHBOARDS / "grafana-dashboard.json").read_text(encoding="utf-8"))
    used = names_in(dashboard)
    assert len(used) > 20
    assert used <= exposed() | {name for name, _ in scrape(gateway)}
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert panel.get("targets") or panel["type"] == "row"


RULES = [
    rule
    for group in yaml.safe_load((DASHBOARDS / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
EXPRESSION = re.compile(
    r"(?:(increase)\()?(\w+)(?:\{(\w+)(!?=)\"(\w+)\"\})?(?:\[\w+\]\))?(?: / (\w+))? (>|<|==) ([\d.]+)(?: and (\w+) > 0)?"
)


def fires(rule: dict[str, str], before: Scrape, now: Scrape) -> bool:
    """Whether the rule's expression holds at ``now``; ``increase`` is what was added since ``before``."""
    match = EXPRESSION.fullmatch(rule["expr"])
    assert match, f"{rule['alert']}: not of a form that this test can evaluate"
    increase, name, label, how, wanted, share, relation, limit, besides = match.groups()
    if besides and now[besides, ()] <= 0:
        return False

    def look(found: Scrape) -> list[float]:
        return [
            v
            for (n, labels), v in found.items()
            if n == name and (not label or ((label, wanted) in labels) == (how == "="))
        ]

    assert look(now), f"{rule['alert']}: no sample {name}"
    grown = [b - a for a, b in zip(look(before), look(now), strict=True)] if increase else look(now)
    if share:
        grown = [one / now[share, ()] for one in grown]
    return any({">": one > float(limit), "<": one < float(limit), "==": one == float(limit)}[relation] for one in grown)


STEP_S = 15
SPAN_S = {"s": 1, "m": 60, "h": 3600}


def states(rule: dict[str, str], scrapes: list[Scrape]) -> list[str]:
    """What Prometheus says of a rule at each scrape, ``STEP_S`` apart: pending while its expression holds, firing once it has
    held for ``for``, and inactive as soon as it does not. ``increase`` looks back at what was there when the trouble began."""
    lasts_s = int(rule["for"][:-1]) * SPAN_S[rule["for"][-1]]
    said: list[str] = []
    held_s = -STEP_S
    for now in scrapes:
        held_s = held_s + STEP_S if fires(rule, scrapes[0], now) else -STEP_S
        said.append("inactive" if held_s < 0 else "firing" if held_s >= lasts_s else "pending")
    return said


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_waits_as_long_as_it_says_and_ends_with_its_trouble(gateway: Gateway, rule: dict[str, str]) -> None:
    healthy = scrape(gateway) | WELL
    broken = healthy | BREAKS[rule["alert"]]
    steps = int(rule["for"][:-1]) * SPAN_S[rule["for"][-1]] // STEP_S
    said = states(rule, [healthy, *[broken] * (steps + 2), healthy])
    assert said == ["inactive", *["pending"] * steps, "firing", "firing", "inactive"]
    if steps:
        assert "firing" not in states(rule, [healthy, *[broken] * steps, healthy, *[broken] * steps]), "it flickers"


def test_every_alert_says_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert re.fullmatch(r"[A-Z]\w+", rule["alert"])
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["cure"], "an alert without a cure wakes people for nothing"
        assert re.fullmatch(r"\d+[smh]", rule["for"])


BREAKS: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {
    "BrewairBrokerAway": {("brewair_connected", ()): 0},
    "BrewairTelemetryStoreAway": {("brewair_well", (("part", "telemetry"),)): 0},
    "BrewairSqlAway": {("brewair_well", (("part", "sql"),)): 0},
    "BrewairSpoolRefuses": {("brewair_well", (("part", "spool"),)): 0},
    "BrewairSpoolFilling": {("brewair_spool_waiting_bytes", ()): 7e9},
    "BrewairStorageBehind": {("brewair_spool_lag_seconds", ()): 700},
    "BrewairDetectionBehind": {("brewair_sql_lag_seconds", ()): 400},
    "BrewairCheckpointStale": {("brewair_checkpoint_age_seconds", ()): 700},
    "BrewairDataGivenUp": {("brewair_dropped_messages_total", ()): 1},
    "BrewairQos0Lost": {("brewair_dropped_qos0_messages_total", ()): 1},
    "BrewairTakeover": {("brewair_takeovers_total", ()): 1},
    "BrewairRecordLeftOut": {("brewair_records_left_out_total", ()): 1},
    "BrewairSpoolDamaged": {("brewair_spool_damaged_places_total", ()): 1},
    "BrewairPoison": {("brewair_quarantined_total", (("reason", "unwritable"),)): 101},
    "BrewairDeviceClockAhead": {("brewair_device_clocks_ahead", ()): 1},
    "BrewairDeviceClockBehind": {("brewair_device_clocks_behind", ()): 1},
    "BrewairUnclaimed": {("brewair_unclaimed_machines", ()): 1},
    "BrewairQuarantineFull": {("brewair_quarantine_given_up_total", ()): 1},
    "BrewairReconnecting": {("brewair_broker_connections_total", ()): 6},
}
WELL: Scrape = {("brewair_connected", ()): 1, ("brewair_shards", ()): 16}
STRANGERS = ("brewair_quarantined_total", (("reason", "unknown_serial"),))
HARMLESS: dict[str, tuple[Scrape, Scrape]] = {
    "a standby": ({}, {("brewair_connected", ()): 0, ("brewair_shards", ()): 0}),
    "strangers": ({STRANGERS: 0}, {STRANGERS: 5000}),
}
"""What is no trouble, before and after."""


def test_each_alert_fires_on_its_own_trouble_and_on_no_other(gateway: Gateway) -> None:
    assert {rule["alert"] for rule in RULES} == set(BREAKS)
    healthy = scrape(gateway) | WELL
    assert [rule["alert"] for rule in RULES if fires(rule, healthy, healthy)] == []
    for alert, broken in BREAKS.items():
        assert broken.keys() <= healthy.keys(), alert
        fired = [rule["alert"] for rule in RULES if fires(rule, healthy, healthy | broken)]
        assert fired == [alert]


@pytest.mark.parametrize("what", HARMLESS)
def test_no_alert_fires_on_what_is_no_trouble(gateway: Gateway, what: str) -> None:
    healthy = scrape(gateway) | WELL
    before, after = HARMLESS[what]
    assert [rule["alert"] for rule in RULES if fires(rule, healthy | before, healthy | after)] == []


def test_the_classes_of_the_delay_rise() -> None:
    assert list(DELAYS_S) == sorted(set(DELAYS_S))

"""The gateway's figures for Prometheus, read from the plain counters of its parts when somebody asks.

The dashboard and the alert rules in ``gateway/dashboards/`` use these names; a test holds them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from domain import __version__
from gateway.ingest.writer import DELAYS_S, Delays
from gateway.samples import AHEAD_MS, OLDEST_MS

if TYPE_CHECKING:
    from gateway.service import Gateway

Figure = Callable[["Gateway"], float]
Figures = Callable[["Gateway"], Mapping[str, float]]

COUNTERS: Mapping[str, tuple[str, Figure]] = {
    "messages_received": ("MQTT messages that came.", lambda g: g.received),
    "messages_accepted": ("Messages that are durable in the spool.", lambda g: g.pipeline.accepted),
    "messages_acked": ("Messages handed to the connection to be acknowledged.", lambda g: g.acknowledged),
    "objects_decoded": (
        "Samples, births, states and replies that could be used.",
        lambda g: g.pipeline.detection.decoded,
    ),
    "unknown_keys": ("Values left out because no channel has their key.", lambda g: g.pipeline.detection.unknown_keys),
    "readings_stored": ("Readings written to the telemetry store.", lambda g: g.pipeline.writer.stored),
    "broker_connections": (
        "Connections to the broker since the start; more than one is a reconnect.",
        lambda g: g.receiver.counts.connections,
    ),
    "takeovers": ("Alarms that another client has our client id.", lambda g: g.receiver.counts.takeovers),
    "dropped_qos0_messages": (
        "QoS 0 messages lost with a connection: paho's, our own receiver keeps what it has read.",
        lambda g: g.receiver.counts.dropped_qos0,
    ),
    "dropped_messages": (
        "Messages a full spool gave up (drop_oldest), in the life of its folder.",
        lambda g: g.dropped.counts.total(),
    ),
    "spool_torn_tails": ("Unfinished records cut off at the start.", lambda g: g.pipeline.spool.counts.torn),
    "spool_damaged_places": ("Damaged places skipped in the spool.", lambda g: g.pipeline.spool.damaged),
    "quarantine_given_up": (
        "Objects for which there was no room in quarantine (10,000 a machine).",
        lambda g: g.pipeline.detection.given_up,
    ),
    "records_left_out": ("Records at which the gateway died twice.", lambda g: g.pipeline.writer.left_out),
}
LABELLED: Mapping[str, tuple[str, str, Figures]] = {
    "quarantined": (
        "Objects put into quarantine.",
        "reason",
        lambda g: {**g.pipeline.detection.quarantined, "unwritable": g.pipeline.refused_points},
    ),
    "writes": (
        "Attempts to write a batch, by what became of them.",
        "result",
        lambda g: dict(g.pipeline.writer.writes),
    ),
    "http_answers": ("Answers of the telemetry store.", "code", lambda g: dict(g.pipeline.telemetry.answers)),
    "rule_events": (
        "Findings that rules raised and cleared.",
        "event",
        lambda g: dict(g.pipeline.detection.rule_events),
    ),
}
ALWAYS: Mapping[str, tuple[str, ...]] = {
    "writes": ("ok", "retry", "split", "refused"),
    "rule_events": ("raised", "cleared"),
    "http_answers": ("204", "none"),
}
"""Label values that are there from the start, so that the first of its kind is seen as an increase."""
GAUGES: Mapping[str, tuple[str, Figure]] = {
    "connected": ("1 while the broker talks to us and our subscriptions stand.", lambda g: g.receiver.connected),
    "spool_bytes": ("Bytes of all segments of the spool, kept ones too.", lambda g: g.pipeline.spool.size),
    "spool_max_bytes": ("BREWAIR_SPOOL_MAX_BYTES.", lambda g: g.pipeline.spool.max_bytes),
    "spool_waiting_bytes": (
        "Bytes of the spool that are not stored yet.",
        lambda g: g.pipeline.spool.end - g.pipeline.writer.position,
    ),
    "spool_lag_seconds": (
        "Age of the oldest message that is not in the telemetry store.",
        lambda g: g.pipeline.waiting_s(g.pipeline.writer.position),
    ),
    "sql_lag_seconds": (
        "Age of the oldest message whose consequences are not committed in SQL; up to 6 s is the usual rhythm.",
        lambda g: g.pipeline.waiting_s(g.pipeline.detection.committed),
    ),
    "checkpoint_age_seconds": (
        "Time since the checkpoint was brought up to what is stored.",
        lambda g: g.pipeline.writer.checkpoint_age_s,
    ),
    "device_clock_skew_seconds": (
        "Largest distance between receipt and a machine's own time, either way.",
        lambda g: max(map(abs, list(g.pipeline.machines.skew_ms.values())), default=0) / 1000,
    ),
    "device_clocks_ahead": (
        "Machines whose clock is further ahead than is believed.",
        lambda g: sum(skew_ms < -AHEAD_MS for skew_ms in list(g.pipeline.machines.skew_ms.values())),
    ),
    "device_clocks_behind": (
        "Machines whose clock is further behind than is believed (1970, say).",
        lambda g: sum(skew_ms > OLDEST_MS for skew_ms in list(g.pipeline.machines.skew_ms.values())),
    ),
    "unclaimed_machines": (
        "Machines that speak and that nobody has registered; what they say is held.",
        lambda g: g.pipeline.unclaimed,
    ),
    "shards": ("Shards that this gateway works; 0 while another one has them.", lambda g: len(g.pipeline.leases.held)),
    "machines": ("Registered machines of this gateway's shards.", lambda g: len(g.pipeline.registry.units)),
}


def of(gateway: Gateway) -> Iterator[Metric]:
    """Every figure of a running gateway, as it is now."""
    info = GaugeMetricFamily("brewair_gateway_info", "Version and name.", labels=("version", "gateway"))
    info.add_metric((__version__, gateway.name), 1)
    yield info
    for name, (text, figure) in COUNTERS.items():
        yield CounterMetricFamily(f"brewair_{name}", text, value=figure(gateway))
    for name, (text, label, figures) in LABELLED.items():
        family = CounterMetricFamily(f"brewair_{name}", text, labels=(label,))
        for value, count in sorted({**dict.fromkeys(ALWAYS.get(name, ()), 0.0), **figures(gateway)}.items()):
            family.add_metric((value,), count)
        yield family
    for name, (text, figure) in GAUGES.items():
        yield GaugeMetricFamily(f"brewair_{name}", text, value=figure(gateway))
    well = GaugeMetricFamily("brewair_well", "1 while spool, sql or telemetry can be used.", labels=("part",))
    for part, patience in gateway.patience.items():
        well.add_metric((part,), patience.well)
    yield well
    yield _delays(gateway.pipeline.writer.delays)


def _delays(delays: Delays) -> Metric:
    buckets: list[tuple[str, float]] = []
    messages = 0
    for limit, count in zip((*(str(limit) for limit in DELAYS_S), "+Inf"), delays.classes, strict=True):
        messages += count
        buckets.append((limit, messages))
    return HistogramMetricFamily(
        "brewair_rx_to_stored_seconds",
        "Time from the receipt of a message until it was in the telemetry store.",
        buckets=buckets,
        sum_value=delays.total_s,
    )

"""Fresh-air unit: channels and states (equipment.md §2.3, §3)."""

from __future__ import annotations

from domain.catalogue.common import COMMON
from domain.catalogue.model import Channel

CHANNELS = {
    channel.key: channel
    for channel in (
        *COMMON,
        Channel("pm25_in_ugm3", unit="µg/m³", low=0, high=999, resolution=1, minimum=True),
        Channel("pm25_out_ugm3", unit="µg/m³", low=0, high=999, resolution=1, minimum=True),
        Channel("co2_in_ppm", unit="ppm", low=300, high=5000, resolution=1),
        Channel("temp_out_c", unit="°C", low=-40, high=125, resolution=0.1),
        Channel("temp_supply_c", unit="°C", low=-40, high=125, resolution=0.1),
        Channel("temp_room_c", unit="°C", low=-40, high=125, resolution=0.1),
        Channel("rh_out_pct", unit="%", low=0, high=100, resolution=1),
        Channel("rh_room_pct", unit="%", low=0, high=100, resolution=1),
        Channel("airflow_m3h", unit="m³/h", low=0, high=1000, resolution=1),
        Channel("fan_supply_rpm", unit="rpm", low=0, high=65_535, resolution=1),
        Channel("fan_exhaust_rpm", unit="rpm", low=0, high=65_535, resolution=1),
        Channel("filter_dp_pa", unit="Pa", low=0, high=500, resolution=1),
        Channel("filter_life_pct", unit="%", low=0, high=100, resolution=1, minimum=True),
        Channel("filter_used_h", unit="h", low=0, high=10_000, resolution=1),
        Channel("ptc_on", "bool"),
        Channel("damper_pct", unit="%", low=0, high=100, resolution=1),
        Channel("bypass", "bool"),
    )
}

STATES = (
    "offline", "off", "standby", "starting", "running", "preheating", "defrost", "filter_service", "paused", "fault", "test",
)  # fmt: skip

ACTIVE_STATES = frozenset(("starting", "running", "preheating"))
"""§7.0."""

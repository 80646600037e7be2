"""Soy-milk machine: channels and states (equipment.md §2.2, §3)."""

from __future__ import annotations

from domain.catalogue.common import COMMON
from domain.catalogue.model import Channel

CHANNELS = {
    channel.key: channel
    for channel in (
        *COMMON,
        Channel("water_flow_lpm", unit="L/min", low=0, high=30, resolution=0.1, minimum=True),
        Channel("water_total_l", unit="L", low=0, resolution=0.01, minimum=True),
        Channel("water_pressure_mpa", unit="MPa", low=0, high=1, resolution=0.01),
        Channel("water_level_pct", unit="%", low=0, high=100, resolution=1, minimum=True),
        Channel("level_low", "bool", minimum=True),
        Channel("level_high", "bool", minimum=True),
        Channel("temp_c", unit="°C", low=-10, high=130, resolution=0.1),
        Channel("temp_heater_c", unit="°C", low=0, high=300, resolution=1),
        Channel("overflow_electrode", "bool"),
        Channel("inlet_valve", "bool"),
        Channel("drain_valve", "bool"),
        Channel("heater_on", "bool"),
        Channel("motor_on", "bool"),
        Channel("batch_id", "str"),
        Channel("recipe", "str"),
        Channel("batch_target_l", unit="L", low=0, high=500, resolution=0.1),
    )
}

STATES = (
    "offline", "off", "standby", "filling", "soaking", "grinding", "heating", "boil_hold", "filtering", "dispensing",
    "keep_warm", "cleaning", "paused", "fault", "test",
)  # fmt: skip

ACTIVE_STATES = frozenset(
    ("filling", "soaking", "grinding", "heating", "boil_hold", "filtering", "dispensing", "keep_warm", "cleaning")
)
"""Every state from filling to cleaning, keep_warm included (§7.0)."""

"""Channels that every machine may have (equipment.md §2.1)."""

from __future__ import annotations

from domain.catalogue.model import Channel

PHASES = ("a", "b", "c")

COMMON = (
    Channel("voltage_v", unit="V", low=0, high=450, resolution=0.1, minimum=True),
    *(Channel(f"voltage_v_{p}", unit="V", low=0, high=450, resolution=0.1) for p in PHASES),
    Channel("current_a", unit="A", low=0, high=60, resolution=0.01, minimum=True),
    *(Channel(f"current_a_{p}", unit="A", low=0, high=60, resolution=0.01) for p in PHASES),
    Channel("power_w", unit="W", low=0, high=25_000, resolution=1, minimum=True),
    Channel("energy_kwh", unit="kWh", low=0, resolution=0.001),
    Channel("pf", low=0, high=1, resolution=0.01),
    Channel("freq_hz", unit="Hz", low=45, high=55, resolution=0.01),
    Channel("run_state", "str", minimum=True),
    Channel("mode", "str", minimum=True),
    Channel("level", low=0, high=20, resolution=1, minimum=True),
    Channel("fault_code", "str"),
    Channel("door_open", "bool"),
    Channel("lid_open", "bool"),
    Channel("estop", "bool"),
    Channel("rssi_dbm", unit="dBm", low=-150, high=0, resolution=1),
    Channel("uptime_s", unit="s", low=0, resolution=1),
    Channel("fw", "str"),
)

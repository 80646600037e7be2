"""What surrounds a machine: mains, tap water, outdoor air. Closed formulas of time and seed, so no history has to be kept.

Every number here is an engineering judgement (EJ) unless it names a source of equipment.md §12.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
TAU = 2 * math.pi

PmSeries = Callable[[int], float | None]
"""Outdoor PM2.5 in µg/m³ at a UTC time in ms; None where the record has no figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place. ``pm25_median`` 72 µg/m³ is Beijing's of 2010–14 [S45]; boiling falls 1 °C per 300 m (EJ)."""

    name: str
    altitude_m: float = 0.0
    tap_mpa: float = 0.25
    tap_c: float = 18.0
    room_c: float = 23.0
    outdoor_c: float = 8.0
    pm25_median: float = 72.0
    utc_offset_h: float = 8.0
    seed: int = 0

    @property
    def boiling_c(self) -> float:
        """Boiling temperature at this altitude."""
        return 100.0 - self.altitude_m / 300.0

    def local_hour(self, now_ms: int) -> float:
        """Hour of the local day, 0 ≤ h < 24."""
        return (now_ms / HOUR_MS + self.utc_offset_h) % 24.0


@dataclass(slots=True)
class Mains:
    """Voltage at the machine's socket as a factor of the rated one: offset of the street, day curve, short swing (EJ)."""

    rng: random.Random
    offset: float = field(init=False)
    day_phase: float = field(init=False)
    swing_phase: float = field(init=False)

    def __post_init__(self) -> None:
        self.offset = self.rng.uniform(-0.012, 0.012)
        self.day_phase = self.rng.uniform(0, TAU)
        self.swing_phase = self.rng.uniform(0, TAU)

    def factor(self, now_ms: int) -> float:
        """U/U_rated without load, within ±2.6 %."""
        t = now_ms / 1000.0
        return (
            1.0
            + self.offset
            + 0.010 * math.sin(TAU * t / 86_400.0 + self.day_phase)
            + 0.004 * math.sin(TAU * t / 211.0 + self.swing_phase)
        )


class OutdoorAir:
    """PM2.5, temperature and humidity outside: sums of slow waves around the site's median, phases from the site's seed.

    ``series`` (a recorded PM2.5 curve) takes the place of the waves where it has a figure.
    """

    WAVES = ((0.45, 5.3 * 86_400), (0.25, 31 * 3_600), (0.20, 86_400), (0.08, 47 * 60))
    """Amplitude of ln(PM2.5) and period in s: weather, mixing layer, day, gusts (EJ)."""

    def __init__(self, site: Site, series: PmSeries | None = None) -> None:
        rng = random.Random(f"air:{site.name}:{site.seed}")
        self.site = site
        self.series = series
        self._phases = [rng.uniform(0, TAU) for _ in self.WAVES]

    def pm25(self, now_ms: int) -> float | None:
        """True concentration in µg/m³, 2…990; None only where a recorded series has a hole."""
        if self.series is not None:
            return self.series(now_ms)
        t = now_ms / 1000.0
        log = sum(
            amplitude * math.sin(TAU * t / period + phase)
            for (amplitude, period), phase in zip(self.WAVES, self._phases, strict=True)
        )
        return min(990.0, max(2.0, self.site.pm25_median * math.exp(log)))

    def temp_c(self, now_ms: int) -> float:
        """Coldest at 4, warmest at 16 local time, ±5 K."""
        return self.site.outdoor_c - 5.0 * math.cos(TAU * (self.site.local_hour(now_ms) - 4.0) / 24.0)

    def rh_pct(self, now_ms: int) -> float:
        """Relative humidity, 35…75 %, against the temperature."""
        return 55.0 + 20.0 * math.cos(TAU * (self.site.local_hour(now_ms) - 4.0) / 24.0)


@dataclass(frozen=True, slots=True)
class Timetable:
    """When a machine's owner starts batches: ``fixed`` UTC times in ms, or (None) every day at about ``DAILY``."""

    DAILY = ((5.4, 1.0), (8.2, 0.8), (10.8, 1.0), (15.3, 0.6))
    """Local hour and share of a full batch: breakfast, late morning, lunch, afternoon (EJ)."""

    seed: str
    utc_offset_h: float = 8.0
    fixed: tuple[tuple[int, float], ...] | None = None

    def after(self, now_ms: int) -> tuple[int, float] | None:
        """The first batch that starts later than ``now_ms``: (UTC ms, share of a full batch)."""
        if self.fixed is not None:
            return next((batch for batch in sorted(self.fixed) if batch[0] > now_ms), None)
        offset_ms = int(self.utc_offset_h * HOUR_MS)
        day = (now_ms + offset_ms) // DAY_MS
        coming = (batch for d in (day, day + 1) for batch in self._day(d, offset_ms))
        return next((batch for batch in coming if batch[0] > now_ms), None)

    def _day(self, day: int, offset_ms: int) -> list[tuple[int, float]]:
        rng = random.Random(f"day:{self.seed}:{day}")
        midnight = day * DAY_MS - offset_ms
        return [
            (midnight + int((hour + rng.uniform(-0.3, 0.3)) * 3600) * 1000, share * rng.uniform(0.9, 1.0))
            for hour, share in self.DAILY
        ]

"""Machines for the tests of the simulator."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import orjson

from device_sim.machine import Machine, Publication
from device_sim.profiles import CARDS
from device_sim.profiles.freshair import FreshAir
from device_sim.profiles.soymilk import Soymilk
from device_sim.site import OutdoorAir, Site, Timetable
from domain.catalogue.model import ModelCard

START = 1_768_338_000_000
"""2026-01-13 21:00 UTC, 5 in the morning in Beijing."""
SITE = Site(name="somewhere", tap_c=20.0)


def soymilk(
    model: str | ModelCard = "SMM-60",
    *,
    batches: tuple[float, ...] = (),
    share: float = 0.3,
    seed: int = 1,
    site: Site = SITE,
) -> Soymilk:
    """Physics of a soy-milk machine whose owner starts batches so many seconds after START."""
    card = CARDS["soymilk"][model] if isinstance(model, str) else model
    fixed = tuple((START + round(s * 1000), share) for s in batches)
    return Soymilk(card, site, Timetable("t", fixed=fixed), random.Random(f"{seed}"))


def freshair(model: str = "FAU-300", *, level: int | None = 3, seed: int = 1, pm25: float | None = 150.0) -> FreshAir:
    """Physics of a fresh-air unit in air of constant PM2.5 (None: the site's own air)."""
    card = CARDS["freshair"][model]
    air = OutdoorAir(SITE, None if pm25 is None else lambda now_ms: pm25)
    return FreshAir(card, SITE, air, random.Random(f"{seed}"), level=level)


def machine(physics: Soymilk | FreshAir, *, interval_s: int = 30, seed: int = 1) -> Machine:
    """A machine around ``physics``, alive from START on."""
    serial = "SN-1"
    return Machine(serial, physics.card, physics, random.Random(f"m{seed}"), start_ms=START, interval_s=interval_s)


def objects(publications: Iterable[Publication], kind: str = "telemetry") -> list[dict[str, Any]]:
    """The JSON objects of all publications of ``kind``, arrays unrolled."""
    found: list[dict[str, Any]] = []
    for publication in publications:
        if publication.topic.endswith(f"/up/{kind}"):
            body = orjson.loads(publication.payload)
            found.extend(body if isinstance(body, list) else [body])
    return found

"""Machine physics by equipment type: one file each, and a line in ``build``'s table."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from device_sim.profiles.freshair import FreshAir
from device_sim.profiles.physics import Physics
from device_sim.profiles.soymilk import Soymilk
from device_sim.site import OutdoorAir, PmSeries, Site, Timetable
from domain.catalogue.freshair.cards import CARDS as FRESHAIR_CARDS
from domain.catalogue.model import ModelCard
from domain.catalogue.soymilk.cards import CARDS as SOYMILK_CARDS

CARDS: Mapping[str, Mapping[str, ModelCard]] = {"soymilk": SOYMILK_CARDS, "freshair": FRESHAIR_CARDS}
"""Model cards by equipment type and model key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How a machine is used: batches of a soy-milk machine, the level of a fresh-air unit (None: as its owner likes)."""

    timetable: Timetable
    level: int | None = None
    pm25: PmSeries | None = None


BUILDERS: Mapping[str, Callable[[ModelCard, Site, Use, random.Random], Physics]] = {
    "soymilk": lambda card, site, use, rng: Soymilk(card, site, use.timetable, rng),
    "freshair": lambda card, site, use, rng: FreshAir(card, site, OutdoorAir(site, use.pm25), rng, level=use.level),
}
"""Equipment type → its physics."""

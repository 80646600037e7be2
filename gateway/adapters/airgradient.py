"""AirGradient (equipment.md §8.1): ``airgradient/readings/{serial number}``, the JSON of ``/measures/current``.

Bound by the serial number. The monitor stands in the room; ``pm02`` is PM2.5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from gateway import samples
from gateway.adapters import fields
from gateway.adapters.fields import Into
from gateway.adapters.port import Deaf
from gateway.messages import Decoded, Message, Registry

NAMES: Mapping[str, Into] = {
    "pm02": Into("pm25_out_ugm3"),
    "rco2": Into("co2_in_ppm"),
    "atmp": Into("temp_room_c"),
    "rhum": Into("rh_room_pct"),
    "wifi": Into("rssi_dbm"),
    "firmware": Into("fw"),
}
ENVELOPE = frozenset(("serialno",))


class AirGradientAdapter(Deaf):
    """Rooms with an AirGradient monitor."""

    convention = "airgradient"
    filters = ("airgradient/readings/+",)

    def decode(self, message: Message, registry: Registry, strangers: Counter[str]) -> list[Decoded] | None:
        """One sample, with the time of receipt."""
        root, _, name = message.topic.partition("/readings/")
        if root != "airgradient" or "/" in name:
            return None
        unit = registry.bound.get((self.convention, name))
        if unit is None:
            raise fields.stranger(self.convention, name)
        body = fields.an_object(samples.parse(message.payload), "measures")
        said = [(None, key, given) for key, given in body.items() if key not in ENVELOPE]
        return fields.in_time(unit, message, NAMES, said, strangers)

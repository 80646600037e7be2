"""Three soy-milk models to start from; ranges of equipment.md §1.1 (EJ), replaced by the maker's data where there is any."""

from __future__ import annotations

from domain.catalogue.model import ModelCard

CARDS = {
    card.key: card
    for card in (
        ModelCard(
            key="SMM-10", type="soymilk", name_zh="台式豆浆机 10 升", name_en="Counter soy-milk machine 10 L",
            rated_v=220, phases=1, p_heat_w=2200, heater_elements=1, p_motor_w=1100, p_standby_w=6,
            batch_l=10, fill_lpm_min=2.0,
        ),
        ModelCard(
            key="SMM-25", type="soymilk", name_zh="磨煮一体机 25 升", name_en="Grind-and-boil machine 25 L",
            rated_v=220, phases=1, p_heat_w=6000, heater_elements=3, p_motor_w=1500, p_standby_w=8,
            batch_l=25, fill_lpm_min=4.0,
        ),
        ModelCard(
            key="SMM-60", type="soymilk", name_zh="磨煮一体机 60 升", name_en="Grind-and-boil machine 60 L",
            rated_v=380, phases=3, p_heat_w=9000, heater_elements=3, p_motor_w=2200, p_standby_w=10,
            batch_l=60, fill_lpm_min=6.0,
        ),
    )
}  # fmt: skip

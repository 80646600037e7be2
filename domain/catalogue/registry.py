"""EQUIPMENT: every type brewair knows. Adding one is a folder beside this file and a line here."""

from __future__ import annotations

from domain.catalogue.freshair import cards as freshair_cards
from domain.catalogue.freshair import channels as freshair
from domain.catalogue.model import EquipmentType, ModelCard
from domain.catalogue.soymilk import cards as soymilk_cards
from domain.catalogue.soymilk import channels as soymilk
from domain.errors import NotFoundError

EQUIPMENT = {
    equipment.key: equipment
    for equipment in (
        EquipmentType(
            key="soymilk", name_zh="商用豆浆机", name_en="Commercial soy-milk machine", channels=soymilk.CHANNELS,
            states=soymilk.STATES, active_states=soymilk.ACTIVE_STATES, cards=soymilk_cards.CARDS,
        ),
        EquipmentType(
            key="freshair", name_zh="新风机", name_en="Fresh-air unit", channels=freshair.CHANNELS,
            states=freshair.STATES, active_states=freshair.ACTIVE_STATES, cards=freshair_cards.CARDS,
        ),
    )
}  # fmt: skip


def card_of(equipment_type: str, model: str) -> ModelCard:
    """The model card; raises NotFoundError naming what there is."""
    equipment = EQUIPMENT.get(equipment_type)
    if equipment is None:
        raise NotFoundError(
            "No equipment type {type}; there are {known}", type=equipment_type, known=", ".join(EQUIPMENT)
        )
    card = equipment.cards.get(model)
    if card is None:
        raise NotFoundError("No model {model}; there are {known}", model=model, known=", ".join(equipment.cards))
    return card

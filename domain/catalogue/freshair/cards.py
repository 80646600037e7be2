"""Three fresh-air models to start from; ranges of equipment.md §1.2 (EJ), replaced by the maker's data where there is any."""

from __future__ import annotations

from domain.catalogue.model import ModelCard

CARDS = {
    card.key: card
    for card in (
        ModelCard(
            key="FAU-150", type="freshair", name_zh="壁挂新风机 150", name_en="Wall fresh-air unit 150",
            p_fan_w=(12, 24, 45), p_standby_w=2, airflow_m3h=(60, 100, 150), rpm=(900, 1500, 2200),
            eta_pm25=0.95, dp_clean_pa=60, dp_final_pa=150,
        ),
        ModelCard(
            key="FAU-300", type="freshair", name_zh="壁挂新风机 300", name_en="Wall fresh-air unit 300",
            p_fan_w=(18, 36, 60), p_standby_w=3, airflow_m3h=(120, 200, 300), rpm=(900, 1500, 2200),
            eta_pm25=0.95, dp_clean_pa=80, dp_final_pa=200,
        ),
        ModelCard(
            key="FAU-800D", type="freshair", name_zh="管道新风机 800", name_en="Ducted fresh-air unit 800",
            p_fan_w=(120, 240, 400), p_standby_w=5, airflow_m3h=(300, 550, 800), rpm=(800, 1300, 1800),
            eta_pm25=0.90, dp_clean_pa=120, dp_final_pa=300,
        ),
    )
}  # fmt: skip

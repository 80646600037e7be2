"""Test-run criteria and plans of soy-milk machines (equipment.md §7.1, §7.3, §7.4); data. Closed to the simulator.

Limits without a word in their name are shares: of rated power, of the unit's own baseline (``base_``), of the expected rate.
"""

from __future__ import annotations

from dataclasses import replace

from domain.catalogue.plan_model import Code, Criterion, Entry, TestPlan

CRITERIA = (
    Criterion(
        key="voltage", name_zh="电压", name_en="Voltage", unit="V", channels=("voltage_v",),
        limits={"low": 0.90, "high": 1.07, "low_3": 0.93, "high_3": 1.07},  # S9: 220 V +7/−10 %, 380 V ±7 %
    ),
    Criterion(
        key="heating_power", name_zh="加热功率", name_en="Heating power", unit="W", channels=("power_w",),
        limits={
            "low": 0.90, "high": 1.05, "base_low": 0.90, "base_high": 1.10, "min_s": 120,  # RV; EJ
            "dip": 0.85, "dip_share": 0.05, "dip_grace_s": 10,  # §7.5: a median cannot see a flickering contactor
        },
    ),
    Criterion(
        key="phase_balance", name_zh="三相平衡", name_en="Phase balance", unit="%", when="three_phase",
        channels=("current_a_a", "current_a_b", "current_a_c"), limits={"high": 10, "min_s": 120},
    ),
    Criterion(
        key="grind_power", name_zh="打浆功率", name_en="Grinding power", unit="W", channels=("power_w",),
        limits={"low": 0.5, "high": 1.15, "peak": 1.5, "min_s": 30, "inrush_s": 2},
    ),
    Criterion(
        key="heat_rate", name_zh="升温速度", name_en="Heating rate", unit="×", when="channel", channels=("temp_c",),
        limits={"low": 0.75, "high": 1.25, "below_boiling_k": 5, "min_s": 120, "efficiency": 0.88, "j_per_l_k": 3900},
    ),
    Criterion(
        key="boil_hold", name_zh="煮沸保持", name_en="Boil hold", unit="s", when="plan", channels=("temp_c",),
        limits={"low": 300, "below_boiling_k": 2, "dip_s": 10, "dip_k": 0.5},  # S4, S6
    ),
    Criterion(
        key="overflow_trips", name_zh="防溢次数", name_en="Overflow trips", when="channel",
        channels=("overflow_electrode",), limits={"high": 0, "high_recipe": 1},
    ),
    Criterion(
        key="water_fill", name_zh="进水", name_en="Water fill", unit="L", when="channel",
        channels=("water_flow_lpm", "water_total_l"), limits={"tolerance": 0.10},
    ),
    Criterion(
        key="leak", name_zh="漏水", name_en="Leak", unit="L/min", when="channel",
        channels=("water_flow_lpm", "water_total_l"), limits={"flow_lpm": 0.1, "total_l": 0.1, "min_s": 60},
    ),
    Criterion(
        key="keep_warm", name_zh="保温", name_en="Keep warm", unit="°C", when="reached", channels=("temp_c",),
        limits={"low": 60},  # S8
    ),
    Criterion(key="alarms", name_zh="报警", name_en="Alarms"),
    Criterion(
        key="standby_power", name_zh="待机功率", name_en="Standby power", unit="W", channels=("power_w",),
        limits={"high": 1.5, "last_s": 60},
    ),
    Criterion(
        key="probe_alive", name_zh="温度探头", name_en="Temperature probe", unit="K", when="channel", channels=("temp_c",),
        limits={"step_k": 10, "step_s": 10, "flat_k": 0.2, "flat_s": 120, "below_boiling_k": 2},
    ),
)  # fmt: skip

GRIND_DRIFT = Criterion(
    key="grind_drift", name_zh="打浆功率漂移", name_en="Drift of grinding power", unit="%", when="plan",
    channels=("power_w",), limits={"high": 5, "grinds": 3, "min_s": 30, "inrush_s": 2},
)  # fmt: skip
ENTRY = Criterion(key="entry", name_zh="人工检查", name_en="Manual check", when="entry")

SWITCH = Entry(key="switch", name_zh="开关动作一次", name_en="Switch toggled once")
FORCED_TRIP = Entry(
    key="forced_trip", name_zh="强制防溢停机时间", name_en="Forced overflow trip stops within", unit="s", numeric=True,
    low=0.01, high=3,
)  # fmt: skip
INSULATION = Entry(
    key="insulation", name_zh="绝缘电阻", name_en="Insulation resistance", unit="MΩ", numeric=True, low=1,  # EJ
)  # fmt: skip

_TYPE, _REST_S, _HOLD = "soymilk", 300.0, {"hold_s": 300.0}

PLANS = (
    TestPlan(
        key="soymilk:operator", type=_TYPE, name_zh="操作问题 / 复位 / 盖开关", name_en="Operator error, reset, lid switch",
        min_active_s=900, cap_s=2700, rest_s=_REST_S, entries=(SWITCH,), extras=("one start and stop", "switch toggled once"),
        criteria=(*CRITERIA, ENTRY),
    ),
    TestPlan(
        key="soymilk:heating", type=_TYPE, name_zh="加热回路", name_en="Heating chain", min_active_s=900, cap_s=5400,
        rest_s=_REST_S, done_when=_HOLD, required=("boil_hold",),
        extras=("full batch preferred, 30 % allowed",), criteria=CRITERIA,
    ),
    TestPlan(
        key="soymilk:controller", type=_TYPE, name_zh="温控 / 控制板", name_en="Thermistor, controller, firmware",
        min_active_s=900, cap_s=5400, rest_s=_REST_S, done_when={"cycles": 1, **_HOLD}, required=("boil_hold",),
        extras=("one whole cycle, back in standby",), criteria=CRITERIA,
    ),
    TestPlan(
        key="soymilk:motor", type=_TYPE, name_zh="电机 / 刀盘", name_en="Motor, bearing, blade", min_active_s=900,
        cap_s=3600, rest_s=_REST_S, done_when={"grinds": 3}, required=("grind_drift",),
        extras=("three grinds of at least 30 s",), criteria=(*CRITERIA, GRIND_DRIFT),
    ),
    TestPlan(
        key="soymilk:inlet", type=_TYPE, name_zh="进水", name_en="Inlet valve, hose, flow meter", min_active_s=900,
        cap_s=3600, rest_s=600.0, done_when={"fills": 2}, extras=("two fills", "rest of 600 s"), criteria=CRITERIA,
    ),
    TestPlan(
        key="soymilk:overflow", type=_TYPE, name_zh="防溢电极", name_en="Overflow electrode", min_active_s=900, cap_s=5400,
        rest_s=_REST_S, done_when={"cycles": 1}, required=("boil_hold",), entries=(FORCED_TRIP,),
        extras=("one whole cycle", "no overflow trip", "forced trip stops within 3 s"),
        criteria=(
            *(replace(c, limits={"high": 0, "high_recipe": 0}) if c.key == "overflow_trips" else c for c in CRITERIA), ENTRY,
        ),
    ),
    TestPlan(
        key="soymilk:electrical", type=_TYPE, name_zh="跳闸 / 漏电 / 进水", name_en="Breaker trips, leakage, water in electrics",
        min_active_s=3600, cap_s=7200, rest_s=_REST_S, entries=(INSULATION,), no_dropout=True,
        extras=("no drop-out", "insulation value typed in"), criteria=(*CRITERIA, ENTRY),
    ),
    TestPlan(
        key="soymilk:acceptance", type=_TYPE, name_zh="安装验收", name_en="Installation", min_active_s=900, cap_s=5400,
        rest_s=_REST_S, done_when=_HOLD, required=("boil_hold",), extras=("every row that the channels allow",),
        criteria=CRITERIA,
    ),
)  # fmt: skip

FAMILY_PLAN = {
    "connection": "soymilk:operator", "supply": "soymilk:operator", "lid": "soymilk:operator",
    "heating": "soymilk:heating", "sensor": "soymilk:controller", "code": "soymilk:controller",
    "water": "soymilk:inlet", "overflow": "soymilk:overflow", "motor": "soymilk:motor",
}  # fmt: skip

_MEASURES = {
    "soymilk:operator": (
        ("restore_power", "恢复供电", "Restored power"), ("open_water_tap", "打开水阀", "Opened the water tap"),
        ("close_lid", "关好盖子", "Closed the lid"), ("reset_machine", "复位", "Reset the machine"),
        ("train_operator", "指导操作", "Instructed the operator"), ("reduce_load", "减少加料", "Reduced the load"),
        ("cool_down", "冷却后重启", "Let it cool and restarted"), ("replace_lid_switch", "更换盖开关", "Replaced the lid switch"),
        ("refer_electrician", "转交电工处理供电", "Referred the supply to an electrician"),
    ),
    "soymilk:heating": (
        ("replace_element", "更换加热管", "Replaced the heating element"),
        ("replace_contactor", "更换接触器", "Replaced the contactor"), ("replace_ssr", "更换固态继电器", "Replaced the SSR"),
        ("replace_thermal_fuse", "更换热熔断器", "Replaced the thermal fuse"),
        ("repair_heater_wiring", "修复加热线路", "Repaired the heater wiring"),
        ("restore_phase", "恢复缺相", "Restored a lost phase"), ("descale", "除垢", "Descaled"),
    ),
    "soymilk:controller": (
        ("replace_thermistor", "更换温度传感器", "Replaced the thermistor"),
        ("replace_controller", "更换控制板", "Replaced the controller"),
        ("replace_power_board", "更换电源板", "Replaced the power board"),
        ("update_firmware", "升级固件", "Updated the firmware"), ("reseat_connector", "重插接头", "Reseated a connector"),
    ),
    "soymilk:motor": (
        ("replace_motor", "更换电机", "Replaced the motor"), ("replace_bearing", "更换轴承", "Replaced the bearing"),
        ("replace_blade", "更换刀盘/磨片", "Replaced the blade"), ("replace_capacitor", "更换电容", "Replaced the capacitor"),
        ("replace_brushes", "更换碳刷", "Replaced the carbon brushes"), ("clear_jam", "清除卡阻", "Cleared a jam"),
    ),
    "soymilk:inlet": (
        ("replace_valve", "更换进水电磁阀", "Replaced the inlet valve"), ("replace_hose", "更换水管", "Replaced the hose"),
        ("replace_flow_meter", "更换流量计", "Replaced the flow meter"), ("clean_strainer", "清洗滤网", "Cleaned the strainer"),
        ("calibrate_flow_meter", "校准流量计", "Calibrated the flow meter"),
        ("replace_level_probe", "更换水位探针", "Replaced the level probe"),
    ),
    "soymilk:overflow": (
        ("clean_electrode", "清洗防溢电极", "Cleaned the overflow electrode"),
        ("replace_electrode", "更换防溢电极", "Replaced the overflow electrode"),
    ),
    "soymilk:electrical": (
        ("repair_insulation", "修复绝缘", "Repaired the insulation"), ("dry_electrics", "烘干电气件", "Dried the electrics"),
        ("replace_breaker", "更换断路器", "Replaced the breaker"),
        ("replace_board_fuse", "更换板上保险", "Replaced the board fuse"),
    ),
    "soymilk:acceptance": (("install_soymilk", "安装", "Installed the machine"),),
}  # fmt: skip
MEASURES = tuple(Code(*row, _TYPE, plan) for plan, rows in _MEASURES.items() for row in rows)

FAULTS = tuple(
    Code(*row, _TYPE)
    for row in (
        ("S-F1", "按了没反应，屏不亮", "Nothing lights"), ("S-F2", "不进水，报缺水", "No water"),
        ("S-F3", "盖子一合不上就停", "Stops, lid"), ("S-F4", "豆浆溢出", "Overflows"),
        ("S-F5", "水温太高不能启动", "Too hot to start"), ("S-F6", "要清洗/除垢", "Cleaning or descaling due"),
        ("S-F7", "电压不稳老停", "Stops on unstable voltage"), ("S-T1", "煮不开，不热", "Not heating"),
        ("S-T2", "煮得特别慢", "Heats very slowly"), ("S-T3", "糊锅、干烧", "Burnt, dry boil"),
        ("S-T4", "不打浆，嗡嗡响", "Hums, no grinding"), ("S-T5", "打浆声大、打不碎", "Loud or poor grinding"),
        ("S-T6", "未开先停/误报溢出", "False overflow stop"), ("S-T7", "温度乱跳/不动", "Temperature jumps or is frozen"),
        ("S-T8", "一直说门没关", "Lid switch stays open"), ("S-T9", "一合闸就跳", "Trips the breaker"),
        ("S-T10", "关着也流水", "Leaks while shut"), ("S-T11", "水加不满/加过头", "Fills too little or too much"),
        ("S-T12", "老掉线、死机", "Board dies or drops off"),
    )
)  # fmt: skip

CAUSES = tuple(
    Code(*row, _TYPE)
    for row in (
        ("unplugged", "没插电", "Not plugged in"), ("breaker_off", "跳闸", "Breaker off"),
        ("estop_pressed", "急停按下", "Emergency stop pressed"), ("tap_closed", "水阀没开", "Water tap closed"),
        ("no_water_supply", "停水", "No water supply"), ("strainer_clogged", "进水滤网堵", "Inlet strainer clogged"),
        ("lid_not_seated", "盖子没盖好", "Lid not seated"), ("overloaded", "加料/加水过多", "Too much material or water"),
        ("wrong_recipe", "误选程序", "Wrong recipe"), ("restarted_hot", "热机重启", "Restarted hot"),
        ("scale", "水垢", "Scale"), ("site_supply", "现场供电", "Site supply"), ("element_open", "加热管断", "Element open"),
        ("contactor_worn", "接触器坏", "Contactor worn"), ("thermal_fuse_blown", "热熔断", "Thermal fuse blown"),
        ("phase_lost", "缺相", "Phase lost"), ("wiring", "线路", "Wiring"), ("level_probe", "水位探针故障", "Level probe failed"),
        ("foreign_body", "异物卡住", "Foreign body"), ("bearing_worn", "轴承磨损", "Bearing worn"),
        ("capacitor_failed", "电容坏", "Capacitor failed"), ("brushes_worn", "碳刷磨损", "Brushes worn"),
        ("blade_worn", "刀盘磨损", "Blade worn"), ("electrode_dirty", "电极脏/短路", "Electrode dirty or shorted"),
        ("thermistor_failed", "温度传感器坏", "Thermistor failed"), ("lid_switch_failed", "微动开关坏", "Lid switch failed"),
        ("insulation_failed", "绝缘/漏电", "Insulation failed"), ("valve_stuck", "进水阀卡住", "Inlet valve stuck"),
        ("hose_leaking", "水管漏", "Hose leaking"), ("flow_meter_failed", "流量计坏", "Flow meter failed"),
        ("board_failed", "控制板/电源板坏", "Board failed"), ("operator_error", "操作不当", "Operator error"),
    )
)  # fmt: skip

//! What all machines of one type and nameplate share: the model card, the channels, the states, the unit's own normal figures.

use crate::detector::Rules;
use crate::json::Json;
use crate::sample::{Catalogue, Kind, Place, ABSENT};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Soymilk,
    Freshair,
}

/// Place of a state in its type's list; `NONE` is Python's `""`.
pub type State = i8;
pub const NONE: State = -1;
/// What a name that the type does not have stands for: no machine is ever in it, not even one whose state is `NONE`.
const NEVER: State = -2;
const MOST_STATES: usize = 62;
/// As the catalogue has it (`model.py`): `k` runs up to it in one sample.
const MOST_ELEMENTS: i64 = 100;

/// The nameplate: as `ModelCard` in `domain/catalogue/model.py`, as far as the facts and the states speak of it.
#[derive(Clone, Debug)]
pub struct Card {
    pub rated_v: f64,
    pub phases: i64,
    pub p_heat_w: f64,
    pub heater_elements: i64,
    pub p_motor_w: f64,
    pub p_fan_w: Vec<f64>,
    pub p_standby_w: f64,
    pub fill_lpm_min: f64,
    pub site_altitude_m: f64,
    pub airflow_m3h: Vec<f64>,
    pub rpm: Vec<f64>,
    pub eta_pm25: f64,
    pub dp_clean_pa: f64,
    pub dp_final_pa: f64,
    pub pm25_out_at_supply: bool,
    pub sensor_err_abs: f64,
    pub sensor_err_rel: f64,
    /// Boiling temperature at the site in °C.
    pub boiling_c: f64,
}

impl Card {
    /// From `dataclasses.asdict(card)`; None where a figure is missing.
    pub fn new(given: &Json) -> Option<Card> {
        let number = |key: &str| Some(given.get(key).num()).filter(|found| found.is_finite());
        let numbers = |key: &str| -> Option<Vec<f64>> {
            given.get(key).items().iter().map(|one| Some(one.num()).filter(|found| found.is_finite())).collect()
        };
        let site_altitude_m = number("site_altitude_m")?;
        Some(Card {
            rated_v: number("rated_v")?,
            phases: given.get("phases").int()?,
            p_heat_w: number("p_heat_w")?,
            heater_elements: given.get("heater_elements").int().filter(|count| *count <= MOST_ELEMENTS)?,
            p_motor_w: number("p_motor_w")?,
            p_fan_w: numbers("p_fan_w")?,
            p_standby_w: number("p_standby_w")?,
            fill_lpm_min: number("fill_lpm_min")?,
            site_altitude_m,
            airflow_m3h: numbers("airflow_m3h")?,
            rpm: numbers("rpm")?,
            eta_pm25: number("eta_pm25")?,
            dp_clean_pa: number("dp_clean_pa")?,
            dp_final_pa: number("dp_final_pa")?,
            pm25_out_at_supply: given.get("pm25_out_at").text() == "supply",
            sensor_err_abs: number("sensor_err_abs")?,
            sensor_err_rel: number("sensor_err_rel")?,
            boiling_c: 100.0 - site_altitude_m / 300.0,
        })
    }
}

/// Some of the states, a bit each; `NONE` may be among them.
#[derive(Clone, Copy, Debug)]
pub struct Set(u64);

impl Set {
    fn of(states: &[String], names: &[&str]) -> Set {
        Set(names
            .iter()
            .map(|name| place_of(states, name.as_bytes()))
            .filter(|state| *state != NEVER)
            .fold(0, |all, state| all | 1 << (state + 1)))
    }

    pub fn has(self, state: State) -> bool {
        self.0 >> (state + 1) & 1 == 1
    }
}

fn place_of(states: &[String], name: &[u8]) -> State {
    if name.is_empty() {
        return NONE;
    }
    states.iter().position(|state| state.as_bytes() == name).map_or(NEVER, |found| found as State)
}

macro_rules! names {
    ($($name:ident),*) => {
        /// The states that the code speaks of by name.
        pub struct Names { $(pub $name: State),* }

        impl Names {
            fn new(states: &[String]) -> Names {
                Names { $($name: place_of(states, stringify!($name).as_bytes())),* }
            }
        }
    };
}

names!(off, standby, filling, grinding, heating, boil_hold, dispensing, keep_warm, cleaning, paused, running, preheating);

/// The sets of states that the code speaks of.
pub struct Sets {
    /// off, standby, or nothing known yet
    pub doing_nothing: Set,
    /// off, standby
    pub idle: Set,
    pub hot: Set,
    pub hot_or_kept: Set,
    pub hot_or_cleaning: Set,
    pub filling_or_grinding: Set,
    pub filling_or_cleaning: Set,
    pub preparing: Set,
    pub active_again: Set,
    pub interruptions: Set,
    pub boiled: Set,
    /// states in which nobody wants a cycle
    pub no_cycle: Set,
    pub running: Set,
    pub fan_wanted: Set,
}

impl Sets {
    fn new(states: &[String]) -> Sets {
        let of = |names: &[&str]| Set::of(states, names);
        Sets {
            doing_nothing: of(&["off", "standby", ""]),
            idle: of(&["off", "standby"]),
            hot: of(&["heating", "boil_hold"]),
            hot_or_kept: of(&["heating", "boil_hold", "keep_warm"]),
            hot_or_cleaning: of(&["heating", "boil_hold", "keep_warm", "cleaning"]),
            filling_or_grinding: of(&["filling", "grinding"]),
            filling_or_cleaning: of(&["filling", "cleaning"]),
            preparing: of(&["filling", "soaking", "grinding"]),
            active_again: of(&["standby", "off", "offline", "dispensing", "cleaning", ""]),
            interruptions: of(&["paused", "fault"]),
            boiled: of(&["boil_hold", "keep_warm"]),
            no_cycle: of(&["standby", "off", "", "offline", "test"]),
            running: of(&["running", "preheating"]),
            fan_wanted: of(&["starting", "running", "preheating"]),
        }
    }
}

macro_rules! places {
    ($($kind:ident: $($channel:ident),*;)*) => {
        /// Where the channels stand that the code speaks of by name; `ABSENT` where the type has no such channel.
        pub struct Places { $($(pub $channel: Place,)*)* }

        impl Places {
            /// None where a channel is of another kind than the code takes it for.
            fn new(catalogue: &Catalogue) -> Option<Places> {
                let place = |key: &str, kind: Kind| {
                    let place = catalogue.place(key.as_bytes());
                    (place == ABSENT || catalogue.channels[place as usize].kind == kind).then_some(place)
                };
                Some(Places { $($($channel: place(stringify!($channel), Kind::$kind)?,)*)* })
            }
        }
    };
}

places!(
    Float: power_w, voltage_v, voltage_v_a, voltage_v_b, voltage_v_c, current_a_a, current_a_b, current_a_c, level,
        water_flow_lpm, temp_c, pm25_in_ugm3, pm25_out_ugm3, temp_supply_c, rh_out_pct, airflow_m3h, fan_supply_rpm,
        filter_dp_pa, filter_life_pct;
    Text: run_state, fault_code, batch_id;
    Flag: door_open, lid_open, overflow_electrode, inlet_valve, heater_on, motor_on, ptc_on;
);

/// What all machines of one type and nameplate share.
pub struct Spec {
    pub kind: Type,
    pub card: Card,
    pub catalogue: Catalogue,
    pub states: Vec<String>,
    /// By state: whether it counts as net active time.
    pub active: Vec<bool>,
    /// The unit's own normal figures, where they were learned.
    pub reference: Vec<(String, f64)>,
    pub places: Places,
    pub names: Names,
    pub sets: Sets,
    /// Bits of the phases' voltages in a sample's mask.
    pub phase_volts: u64,
    /// W: below this the machine idles, up to that one a valve is open (`states.py`).
    pub idle_w: f64,
    pub valve_w: f64,
    /// Healthy heating power in W.
    pub heat_ref_w: f64,
    pub rules: Rules,
    /// A device's time is believed from so long before its receipt until so long after it, in ms.
    oldest_ms: i64,
    ahead_ms: i64,
}

impl Spec {
    /// From what `spec_of` in `gateway/core/programs.py` says; None where it is not understood.
    pub fn new(given: &Json) -> Option<Spec> {
        let kind = match given.get("type").text() {
            "soymilk" => Type::Soymilk,
            "freshair" => Type::Freshair,
            _ => return None,
        };
        let card = Card::new(given.get("card"))?;
        let catalogue = Catalogue::new(given.get("channels"))?;
        let states: Vec<String> = given.get("states").items().iter().map(|name| name.text().to_string()).collect();
        if states.len() > MOST_STATES || states.iter().any(String::is_empty) {
            return None;
        }
        let active = given.get("active").items();
        let active: Vec<bool> = states.iter().map(|name| active.iter().any(|one| one.text() == name)).collect();
        let reference: Vec<(String, f64)> =
            given.get("reference").pairs().iter().map(|(key, value)| (key.clone(), value.num())).collect();
        if reference.iter().any(|(_, value)| value.is_nan()) {
            return None;
        }
        let places = Places::new(&catalogue)?;
        let phase_volts = [places.voltage_v_a, places.voltage_v_b, places.voltage_v_c];
        let own_w = reference.iter().find(|(key, value)| key == "heating" && *value != 0.0);
        let fan_idle = card.p_fan_w.first().map_or(0.0, |slowest| larger(1.5 * card.p_standby_w, 0.3 * slowest));
        Some(Spec {
            kind,
            names: Names::new(&states),
            sets: Sets::new(&states),
            phase_volts: phase_volts.iter().filter(|place| **place != ABSENT).fold(0, |all, place| all | 1 << place),
            idle_w: if fan_idle != 0.0 { fan_idle } else { larger(15.0, 1.5 * card.p_standby_w) },
            valve_w: card.p_standby_w + 30.0,
            heat_ref_w: own_w.map_or(card.p_heat_w, |(_, value)| *value),
            rules: Rules::new(given, kind, &catalogue, &states, &active)?,
            oldest_ms: given.get("oldest_ms").int()?,
            ahead_ms: given.get("ahead_ms").int()?,
            card,
            catalogue,
            states,
            active,
            reference,
            places,
        })
    }

    /// Whether a device's time can be its sample's time.
    pub fn is_believable(&self, ts: i64, recv_ms: i64) -> bool {
        recv_ms - self.oldest_ms <= ts && ts <= recv_ms + self.ahead_ms
    }

    /// The state of this name; `NONE` where it is empty or no state.
    pub fn state(&self, name: &[u8]) -> State {
        place_of(&self.states, name).max(NONE)
    }

    /// The name of a state; `""` of `NONE`.
    pub fn name(&self, state: State) -> &str {
        usize::try_from(state).ok().and_then(|place| self.states.get(place)).map_or("", String::as_str)
    }
}

/// Python's `min(a, b)`: of equal ones, and where one is nan, the first.
pub fn smaller(a: f64, b: f64) -> f64 {
    if b < a {
        b
    } else {
        a
    }
}

/// Python's `max(a, b)`: of equal ones, and where one is nan, the first.
pub fn larger(a: f64, b: f64) -> f64 {
    if b > a {
        b
    } else {
        a
    }
}

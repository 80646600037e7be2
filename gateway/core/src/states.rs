//! What a machine is doing: what it says, else what its power, water and temperature look like; as
//! `domain/detection/states.py` infers it.

#![allow(clippy::neg_cmp_op_on_partial_ord)] // what is absent is nan: "not below" is not "at least"

use crate::card::{Spec, State, Type, NONE};
use crate::electrical::{mains_span, normalised_w};
use crate::json::Json;
use crate::memory::{memory, Kept, Last};
use crate::sample::{Odd, View};

const HOLD_MS: i64 = 10_000;
const FORGET_MS: i64 = 60_000;
const VOLTAGE_KEEP_MS: i64 = 90_000;
const DUTY_MS: i64 = 600_000;
const HOT_MS: i64 = 120_000;
/// Python compares the ripple exactly; where rounding could decide, Python decides.
const BORDER: f64 = 1e-9;

#[derive(Clone, Copy, PartialEq)]
enum Load {
    Idle,
    Valve,
    Motor,
    Heat,
    Unknown,
}

/// Feed it a machine's ordinary samples in order of time.
#[derive(Clone, Debug)]
pub struct StateInference {
    /// Voltage-normalised power of the last sample in W.
    pub pn: f64,
    boiled: bool,
    candidate: State,
    candidate_ts: i64,
    /// Times at which the heater switched: on at even, off at odd places.
    edges: Vec<i64>,
    heated: bool,
    hot_ts: Option<i64>,
    last_ts: Option<i64>,
    powers: Last<6>,
    state: State,
    /// nan where none was seen.
    volts: f64,
    volts_ts: i64,
    warm_ts: Option<i64>,
}

memory!(StateInference: boiled, candidate, candidate_ts, edges, heated, hot_ts, last_ts, powers, state, volts, volts_ts, warm_ts);

impl Default for StateInference {
    fn default() -> StateInference {
        StateInference::new()
    }
}

impl StateInference {
    pub fn new() -> StateInference {
        StateInference {
            pn: f64::NAN,
            boiled: false,
            candidate: NONE,
            candidate_ts: 0,
            edges: Vec::new(),
            heated: false,
            hot_ts: None,
            last_ts: None,
            powers: Last::new(),
            state: NONE,
            volts: f64::NAN,
            volts_ts: 0,
            warm_ts: None,
        }
    }

    /// JSON of what is remembered.
    pub fn dump(&self, spec: &Spec) -> Json {
        Kept::dump(self, spec)
    }

    /// Take over what `dump` or Python wrote; false where it cannot be held exactly.
    #[must_use]
    pub fn restore(&mut self, spec: &Spec, dumped: &Json) -> bool {
        Kept::restore(self, spec, dumped)
    }

    /// Become like the other one; allocates nothing once warm.
    pub fn copy_from(&mut self, other: &StateInference) {
        let mut edges = std::mem::take(&mut self.edges);
        edges.clone_from(&other.edges);
        *self = StateInference { edges, ..*other };
    }

    /// The state of this sample; `standby` as long as nothing at all is known. After `Odd` it is half changed.
    pub fn step(&mut self, spec: &Spec, view: &View) -> Result<State, Odd> {
        let ts = view.sample.ts;
        let power = view.num(spec.places.power_w);
        let (low, high) = mains_span(spec, view);
        if low > 0.0 {
            self.volts = (low + high) / 2.0;
            self.volts_ts = ts;
        }
        let fresh = !self.volts.is_nan() && self.volts != 0.0 && ts - self.volts_ts <= VOLTAGE_KEEP_MS;
        self.pn =
            if power.is_nan() { f64::NAN } else { normalised_w(power, if fresh { self.volts } else { f64::NAN }, &spec.card) };
        let hole = self.last_ts.map_or(true, |last| ts - last > FORGET_MS);
        self.last_ts = Some(ts);
        let reported = self.reported(spec, view);
        if reported != NONE {
            self.state = reported;
            self.candidate = reported;
            self.heated = spec.sets.hot_or_kept.has(reported) || (self.heated && !spec.sets.filling_or_grinding.has(reported));
            return Ok(reported);
        }
        let found = match spec.kind {
            Type::Soymilk => self.soymilk(ts, spec, view)?,
            Type::Freshair => self.freshair(spec, view),
        };
        match found {
            Some(found) if found != self.state => {
                if hole || self.state == NONE {
                    self.state = found;
                    self.candidate = found;
                } else if found != self.candidate {
                    self.candidate = found;
                    self.candidate_ts = ts;
                } else if ts - self.candidate_ts >= HOLD_MS {
                    self.state = found;
                }
            }
            _ => self.candidate = self.state,
        }
        Ok(if self.state == NONE { spec.names.standby } else { self.state })
    }

    /// The state that the machine reports; `NONE` where it reports none that there is.
    fn reported(&self, spec: &Spec, view: &View) -> State {
        match view.text(spec.places.run_state) {
            Some(said) if spec.name(self.state).as_bytes() == said => self.state,
            Some(said) => spec.state(said),
            None => NONE,
        }
    }

    fn soymilk(&mut self, ts: i64, spec: &Spec, view: &View) -> Result<Option<State>, Odd> {
        let (places, names) = (&spec.places, &spec.names);
        let (power, temp) = (view.num(places.power_w), view.num(places.temp_c));
        let flowing = view.num(places.water_flow_lpm) >= 0.5 || view.flag(places.inlet_valve) == Some(true);
        if power.is_nan() {
            return Ok(if view.flag(places.heater_on) == Some(true) {
                Some(names.heating)
            } else if view.flag(places.motor_on) == Some(true) {
                Some(names.grinding)
            } else {
                flowing.then_some(names.filling)
            });
        }
        self.powers.push(power);
        let load = self.load(power, spec, view)?;
        self.note_heater(ts, load == Load::Heat);
        if load == Load::Motor {
            if flowing && self.heated && !(temp >= 60.0) {
                return Ok(Some(names.cleaning));
            }
            self.heated = false;
            self.boiled = false;
            return Ok(Some(names.grinding));
        }
        let hot = self.cooking(ts, temp, load == Load::Heat, spec)?;
        if hot.is_some() {
            self.heated = true;
            return Ok(hot);
        }
        if flowing || (load == Load::Valve && !view.has(places.water_flow_lpm)) {
            return Ok(Some(names.filling));
        }
        if !matches!(load, Load::Idle | Load::Valve) {
            return Ok(None);
        }
        if view.flag(places.lid_open) == Some(true) && !spec.sets.doing_nothing.has(self.state) {
            return Ok(Some(names.paused));
        }
        Ok(Some(if power < 0.3 * spec.card.p_standby_w { names.off } else { names.standby }))
    }

    /// Which load draws this power; a command wins.
    fn load(&self, power: f64, spec: &Spec, view: &View) -> Result<Load, Odd> {
        let (heat_w, motor_w) = (spec.card.p_heat_w, spec.card.p_motor_w);
        let (heater, motor) = (view.flag(spec.places.heater_on), view.flag(spec.places.motor_on));
        if heater == Some(true) {
            return Ok(Load::Heat);
        }
        if motor == Some(true) {
            return Ok(Load::Motor);
        }
        let like_heat = heat_w > 0.0 && self.pn > 0.2 * heat_w && heater != Some(false);
        let like_motor = 0.3 * motor_w <= power && power <= 1.3 * motor_w && motor_w > 0.0 && motor != Some(false);
        Ok(if like_heat && like_motor {
            if self.grinds(power, spec)? {
                Load::Motor
            } else {
                Load::Heat
            }
        } else if like_heat {
            Load::Heat
        } else if like_motor {
            Load::Motor
        } else if power < spec.idle_w {
            Load::Idle
        } else if power <= spec.valve_w {
            Load::Valve
        } else {
            Load::Unknown
        })
    }

    /// Motor rather than heater, where the power could be either.
    fn grinds(&self, power: f64, spec: &Spec) -> Result<bool, Odd> {
        let level = || self.powers.all().iter().copied().filter(|one| 0.7 * power <= *one && *one <= 1.4 * power);
        let count = level().count();
        if count >= 4 {
            let mean = level().sum::<f64>() / count as f64;
            let spread = (level().map(|one| (one - mean) * (one - mean)).sum::<f64>() / count as f64).sqrt();
            let most = 0.05 * mean;
            if (spread - most).abs() <= BORDER * most {
                return Err(Odd);
            }
            if spread > most {
                return Ok(true);
            }
        }
        let card = &spec.card;
        let n = card.heater_elements.max(1);
        let mut elements = f64::INFINITY;
        for k in 1..=n {
            let off = (self.pn * n as f64 / (k as f64 * card.p_heat_w)).ln().abs();
            if off < elements {
                elements = off;
            }
        }
        Ok((power / card.p_motor_w).ln().abs() < elements)
    }

    fn note_heater(&mut self, ts: i64, on: bool) {
        if on {
            self.hot_ts = Some(ts);
        }
        if on != (self.edges.len() % 2 == 1) {
            self.edges.push(ts);
        }
        let mut gone = 0;
        while self.edges.len() - gone > 2 && self.edges[gone + 1] < ts - DUTY_MS {
            gone += 2;
        }
        self.edges.drain(..gone);
    }

    /// Share of heater-on time over the last `window_ms`, or since it was first seen on if that is shorter (0…1).
    fn duty(&self, ts: i64, window_ms: i64) -> Result<f64, Odd> {
        let start = (ts - window_ms).max(*self.edges.first().ok_or(Odd)?);
        let on_ms: i64 = self.edges.chunks(2).map(|span| (span.get(1).copied().unwrap_or(ts) - span[0].max(start)).max(0)).sum();
        Ok(on_ms as f64 / (ts - start).max(1) as f64)
    }

    /// heating, boil_hold or keep_warm; None where the heater has nothing to do with this sample.
    fn cooking(&mut self, ts: i64, temp: f64, on: bool, spec: &Spec) -> Result<Option<State>, Odd> {
        let names = &spec.names;
        let Some(hot_ts) = self.hot_ts.filter(|_| on || self.heated) else {
            return Ok(None);
        };
        let rises = self.edges.len().div_ceil(2);
        let boil = spec.card.boiling_c - 2.0;
        if !temp.is_nan() {
            if temp >= boil && ts - hot_ts <= HOT_MS {
                self.boiled = true;
                return Ok(Some(names.boil_hold));
            }
            if 60.0 <= temp && temp < boil {
                if on && self.boiled && self.duty(ts, DUTY_MS)? < 0.25 {
                    self.warm_ts = Some(ts);
                }
                if self.warm_ts.is_some_and(|warm| ts - warm <= DUTY_MS) {
                    return Ok(Some(names.keep_warm));
                }
            }
        } else if rises >= 2 && ts - hot_ts <= HOT_MS {
            let duty = self.duty(ts, 180_000)?;
            if (0.2..=0.7).contains(&duty) {
                let before = self.edges.len().checked_sub(if on { 3 } else { 4 }).ok_or(Odd)?;
                if self.edges[before] >= ts - 300_000 {
                    return Ok(Some(names.boil_hold));
                }
            }
            if rises >= 3 && self.duty(ts, DUTY_MS)? < 0.25 {
                return Ok(Some(names.keep_warm));
            }
        }
        Ok(on.then_some(names.heating))
    }

    fn freshair(&self, spec: &Spec, view: &View) -> Option<State> {
        let (places, names, card) = (&spec.places, &spec.names, &spec.card);
        let (power, level) = (view.num(places.power_w), view.num(places.level));
        let turning = view.num(places.fan_supply_rpm) > 0.0 || view.num(places.airflow_m3h) > 0.0;
        if view.flag(places.door_open) == Some(true) && !(power > spec.idle_w) && !turning {
            return Some(names.paused);
        }
        let fan_w = card.p_fan_w.last().copied().unwrap_or(0.0);
        if view.flag(places.ptc_on) == Some(true) || (fan_w != 0.0 && power > 1.3 * fan_w + 200.0) {
            return Some(names.preheating);
        }
        if power > spec.idle_w || turning || level >= 1.0 {
            return Some(names.running);
        }
        if power.is_nan() {
            return None;
        }
        Some(if power < 0.3 * card.p_standby_w { names.off } else { names.standby })
    }
}

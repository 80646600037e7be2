//! Figures of a soy-milk machine that the rules speak of, batch by batch; as `domain/catalogue/soymilk/facts.py` has them.

#![allow(clippy::neg_cmp_op_on_partial_ord)] // what is absent is nan: "not below" is not "at least"

use crate::card::{larger, smaller, Spec, State, NONE};
use crate::facts::{flag, slots, truth, Common, LEFT_ALONE_MS};
use crate::memory::{memory, Last};
use crate::sample::View;

const HOLD_MS: i64 = 300_000;
const DIP_MS: i64 = 10_000;
const DIP_K: f64 = 0.5;
const FLAT_K: f64 = 0.2;
const FLAT_SAMPLES: i64 = 18;

#[derive(Clone, Debug)]
pub struct SoymilkFacts {
    pub common: Common,
    flow: f64,
    temp: f64,
    valve: Option<bool>,
    heater_on: Option<bool>,
    motor_on: Option<bool>,
    lid: Option<bool>,
    overflow: Option<bool>,
    was_overflow: bool,
    motor_since: Option<i64>,
    // the batch
    phase: State,
    batch_id: Option<Vec<u8>>,
    trips: i64,
    hot_seen: bool,
    judged: bool,
    bad_batch: bool,
    standby_from: Option<i64>,
    // the boil
    temps: Last<3>,
    temp_ts: Option<i64>,
    last_below: Option<i64>,
    above: bool,
    best_ms: i64,
    hold_s: f64,
    dip_since: Option<i64>,
    // the probe
    flat_since: Option<i64>,
    flat_lo: f64,
    flat_hi: f64,
    flat_n: i64,
    flat_ms: i64,
    // what should come next, where no state is reported
    ever_reported: bool,
    fill_seen: bool,
    grind_ms: i64,
    heat_due_ms: i64,
    idle_since: Option<i64>,
}

memory!(
    SoymilkFacts: above, bad_batch, batch_id, best_ms, dip_since, ever_reported, fill_seen, flat_hi, flat_lo, flat_n, flat_since,
    grind_ms, hold_s, hot_seen, idle_since, judged, last_below, motor_since, phase, standby_from, temp_ts, temps, trips,
    was_overflow
);

slots! {
    SoymilkFacts: |facts, spec, view|
    flow: facts.flow,
    temp: facts.temp,
    valve: flag(facts.valve),
    heater_on: flag(facts.heater_on),
    motor_on: flag(facts.motor_on),
    lid: flag(facts.lid),
    overflow: flag(facts.overflow),
    was_overflow: truth(facts.was_overflow),
    trips: facts.trips as f64,
    hot_seen: truth(facts.hot_seen),
    judged: truth(facts.judged),
    bad_batch: truth(facts.bad_batch),
    hold_s: facts.hold_s,
    flat_ms: facts.flat_ms as f64,
    ever_reported: truth(facts.ever_reported),
    fill_seen: truth(facts.fill_seen),
    grind_ms: facts.grind_ms as f64,
    heat_due_ms: facts.heat_due_ms as f64,
    implausible: truth(facts.temp < -5.0 || facts.temp > 125.0),
    heater_commanded: truth(facts.heater_commanded(spec)),
    motor_runs: truth(facts.motor_runs(spec)),
    filling: truth(facts.filling(spec)),
    idle: truth(facts.idle(spec)),
    cycle_wanted: truth(!spec.sets.no_cycle.has(facts.common.state)),
    heat_ref_w: spec.heat_ref_w,
    imbalance: imbalance(spec, view),
    element_lost_below: element_lost_below(spec),
}

/// (max − min) / mean of the three phase currents; nan where one is absent or nothing flows.
fn imbalance(spec: &Spec, view: &View) -> f64 {
    let places = &spec.places;
    let (a, b, c) = (view.num(places.current_a_a), view.num(places.current_a_b), view.num(places.current_a_c));
    let mean = (a + b + c) / 3.0;
    if mean > 0.0 {
        (larger(larger(a, b), c) - smaller(smaller(a, b), c)) / mean
    } else {
        f64::NAN
    }
}

/// Half-way between a healthy heater of n parallel elements and one with an element open (share of healthy).
fn element_lost_below(spec: &Spec) -> f64 {
    let n = spec.card.heater_elements.max(1) as f64;
    0.5 * (1.0 + (n - 1.0) / n)
}

impl Default for SoymilkFacts {
    fn default() -> SoymilkFacts {
        SoymilkFacts::new()
    }
}

impl SoymilkFacts {
    pub fn new() -> SoymilkFacts {
        SoymilkFacts {
            common: Common::new(),
            flow: f64::NAN,
            temp: f64::NAN,
            valve: None,
            heater_on: None,
            motor_on: None,
            lid: None,
            overflow: None,
            was_overflow: false,
            motor_since: None,
            phase: NONE,
            batch_id: None,
            trips: 0,
            hot_seen: false,
            judged: false,
            bad_batch: false,
            standby_from: None,
            temps: Last::new(),
            temp_ts: None,
            last_below: None,
            above: false,
            best_ms: 0,
            hold_s: 0.0,
            dip_since: None,
            flat_since: None,
            flat_lo: 0.0,
            flat_hi: 0.0,
            flat_n: 0,
            flat_ms: 0,
            ever_reported: false,
            fill_seen: false,
            grind_ms: 0,
            heat_due_ms: 0,
            idle_since: None,
        }
    }

    /// Become like the other one; allocates nothing once warm.
    pub fn copy_from(&mut self, other: &SoymilkFacts) {
        let (mut common, mut batch_id) = (std::mem::take(&mut self.common), self.batch_id.take());
        common.copy_from(&other.common);
        batch_id.clone_from(&other.batch_id);
        *self = SoymilkFacts { common, batch_id, ..*other };
    }

    pub fn update(&mut self, spec: &Spec, view: &View, state: State, pn: f64) {
        self.common.update(spec, view, state, pn);
        let (places, names, ts) = (&spec.places, &spec.names, self.common.ts);
        self.flow = view.num(places.water_flow_lpm);
        self.temp = view.num(places.temp_c);
        self.valve = view.flag(places.inlet_valve);
        self.heater_on = view.flag(places.heater_on);
        self.motor_on = view.flag(places.motor_on);
        self.lid = view.flag(places.lid_open);
        self.overflow = view.flag(places.overflow_electrode);
        self.follow_batch(spec, view);
        if !self.temp.is_nan() {
            self.follow_boil(spec);
            self.follow_probe(spec);
        }
        if state != names.heating {
            self.flat_since = None;
            self.flat_ms = 0;
        }
        if let Some(overflow) = self.overflow {
            self.trips += i64::from(overflow && !self.was_overflow);
            self.was_overflow = overflow;
        }
        let running = self.motor_on.unwrap_or(state == names.grinding);
        self.motor_since = if running { self.motor_since.or(Some(ts)) } else { None };
        self.ever_reported = self.ever_reported || self.common.reported;
        if !self.ever_reported {
            self.expect_heat(spec);
        }
    }

    fn heater_commanded(&self, spec: &Spec) -> bool {
        self.heater_on.unwrap_or(self.common.state == spec.names.heating && self.common.reported)
    }

    fn motor_runs(&self, spec: &Spec) -> bool {
        self.motor_on.unwrap_or(self.common.state == spec.names.grinding && self.common.reported)
            && self.heater_on != Some(true)
            && self.motor_since.is_some_and(|since| self.common.ts - since >= 1000)
    }

    fn filling(&self, spec: &Spec) -> bool {
        self.valve.unwrap_or(self.common.state == spec.names.filling)
    }

    fn idle(&self, spec: &Spec) -> bool {
        let state = self.common.state;
        match self.valve {
            Some(valve) => !valve && !spec.sets.filling_or_cleaning.has(state),
            None => spec.sets.idle.has(state) && (self.common.reported || !self.common.power.is_nan()),
        }
    }

    fn follow_batch(&mut self, spec: &Spec, view: &View) {
        let (sets, state, ts) = (&spec.sets, self.common.state, self.common.ts);
        if let Some(batch) = view.text(spec.places.batch_id) {
            match &mut self.batch_id {
                Some(present) if present == batch => {}
                Some(present) => {
                    present.clear();
                    present.extend_from_slice(batch);
                    self.begin_batch();
                }
                none => *none = Some(batch.to_vec()),
            }
        }
        if sets.interruptions.has(state) {
            return;
        }
        if state != self.phase {
            if (sets.preparing.has(state) && !sets.preparing.has(self.phase))
                || (state == spec.names.heating && sets.active_again.has(self.phase))
            {
                self.begin_batch();
            }
            self.standby_from = (sets.idle.has(state) && sets.boiled.has(self.phase)).then_some(ts);
            self.phase = state;
            if state == spec.names.dispensing {
                self.end_batch(ts);
            }
        }
        if sets.hot.has(state) {
            self.hot_seen = true;
        } else if let Some(from) = self.standby_from.filter(|from| ts - from >= 60_000) {
            self.end_batch(from);
            self.standby_from = None;
        }
    }

    fn begin_batch(&mut self) {
        self.trips = 0;
        self.hot_seen = false;
        self.judged = false;
        self.above = false;
        self.last_below = None;
        self.best_ms = 0;
        self.dip_since = None;
    }

    /// Was the boil held? Only what was seen below the boil can say no: holes count as held.
    fn end_batch(&mut self, at: i64) {
        if self.judged || !self.hot_seen || (self.last_below.is_none() && !self.above) {
            return;
        }
        self.judged = true;
        match self.last_below {
            None => self.bad_batch = false,
            Some(below) => {
                let held_ms = self.best_ms.max(if self.above { at - below } else { 0 });
                self.hold_s = held_ms as f64 / 1000.0;
                self.bad_batch = held_ms < HOLD_MS;
            }
        }
    }

    fn follow_boil(&mut self, spec: &Spec) {
        let ts = self.common.ts;
        self.temps.push(self.temp);
        let (temp, boil) = (middle(self.temps.all()), spec.card.boiling_c - 2.0);
        let hole = self.temp_ts.is_some_and(|last| ts - last > LEFT_ALONE_MS);
        self.temp_ts = Some(ts);
        if temp >= boil {
            self.above = true;
            self.dip_since = None;
            return;
        }
        if self.above && temp >= boil - DIP_K {
            let since = *self.dip_since.get_or_insert(ts);
            if ts - since <= DIP_MS {
                return;
            }
        }
        match self.last_below {
            None => self.best_ms = if self.above { HOLD_MS } else { 0 },
            Some(below) if self.above || hole => self.best_ms = self.best_ms.max(ts - below),
            Some(_) => {}
        }
        self.last_below = Some(ts);
        self.above = false;
        self.dip_since = None;
    }

    fn follow_probe(&mut self, spec: &Spec) {
        let (ts, temp, card) = (self.common.ts, self.temp, &spec.card);
        if self.common.state != spec.names.heating || !(self.common.pn > 0.5 * card.p_heat_w) || temp >= card.boiling_c - 5.0 {
            self.flat_since = None;
            self.flat_ms = 0;
            return;
        }
        let (low, high) = (smaller(self.flat_lo, temp), larger(self.flat_hi, temp));
        let since = match self.flat_since {
            Some(since) if !(high - low > FLAT_K) && self.common.dt_ms <= LEFT_ALONE_MS => {
                self.flat_lo = low;
                self.flat_hi = high;
                since
            }
            _ => {
                self.flat_lo = temp;
                self.flat_hi = temp;
                self.flat_n = 0;
                ts
            }
        };
        self.flat_since = Some(since);
        self.flat_n += 1;
        self.flat_ms = if self.flat_n >= FLAT_SAMPLES { ts - since } else { 0 };
    }

    /// After a fill and a minute of grinding comes heat.
    fn expect_heat(&mut self, spec: &Spec) {
        let (state, ts, dt_ms) = (self.common.state, self.common.ts, self.common.dt_ms);
        self.fill_seen = self.fill_seen || state == spec.names.filling;
        if spec.sets.hot_or_cleaning.has(state) {
            self.grind_ms = 0;
            self.fill_seen = false;
        } else if state == spec.names.grinding && self.common.power >= 0.7 * spec.card.p_motor_w && dt_ms <= LEFT_ALONE_MS {
            self.grind_ms += dt_ms;
        }
        let idle = spec.sets.idle.has(state) && self.fill_seen && self.grind_ms >= 60_000;
        self.idle_since = if !idle || dt_ms > LEFT_ALONE_MS { None } else { self.idle_since.or(Some(ts)) };
        self.heat_due_ms = self.idle_since.map_or(0, |since| ts - since);
    }
}

/// `sorted(figures)[len(figures) // 2]` of one to three figures.
fn middle(figures: &[f64]) -> f64 {
    match *figures {
        [only] => only,
        [a, b] => larger(a, b),
        [a, b, c] => larger(smaller(a, b), smaller(larger(a, b), c)),
        _ => f64::NAN,
    }
}

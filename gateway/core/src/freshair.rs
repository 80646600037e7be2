//! Figures of a fresh-air unit that the rules speak of; as `domain/catalogue/freshair/facts.py` and `efficiency.py` have them.

#![allow(clippy::neg_cmp_op_on_partial_ord)] // what is absent is nan: "not below" is not "at least"

use crate::card::{larger, Spec, State};
use crate::electrical::power;
use crate::facts::{slots, truth, Common, LEFT_ALONE_MS};
use crate::json::Json;
use crate::memory::{memory, Kept};
use crate::sample::View;

const MEDIAN_MS: i64 = 300_000;
const WARM_MS: i64 = 600_000;
const PM_ASLEEP_MS: i64 = 3_600_000;

/// So many samples that are past may stand before those that count.
const MOST_PAST: usize = 4;

/// Median of the last 5 minutes, and of no fewer than the last 5 samples; nan before there are 3.
#[derive(Clone, Debug, Default)]
struct RollingMedian {
    ordered: Vec<f64>,
    /// Those before `begin` are past; they stay until the next call, so that the last one can be taken back.
    samples: Vec<(i64, f64)>,
    begin: usize,
}

/// Where a median stood.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    begin: usize,
    end: usize,
}

impl RollingMedian {
    /// Where it stands, before a sample is taken in or all is forgotten.
    fn mark(&mut self) -> Mark {
        if self.begin >= MOST_PAST {
            self.samples.drain(..self.begin);
            self.begin = 0;
        }
        Mark { begin: self.begin, end: self.samples.len() }
    }

    /// Stand there again.
    fn back_to(&mut self, mark: Mark) {
        self.samples.truncate(mark.end);
        self.begin = mark.begin;
        self.ordered.clear();
        self.ordered.extend(self.samples[self.begin..].iter().map(|(_, value)| value));
        self.ordered.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    }

    fn add(&mut self, ts: i64, value: f64) -> f64 {
        // a few more, not twice as many: half of the machines keep two of these
        if self.samples.len() == self.samples.capacity() {
            self.samples.reserve_exact(MOST_PAST);
            self.ordered.reserve_exact(MOST_PAST);
        }
        self.samples.push((ts, value));
        self.ordered.insert(self.ordered.partition_point(|one| *one <= value), value);
        while self.samples.len() - self.begin > 5 && self.samples[self.begin].0 < ts - MEDIAN_MS {
            let old = self.samples[self.begin].1;
            let place = self.ordered.partition_point(|one| *one < old);
            if place < self.ordered.len() {
                self.ordered.remove(place);
            }
            self.begin += 1;
        }
        if self.ordered.len() >= 3 {
            self.ordered[self.ordered.len() / 2]
        } else {
            f64::NAN
        }
    }

    fn clear(&mut self) {
        self.begin = self.samples.len();
        self.ordered.clear();
    }
}

impl Kept for RollingMedian {
    fn dump(&self, spec: &Spec) -> Json {
        let samples = self.samples[self.begin..].to_vec();
        Json::Map(vec![
            ("ordered".to_string(), self.ordered.dump(spec)),
            ("samples".to_string(), samples.dump(spec)),
        ])
    }

    fn restore(&mut self, spec: &Spec, dumped: &Json) -> bool {
        self.begin = 0;
        *dumped == Json::Null
            || (self.ordered.restore(spec, dumped.get("ordered")) && self.samples.restore(spec, dumped.get("samples")))
    }
}

/// How long a sensor has shown one figure, and how far its partner went in that time.
#[derive(Clone, Copy, Debug, Default)]
struct Stillness {
    high: f64,
    low: f64,
    partner_high: f64,
    partner_low: f64,
    since: Option<i64>,
}

memory!(Stillness: high, low, partner_high, partner_low, since);

impl Stillness {
    fn follow(&mut self, ts: i64, value: f64, partner: f64) {
        if self.since.is_none() || value != self.low {
            self.since = Some(ts);
            self.low = value;
            self.partner_low = partner;
            self.partner_high = partner;
        } else if partner < self.partner_low {
            self.partner_low = partner;
        } else if partner > self.partner_high {
            self.partner_high = partner;
        }
    }
}

#[derive(Clone, Debug)]
pub struct FreshairFacts {
    pub common: Common,
    airflow: f64,
    c_in: f64,
    c_out: f64,
    dp: f64,
    draw: f64,
    eta: f64,
    eta_low: f64,
    filter_life: f64,
    rh: f64,
    spin: f64,
    supply: f64,
    median_in: RollingMedian,
    median_out: RollingMedian,
    /// Where the medians stood before the last sample.
    marks: [Mark; 2],
    still_in: Stillness,
    still_out: Stillness,
    pm_ts: Option<i64>,
    pm_warm_at: i64,
}

memory!(FreshairFacts: pm_ts, pm_warm_at, median_in, median_out, still_in, still_out);

slots! {
    FreshairFacts: |facts, spec, view|
    airflow: facts.airflow,
    c_in: facts.c_in,
    c_out: facts.c_out,
    dp: facts.dp,
    draw: facts.draw,
    eta: facts.eta,
    eta_low: facts.eta_low,
    filter_life: facts.filter_life,
    rh: facts.rh,
    spin: facts.spin,
    supply: facts.supply,
    implausible: 0.0,
    running: truth(facts.running(spec)),
    fan_wanted: truth(spec.sets.fan_wanted.has(facts.common.state)),
    fan_on: truth(if facts.spin.is_nan() { facts.draw >= 0.3 } else { facts.spin >= 0.2 }),
    pm_ready: truth(facts.pm_ready(spec)),
    dirtier_behind: truth(facts.c_out > facts.c_in + 20.0 && !(facts.rh >= 90.0)),
    airflow_share: facts.airflow_share(spec),
    stuck_before: truth(facts.stuck(spec, false)),
    stuck_behind: truth(facts.stuck(spec, true)),
}

impl Default for FreshairFacts {
    fn default() -> FreshairFacts {
        FreshairFacts::new()
    }
}

impl FreshairFacts {
    pub fn new() -> FreshairFacts {
        FreshairFacts {
            common: Common::new(),
            airflow: f64::NAN,
            c_in: f64::NAN,
            c_out: f64::NAN,
            dp: f64::NAN,
            draw: f64::NAN,
            eta: f64::NAN,
            eta_low: f64::NAN,
            filter_life: f64::NAN,
            rh: f64::NAN,
            spin: f64::NAN,
            supply: f64::NAN,
            median_in: RollingMedian::default(),
            median_out: RollingMedian::default(),
            marks: [Mark::default(); 2],
            still_in: Stillness::default(),
            still_out: Stillness::default(),
            pm_ts: None,
            pm_warm_at: 0,
        }
    }

    /// Note how the other one is, but for its medians: these can go back by themselves.
    pub fn note(&mut self, other: &FreshairFacts) {
        let mut common = std::mem::take(&mut self.common);
        let (median_in, median_out) = (std::mem::take(&mut self.median_in), std::mem::take(&mut self.median_out));
        common.copy_from(&other.common);
        *self = FreshairFacts { common, median_in, median_out, ..*other };
    }

    /// Become as noted before the last `update`.
    pub fn back_to(&mut self, noted: &FreshairFacts) {
        let [mark_in, mark_out] = self.marks;
        self.note(noted);
        self.median_in.back_to(mark_in);
        self.median_out.back_to(mark_out);
    }

    pub fn update(&mut self, spec: &Spec, view: &View, state: State, pn: f64) {
        self.marks = [self.median_in.mark(), self.median_out.mark()];
        self.common.update(spec, view, state, pn);
        let places = &spec.places;
        self.airflow = view.num(places.airflow_m3h);
        self.filter_life = view.num(places.filter_life_pct);
        self.supply = view.num(places.temp_supply_c);
        self.rh = view.num(places.rh_out_pct);
        self.follow_fan(spec, view);
        self.follow_filter(spec, view);
        self.follow_air(spec, view.num(places.pm25_in_ugm3), view.num(places.pm25_out_ugm3));
    }

    fn running(&self, spec: &Spec) -> bool {
        spec.sets.running.has(self.common.state)
    }

    fn pm_ready(&self, spec: &Spec) -> bool {
        self.running(spec) && self.common.ts >= self.pm_warm_at
    }

    /// The card's figure for the present level, for level 1 where none is reported; nan where the card has none.
    fn rated(&self, by_level: &[f64]) -> f64 {
        let Some(last) = by_level.len().checked_sub(1) else {
            return f64::NAN;
        };
        let level = self.common.level;
        let nth = if level >= 1.0 { level as usize - 1 } else { 0 };
        let rated = by_level[nth.min(last)];
        if rated == 0.0 {
            f64::NAN
        } else {
            rated
        }
    }

    fn airflow_share(&self, spec: &Spec) -> f64 {
        if self.common.level >= 1.0 {
            self.airflow / self.rated(&spec.card.airflow_m3h)
        } else {
            f64::NAN
        }
    }

    /// The sensor before or `behind` the filter shows one figure while its partner moves, or what it cannot show.
    fn stuck(&self, spec: &Spec, behind: bool) -> bool {
        let (still, through) = if behind { (&self.still_out, 1.0 - spec.card.eta_pm25) } else { (&self.still_in, 1.0) };
        let Some(since) = still.since else {
            return false;
        };
        let (flat_ms, moved, value) = (self.common.ts - since, still.partner_high - still.partner_low, still.low);
        if flat_ms >= 1_800_000
            && (value >= 999.0 || (value <= 0.0 && still.partner_low * through >= if behind { 5.0 } else { 10.0 }))
        {
            return true;
        }
        if flat_ms < 3_600_000 || moved <= 10.0 {
            return false;
        }
        !behind || value * moved / still.partner_high >= 1.5 || through * moved >= 5.0
    }

    fn follow_fan(&mut self, spec: &Spec, view: &View) {
        let card = &spec.card;
        let rpm = view.num(spec.places.fan_supply_rpm);
        self.spin = rpm / self.rated(&card.rpm);
        if self.spin.is_nan() {
            self.spin = self.airflow / self.rated(&card.airflow_m3h);
        }
        let heater = self.common.state == spec.names.preheating || view.flag(spec.places.ptc_on) == Some(true);
        self.draw = if heater { f64::NAN } else { self.common.power / self.rated(&card.p_fan_w) };
    }

    fn follow_filter(&mut self, spec: &Spec, view: &View) {
        self.dp = view.num(spec.places.filter_dp_pa);
        let most = spec.card.airflow_m3h.last().copied().unwrap_or(0.0);
        if !self.airflow.is_nan() && most != 0.0 {
            let share = self.airflow / most;
            self.dp = if share > 0.3 { self.dp / power(share, 1.5) } else { f64::NAN };
        }
    }

    fn follow_air(&mut self, spec: &Spec, before: f64, behind: f64) {
        let ts = self.common.ts;
        if !before.is_nan() || !behind.is_nan() {
            if self.pm_ts.map_or(true, |last| ts - last > PM_ASLEEP_MS) {
                self.pm_warm_at = ts + WARM_MS;
            }
            self.pm_ts = Some(ts);
        }
        let ready = self.pm_ready(spec);
        if !ready || self.common.dt_ms > LEFT_ALONE_MS.max(MEDIAN_MS) {
            self.median_in.clear();
            self.median_out.clear();
            self.still_in.since = None;
            self.still_out.since = None;
        }
        self.c_in = f64::NAN;
        self.c_out = f64::NAN;
        self.eta = f64::NAN;
        self.eta_low = f64::NAN;
        if !ready || before.is_nan() || behind.is_nan() {
            return;
        }
        self.c_in = self.median_in.add(ts, before);
        self.c_out = self.median_out.add(ts, behind);
        self.still_in.follow(ts, before, behind);
        self.still_out.follow(ts, behind, before);
        if spec.card.pm25_out_at_supply && spec.card.eta_pm25 > 0.0 && self.c_in > 0.0 {
            self.eta = 1.0 - self.c_out / self.c_in;
            self.eta_low = eta_min(spec, self.c_in);
        }
    }
}

/// Lowest efficiency that a healthy filter may show at `c_in` µg/m³; −inf where `c_in` is within its own error.
fn eta_min(spec: &Spec, c_in: f64) -> f64 {
    let (eta, err_abs, err_rel) = (spec.card.eta_pm25, spec.card.sensor_err_abs, spec.card.sensor_err_rel);
    let c_out = (1.0 - eta) * c_in;
    let believed_in = c_in - larger(err_abs, err_rel * c_in);
    if believed_in <= 0.0 {
        return f64::NEG_INFINITY;
    }
    1.0 - (c_out + larger(err_abs, err_rel * c_out)) / believed_in
}

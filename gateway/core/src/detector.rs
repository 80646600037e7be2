//! The fold of one machine's ordinary samples: `domain/detection/engine.py`, as far as no rule raises or clears.
//!
//! A sample that is for Python leaves the detector as it was before it.

use crate::card::{Spec, State, Type, NONE};
use crate::facts::Facts;
use crate::json::Json;
use crate::program::Program;
use crate::sample::{Catalogue, Kind, Odd, Sample, Scanner, View, ABSENT};
use crate::states::StateInference;
use crate::watch::{Mark, Window};

const CHANGE_GUARD_MS: i64 = 60_000;
const START_GUARD_MS: i64 = 120_000;
const REORDER_MS: i64 = 10_000;
const UNKNOWN_INTERVAL_MS: i64 = 300_000;
const LONGEST_DELTA_MS: i64 = 3_600_000;
const REMEMBERED: usize = 64;
const DELTAS: usize = 9;
const BOOTS: usize = 8;
/// A longer object is none that a machine remembers: Python keeps it.
const LONGEST_MOMENT: usize = 4096;
/// Room that a machine's next sample may need more than this one.
const SPARE: usize = 24;
/// A bit each.
const MOST_RULES: usize = 64;
const NEVER: i64 = i64::MIN;

/// One fault rule on this nameplate.
pub struct Rule {
    row: String,
    key: String,
    severity: i64,
    guarded: bool,
    /// Severity, kind and cause depend on the moment.
    weighed: bool,
    needs: u64,
    on_ms: i64,
    off_ms: i64,
    min_samples: u32,
    /// Which rules explain it away, a bit each.
    roots: u64,
    when: Program,
    raises: Program,
    clears: Program,
}

/// All rules of a nameplate but the one about silence.
pub struct Rules {
    rows: Vec<Rule>,
    /// Rows that can ever be asked.
    asked: Vec<u8>,
    silence: String,
    /// Which states, as they end, make what follows a start; and whether knowing none does.
    cold: Vec<bool>,
    cold_none: bool,
}

impl Rules {
    /// From the "rules" and "silence" of a spec; None where there is something the core does not know.
    pub fn new(given: &Json, kind: Type, catalogue: &Catalogue, states: &[String], active: &[bool]) -> Option<Rules> {
        let slots = Facts::slot_names(kind);
        let mut rows = Vec::new();
        for one in given.get("rules").items() {
            let mut needs = 0u64;
            let mut never = false;
            for channel in one.get("needs").items() {
                match catalogue.place(channel.text().as_bytes()) {
                    ABSENT => never = true,
                    place => needs |= 1 << place,
                }
            }
            let when = if never { &Json::Bool(false) } else { one.get("when") };
            let mut roots = 0u64;
            for root in one.get("roots").items() {
                roots |= 1u64.checked_shl(u32::try_from(root.int()?).ok()?)?;
            }
            rows.push(Rule {
                row: one.get("row").text().to_string(),
                key: one.get("key").text().to_string(),
                severity: one.get("severity").int()?,
                guarded: one.get("guarded").truth(),
                weighed: one.get("weighed").truth(),
                needs,
                on_ms: one.get("on_ms").int()?,
                off_ms: one.get("off_ms").int()?,
                min_samples: u32::try_from(one.get("min_samples").int()?).ok().filter(|least| *least > 0)?,
                roots,
                when: Program::new(when, slots)?,
                raises: Program::new(one.get("raises"), slots)?,
                clears: Program::new(one.get("clears"), slots)?,
            });
        }
        if rows.len() > MOST_RULES {
            return None;
        }
        let starts = states.iter().zip(active).any(|(name, active)| *active && name == "starting");
        let cold = |name: &str| matches!(name, "off" | "offline") || (starts && matches!(name, "standby" | ""));
        Some(Rules {
            asked: (0..rows.len() as u8).filter(|nth| !rows[*nth as usize].when.is_never()).collect(),
            rows,
            silence: given.get("silence").text().to_string(),
            cold: states.iter().map(|name| cold(name)).collect(),
            cold_none: cold(""),
        })
    }

    fn is_cold(&self, state: State) -> bool {
        if state == NONE {
            self.cold_none
        } else {
            self.cold[state as usize]
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Taken in, and nobody has anything to say.
    Done,
    /// Not taken in: Python has to.
    Python,
}

/// Room to work in, shared by all machines of one nameplate.
pub struct Scratch {
    inference: StateInference,
    facts: Facts,
    marks: Vec<(u8, Mark)>,
    times: Vec<i64>,
}

impl Scratch {
    pub fn new(spec: &Spec) -> Scratch {
        Scratch {
            inference: StateInference::new(),
            facts: Facts::new(spec),
            marks: Vec::with_capacity(MOST_RULES),
            times: Vec::new(),
        }
    }
}

/// The last distances between samples in ms, oldest first, and their median.
#[derive(Clone, Copy, Default)]
struct Rhythm {
    deltas: [u32; DELTAS],
    count: u8,
    median: u32,
}

impl Rhythm {
    fn push(&mut self, delta: u32) {
        let gone = self.deltas[0];
        if self.count as usize == DELTAS {
            self.deltas.copy_within(1.., 0);
        } else {
            self.count += 1;
        }
        self.deltas[self.count as usize - 1] = delta;
        if self.count as usize == DELTAS && gone == delta {
            return;
        }
        let mut sorted = self.deltas;
        let sorted = &mut sorted[..self.count as usize];
        sorted.sort_unstable();
        self.median = sorted[sorted.len() / 2];
    }

    fn measured(&self) -> Option<i64> {
        (self.count >= 3).then_some(i64::from(self.median))
    }
}

/// Identities of the last samples in the order in which they came. Nearly always each has the seq behind the last one's, so
/// that they are one run.
struct Remembered {
    runs: Vec<Run>,
    count: u8,
    /// No seq in here is higher.
    highest: i64,
}

/// Identities in a row: the number of a boot's name and the seq in one word, from `first` on.
struct Run {
    first: u64,
    count: u8,
}

const SEQ_BITS: u32 = 53;
/// As Python writes a boot that has no name.
const NO_BOOT: &[u8] = b"None";
/// More names than this are sorted out by Python, which forgets those of long ago.
const MOST_NAMES: usize = 200;

impl Remembered {
    fn new() -> Remembered {
        Remembered { runs: Vec::new(), count: 0, highest: -1 }
    }

    fn word(name: u8, seq: i64) -> u64 {
        u64::from(name) << SEQ_BITS | seq as u64
    }

    fn has(&self, name: u8, seq: i64) -> bool {
        let word = Remembered::word(name, seq);
        seq <= self.highest && self.runs.iter().any(|run| word.wrapping_sub(run.first) < u64::from(run.count))
    }

    fn push(&mut self, name: u8, seq: i64) {
        if self.count as usize == REMEMBERED {
            self.forget_oldest();
        }
        let word = Remembered::word(name, seq);
        match self.runs.last_mut() {
            Some(run) if run.first + u64::from(run.count) == word => run.count += 1,
            _ => {
                self.runs.reserve_exact(1);
                self.runs.push(Run { first: word, count: 1 });
            }
        }
        self.count += 1;
        self.highest = self.highest.max(seq);
    }

    fn forget_oldest(&mut self) {
        let oldest = &mut self.runs[0];
        oldest.first += 1;
        oldest.count -= 1;
        if oldest.count == 0 {
            self.runs.remove(0);
        }
        self.count -= 1;
    }

    /// (Number of the name, seq), oldest first.
    fn iter(&self) -> impl Iterator<Item = (u8, i64)> + '_ {
        let words = self.runs.iter().flat_map(|run| (0..u64::from(run.count)).map(|nth| run.first + nth));
        words.map(|word| ((word >> SEQ_BITS) as u8, (word & ((1 << SEQ_BITS) - 1)) as i64))
    }
}

/// Windows of the rules that have samples in one. Few have, of a machine that is well.
#[derive(Default)]
struct Windows {
    /// Whose, a bit each; the windows stand in this order.
    whose: u64,
    rows: Vec<Window>,
}

impl Windows {
    fn place(&self, nth: u8) -> usize {
        (self.whose & ((1 << nth) - 1)).count_ones() as usize
    }

    fn get(&self, nth: u8) -> Option<&Window> {
        (self.whose >> nth & 1 == 1).then(|| &self.rows[self.place(nth)])
    }

    /// The window of a rule, empty where it had none.
    fn of(&mut self, nth: u8) -> &mut Window {
        let place = self.place(nth);
        if self.whose >> nth & 1 == 0 {
            self.whose |= 1 << nth;
            self.rows.reserve_exact(1);
            self.rows.insert(place, Window::default());
        }
        &mut self.rows[place]
    }

    fn forget(&mut self, nth: u8) {
        self.rows.remove(self.place(nth));
        self.whose &= !(1 << nth);
        self.rows.shrink_to_fit();
    }

    /// Forget which ones are empty.
    fn tidy(&mut self, looked_at: &[(u8, Mark)]) {
        for (nth, _) in looked_at {
            if self.get(*nth).is_some_and(Window::is_empty) {
                self.forget(*nth);
            }
        }
    }
}

/// What few machines have: open episodes, and rules that stay silent for a while after one.
#[derive(Default)]
struct Rare {
    /// By hold key: silent until, in ms.
    holds: Vec<(String, Json)>,
    /// By row.
    open: Vec<(String, Json)>,
}

/// The name of the boot that a machine is in, near at hand; longer ones are looked up.
#[derive(Clone, Copy, Default)]
struct Current {
    letters: [u8; 14],
    len: u8,
    name: u8,
}

impl Current {
    fn of(name: u8, letters: &[u8]) -> Current {
        let mut current = Current { name, ..Current::default() };
        if letters.len() <= current.letters.len() {
            current.letters[..letters.len()].copy_from_slice(letters);
            current.len = letters.len() as u8;
        }
        current
    }

    /// An empty name is looked up, too.
    fn is(&self, letters: &[u8]) -> bool {
        letters.len() == self.len as usize && self.len > 0 && self.letters[..letters.len()] == *letters
    }
}

/// All rules on one machine. What every sample needs stands first and together.
#[repr(C)]
pub struct Detector {
    current: Current,
    last_ts: i64,
    last_seen: i64,
    last_seq: i64,
    guard_until: i64,
    frozen_ms: i64,
    /// Rules with samples in their window, and rules with an open episode: a bit each.
    waiting: u64,
    open: u64,
    /// The rule about silence has an open episode.
    silent: bool,
    /// The interval was given as a whole number.
    interval_whole: bool,
    interval_s: Option<f64>,
    rhythm: Rhythm,
    boots: [u8; BOOTS],
    boot_count: u8,
    /// Names of boots.
    names: Vec<Box<[u8]>>,
    remembered: Remembered,
    /// The last sample as it was written; or, from Python, a list of the last samples' values.
    moment: Vec<u8>,
    inference: StateInference,
    facts: Facts,
    windows: Windows,
    rare: Option<Box<Rare>>,
}

enum Place {
    /// It was here before, or it is too late.
    Past {
        remember: Option<(u8, i64)>,
    },
    Next {
        remember: Option<(u8, i64)>,
    },
    Python,
}

impl Detector {
    pub fn new(spec: &Spec) -> Detector {
        Detector {
            current: Current::default(),
            last_ts: NEVER,
            last_seen: NEVER,
            last_seq: -1,
            guard_until: 0,
            frozen_ms: 0,
            waiting: 0,
            open: 0,
            silent: false,
            interval_whole: false,
            interval_s: None,
            rhythm: Rhythm::default(),
            boots: [0; BOOTS],
            boot_count: 0,
            names: Vec::new(),
            remembered: Remembered::new(),
            moment: Vec::new(),
            inference: StateInference::new(),
            facts: Facts::new(spec),
            windows: Windows::default(),
            rare: None,
        }
    }

    /// When the machine was heard last, in ms.
    pub fn last_seen(&self) -> Option<i64> {
        (self.last_seen != NEVER).then_some(self.last_seen)
    }

    /// Whether the rule about silence has an open episode.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    pub fn interval_s(&self) -> Option<f64> {
        self.interval_s
    }

    /// The machine said how often it sends.
    pub fn set_interval_s(&mut self, interval_s: f64) {
        (self.interval_s, self.interval_whole) = (Some(interval_s), false);
    }

    /// The machine's state at the last reading; `offline` while it is silent or nothing was heard yet.
    pub fn state_name<'a>(&self, spec: &'a Spec) -> &'a str {
        if self.last_seen == NEVER || self.silent || self.facts.state() == NONE {
            return "offline";
        }
        &spec.states[self.facts.state() as usize]
    }

    pub fn expected_interval_ms(&self) -> i64 {
        let declared = self.interval_s.map_or(0, |interval| (interval * 1000.0) as i64);
        match declared.max(self.rhythm.measured().unwrap_or(0)) {
            0 => UNKNOWN_INTERVAL_MS,
            known => known,
        }
    }

    /// Soon there will be a sample: have at hand what it needs. Among many machines that is half of the time.
    pub fn expect(&self) {
        #[cfg(target_arch = "x86_64")]
        for line in 0..std::mem::size_of::<Detector>().div_ceil(64) {
            use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
            // SAFETY: a prefetch never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(self).cast::<i8>().wrapping_add(64 * line)) };
        }
    }

    /// Take in one sample.
    pub fn fold(&mut self, spec: &Spec, view: &View, scratch: &mut Scratch) -> Fold {
        if self.silent {
            return Fold::Python;
        }
        if !view.sample.backfill {
            match self.place(view) {
                Place::Python => return Fold::Python,
                Place::Past { remember } => {
                    if let Some((name, seq)) = remember {
                        self.adopt(view, name);
                        self.remembered.push(name, seq);
                    }
                }
                Place::Next { remember } => {
                    if self.next(spec, view, scratch).is_err() {
                        return Fold::Python;
                    }
                    self.remember(view, remember);
                }
            }
        }
        self.last_seen = self.last_seen.max(view.recv_ms);
        Fold::Done
    }

    /// Where the sample stands among those that were told.
    fn place(&self, view: &View) -> Place {
        let Sample { ts, seq, boot, object, .. } = *view.sample;
        let mut remember = None;
        let mut current = false;
        if seq >= 0 {
            let name = match self.name_of(view.boot().unwrap_or(NO_BOOT)) {
                Some(name) => name,
                None if self.names.len() < MOST_NAMES => self.names.len() as u8,
                None => return Place::Python,
            };
            if self.remembered.has(name, seq) {
                return Place::Past { remember: None };
            }
            let boots = &self.boots[..self.boot_count as usize];
            if boot.is_some() && !boots.contains(&name) && ts <= self.last_ts {
                return Place::Python; // the clock of a machine that started anew
            }
            current = boot.is_none() || boots.last() == Some(&name);
            remember = Some((name, seq));
        }
        if ts < self.last_ts {
            let set_back = seq >= 0 && self.last_ts - ts > REORDER_MS && current && seq > self.last_seq;
            return if set_back { Place::Python } else { Place::Past { remember } };
        }
        if ts == self.last_ts || object.len as usize > LONGEST_MOMENT {
            return Place::Python;
        }
        Place::Next { remember }
    }

    fn name_of(&self, boot: &[u8]) -> Option<u8> {
        if self.current.is(boot) {
            return Some(self.current.name);
        }
        (0..self.names.len() as u8).find(|name| *self.names[*name as usize] == *boot)
    }

    /// Give a boot's name its number, where it has none.
    fn adopt(&mut self, view: &View, name: u8) {
        if name as usize == self.names.len() {
            self.names.push(view.boot().unwrap_or(NO_BOOT).into());
        }
    }

    /// Keep by what the sample is known when it comes again.
    fn remember(&mut self, view: &View, identity: Option<(u8, i64)>) {
        let sample = view.sample;
        if let Some((name, seq)) = identity {
            self.adopt(view, name);
            self.remembered.push(name, seq);
            if sample.boot.is_some() && !self.boots[..self.boot_count as usize].contains(&name) {
                if self.boot_count as usize == BOOTS {
                    self.boots.copy_within(1.., 0);
                } else {
                    self.boot_count += 1;
                }
                self.boots[self.boot_count as usize - 1] = name;
                self.current = Current::of(name, &self.names[name as usize]);
                self.last_seq = seq;
            } else if sample.boot.is_none() || self.boots[..self.boot_count as usize].last() == Some(&name) {
                self.last_seq = self.last_seq.max(seq);
            }
        }
        let said = view.slice(sample.object);
        self.moment.clear();
        if self.moment.capacity() < said.len() || self.moment.capacity() > 2 * said.len() + 2 * SPARE {
            self.moment = Vec::with_capacity(said.len() + SPARE);
        }
        self.moment.extend_from_slice(said);
        self.last_ts = sample.ts;
    }

    fn next(&mut self, spec: &Spec, view: &View, scratch: &mut Scratch) -> Result<(), Odd> {
        let rhythm = self.rhythm;
        if self.last_ts != NEVER && view.sample.ts - self.last_ts < LONGEST_DELTA_MS {
            self.rhythm.push((view.sample.ts - self.last_ts) as u32);
        }
        scratch.inference.copy_from(&self.inference);
        scratch.marks.clear();
        let judged = match self.inference.step(spec, view) {
            Ok(state) => {
                scratch.facts.note(&self.facts);
                let judged = self.judge(spec, view, state, scratch);
                if judged.is_err() {
                    self.facts.back_to(&scratch.facts);
                }
                judged
            }
            odd => odd.map(|_| ()),
        };
        if judged.is_err() {
            self.rhythm = rhythm;
            std::mem::swap(&mut self.inference, &mut scratch.inference);
            for (nth, mark) in &scratch.marks {
                self.windows.of(*nth).back_to(*mark);
                self.note_waiting(*nth);
            }
        }
        self.windows.tidy(&scratch.marks);
        judged
    }

    /// Facts, guards and rules. On `Odd` facts and windows have changed.
    fn judge(&mut self, spec: &Spec, view: &View, state: State, scratch: &mut Scratch) -> Result<(), Odd> {
        let ts = view.sample.ts;
        let before = self.facts.state();
        self.facts.update(spec, view, state, self.inference.pn)?;
        let mut guard_until = self.guard_until;
        if self.facts.changed() {
            let started = spec.rules.is_cold(before) && state != NONE && spec.active[state as usize];
            guard_until = guard_until.max(ts + if started { START_GUARD_MS } else { CHANGE_GUARD_MS });
        }
        let quiet = ts < guard_until;
        let frozen_ms = self.frozen_ms + if quiet { self.facts.dt_ms() } else { 0 };
        let own_t = ts - frozen_ms;
        let rhythm_ms = self.rhythm.measured().unwrap_or_else(|| self.declared_ms());
        let gap_ms = (3 * rhythm_ms).max(60_000);
        for nth in &spec.rules.asked {
            let rule = &spec.rules.rows[*nth as usize];
            if (quiet && rule.guarded) || view.sample.mask & rule.needs != rule.needs {
                continue;
            }
            let facts = &self.facts;
            if !rule.when.holds(|slot| facts.slot(spec, view, slot)) {
                continue;
            }
            let t = if rule.guarded { own_t } else { ts };
            let is_open = self.open >> nth & 1 == 1;
            if !is_open && rule.roots != 0 && self.is_explained(spec, rule.roots, own_t, ts, gap_ms) {
                continue;
            }
            let condition = if is_open { &rule.clears } else { &rule.raises };
            let agrees = condition.holds(|slot| facts.slot(spec, view, slot));
            if !agrees && self.waiting >> nth & 1 == 0 {
                continue;
            }
            let window = self.windows.of(*nth);
            scratch.marks.push((*nth, window.mark()));
            let span_ms = if is_open { rule.off_ms } else { rule.on_ms };
            let lasted = window.lasted(agrees, t, span_ms, gap_ms, rule.min_samples, &mut scratch.times);
            self.note_waiting(*nth);
            if lasted && (is_open || !self.is_held_back(spec, rule, ts)) {
                return Err(Odd);
            }
        }
        self.guard_until = guard_until;
        self.frozen_ms = frozen_ms;
        Ok(())
    }

    fn declared_ms(&self) -> i64 {
        match self.interval_s {
            Some(interval) if interval != 0.0 => (interval * 1000.0) as i64,
            _ => 30_000,
        }
    }

    fn note_waiting(&mut self, nth: u8) {
        let bit = 1u64 << nth;
        if self.windows.get(nth).map_or(true, Window::is_empty) {
            self.waiting &= !bit;
        } else {
            self.waiting |= bit;
        }
    }

    /// Whether one of `roots` is open, or about to be.
    fn is_explained(&self, spec: &Spec, roots: u64, own_t: i64, ts: i64, gap_ms: i64) -> bool {
        if self.open & roots != 0 {
            return true;
        }
        let mut waiting = self.waiting & roots;
        while waiting != 0 {
            let nth = waiting.trailing_zeros() as u8;
            let t = if spec.rules.rows[nth as usize].guarded { own_t } else { ts };
            if self.windows.get(nth).is_some_and(|window| t - window.last() <= gap_ms) {
                return true;
            }
            waiting &= waiting - 1;
        }
        false
    }

    /// Whether a rule whose condition has lasted says nothing: a worse row of its key is open, or it has cleared just now.
    #[cold]
    fn is_held_back(&self, spec: &Spec, rule: &Rule, ts: i64) -> bool {
        let Some(rare) = &self.rare else { return false };
        if rule.weighed {
            return false; // Python knows what it weighs
        }
        let peers = spec.rules.rows.iter().filter(|peer| peer.key == rule.key && peer.row != rule.row);
        let severities = peers.filter_map(|peer| rare.open.iter().find(|(row, _)| *row == peer.row));
        severities.into_iter().any(|(_, finding)| finding.get("severity").int().is_some_and(|open| open <= rule.severity))
            || rare.holds.iter().any(|(key, until)| *key == rule.key && until.int().is_some_and(|until| ts < until))
    }

    /// Everything remembered, as Python's `Detector.dump` says it.
    pub fn dump(&self, spec: &Spec) -> Json {
        let whole = |time: i64| {
            if time == NEVER {
                Json::Null
            } else {
                Json::Int(time)
            }
        };
        let name = |nth: u8| String::from_utf8_lossy(&self.names[nth as usize]).into_owned();
        let interval = match self.interval_s {
            Some(interval) if self.interval_whole => Json::Int(interval as i64),
            Some(interval) => Json::Num(interval),
            None => Json::Null,
        };
        let windows = spec.rules.rows.iter().zip(0u8..).filter_map(|(rule, nth)| Some((rule, self.windows.get(nth)?)));
        let rare = self.rare.as_deref();
        let deltas = &self.rhythm.deltas[..self.rhythm.count as usize];
        let pairs = [
            ("frozen_ms", Json::Int(self.frozen_ms)),
            ("guard_until", Json::Int(self.guard_until)),
            ("last_seen", whole(self.last_seen)),
            ("last_seq", Json::Int(self.last_seq)),
            ("interval_s", interval),
            ("last_ts", whole(self.last_ts)),
            ("deltas", Json::List(deltas.iter().map(|delta| Json::Int(i64::from(*delta))).collect())),
            ("holds", Json::Map(rare.map(|rare| rare.holds.clone()).unwrap_or_default())),
            (
                "remembered",
                Json::List(self.remembered.iter().map(|(nth, seq)| Json::Text(format!("{}:{seq}", name(nth)))).collect()),
            ),
            ("boots", Json::List(self.boots[..self.boot_count as usize].iter().map(|nth| Json::Text(name(*nth))).collect())),
            ("same_moment", self.same_moment(spec)),
            ("inference", self.inference.dump(spec)),
            ("facts", self.facts.dump(spec)),
            (
                "windows",
                Json::Map(
                    windows
                        .map(|(rule, window)| (rule.row.clone(), Json::List(window.codes().map(Json::Int).collect())))
                        .collect(),
                ),
            ),
            ("open", Json::Map(rare.map(|rare| rare.open.clone()).unwrap_or_default())),
        ];
        Json::Map(pairs.into_iter().map(|(key, value)| (key.to_string(), value)).collect())
    }

    /// The values of the last sample, or samples.
    fn same_moment(&self, spec: &Spec) -> Json {
        if self.moment.first() != Some(&b'{') {
            return Json::parse(&self.moment).unwrap_or(Json::List(Vec::new()));
        }
        let mut sample = Sample::new();
        let read = Scanner::new(&self.moment).next(&spec.catalogue, &mut sample);
        debug_assert_eq!(read, Ok(true));
        let view = View { sample: &sample, payload: &self.moment, recv_ms: 0 };
        Json::List(vec![values(&view, &spec.catalogue)])
    }

    /// A detector that goes on where Python's `dump` was taken. Rows that no longer exist are left out. None where it does not
    /// fit in here.
    pub fn load(spec: &Spec, dumped: &Json) -> Option<Detector> {
        let mut loaded = Detector::new(spec);
        let time = |key: &str| {
            if *dumped.get(key) == Json::Null {
                Some(NEVER)
            } else {
                dumped.get(key).int()
            }
        };
        loaded.frozen_ms = dumped.get("frozen_ms").int()?;
        loaded.guard_until = dumped.get("guard_until").int()?;
        loaded.last_seq = dumped.get("last_seq").int()?;
        (loaded.last_seen, loaded.last_ts) = (time("last_seen")?, time("last_ts")?);
        let interval = dumped.get("interval_s");
        loaded.interval_whole = matches!(interval, Json::Int(_));
        loaded.interval_s = Some(interval.num()).filter(|given| !given.is_nan());
        for delta in dumped.get("deltas").items() {
            loaded.rhythm.push(u32::try_from(delta.int()?).ok()?);
        }
        for identity in dumped.get("remembered").items() {
            let (boot, seq) = identity.text().rsplit_once(':')?;
            let seq = seq.parse::<i64>().ok().filter(|seq| (0..1 << SEQ_BITS).contains(seq))?;
            let name = loaded.named(boot)?;
            loaded.remembered.push(name, seq);
        }
        for boot in dumped.get("boots").items() {
            if loaded.boot_count as usize == BOOTS {
                return None;
            }
            loaded.boots[loaded.boot_count as usize] = loaded.named(boot.text())?;
            loaded.boot_count += 1;
        }
        if let Some(last) = loaded.boots[..loaded.boot_count as usize].last() {
            loaded.current = Current::of(*last, &loaded.names[*last as usize]);
        }
        let mut moment = String::new();
        dumped.get("same_moment").write(&mut moment);
        loaded.moment = moment.into_bytes();
        loaded.moment.shrink_to_fit();
        if !loaded.inference.restore(spec, dumped.get("inference")) || !loaded.facts.restore(spec, dumped.get("facts")) {
            return None;
        }
        for (nth, rule) in spec.rules.rows.iter().enumerate() {
            let codes: Option<Vec<i64>> = dumped.get("windows").get(&rule.row).items().iter().map(Json::int).collect();
            let codes = codes?;
            if !codes.is_empty() {
                *loaded.windows.of(nth as u8) = Window::load(codes.into_iter());
                loaded.note_waiting(nth as u8);
            }
        }
        let mut rare = Rare { holds: dumped.get("holds").pairs().to_vec(), open: Vec::new() };
        for (row, finding) in dumped.get("open").pairs() {
            if let Some(nth) = spec.rules.rows.iter().position(|rule| rule.row == *row) {
                loaded.open |= 1 << nth;
            } else if *row == spec.rules.silence {
                loaded.silent = true;
            } else {
                continue;
            }
            rare.open.push((row.clone(), finding.clone()));
        }
        if !rare.holds.is_empty() || !rare.open.is_empty() {
            loaded.rare = Some(Box::new(rare));
        }
        Some(loaded)
    }

    /// The number of a boot's name, a new one where it has none.
    fn named(&mut self, boot: &str) -> Option<u8> {
        if let Some(known) = self.names.iter().position(|name| **name == *boot.as_bytes()) {
            return Some(known as u8);
        }
        self.names.push(boot.as_bytes().into());
        u8::try_from(self.names.len() - 1).ok()
    }
}

fn values(view: &View, catalogue: &Catalogue) -> Json {
    let said = (0..catalogue.channels.len() as u8).filter(|place| view.has(*place)).map(|place| {
        let channel = &catalogue.channels[place as usize];
        let value = match channel.kind {
            Kind::Float => Json::Num(view.num(place)),
            Kind::Flag => Json::Bool(view.flag(place) == Some(true)),
            Kind::Text => Json::Text(String::from_utf8_lossy(view.written(place)).into_owned()),
        };
        (channel.key.clone(), value)
    });
    Json::Map(said.collect())
}

//! What the fault rules speak of: the figures of one moment of one machine, and what must be remembered to know them; as
//! `domain/catalogue/facts.py` has them. A figure that is absent is nan; a flag that is absent is None.

use crate::card::{Spec, State, Type, NONE};
use crate::electrical::mains_span;
use crate::freshair::FreshairFacts;
use crate::json::Json;
use crate::memory::{memory, Kept};
use crate::sample::{Odd, View};
use crate::soymilk::SoymilkFacts;

pub const LEFT_ALONE_MS: i64 = 90_000;
const NO_CODE: [&[u8]; 8] = [b"", b"0", b"00", b"e0", b"none", b"ok", b"no", b"normal"];
const CODE_HOLD_MS: i64 = 60_000;

/// The figures that all types share.
#[derive(Clone, Debug)]
pub struct Common {
    pub last_ts: Option<i64>,
    pub state: State,
    pub state_since: i64,
    pub state_ms: i64,
    pub ts: i64,
    pub dt_ms: i64,
    pub changed: bool,
    /// Whether the machine said the state itself.
    pub reported: bool,
    pub power: f64,
    pub pn: f64,
    pub volt_low: f64,
    pub volt_high: f64,
    pub level: f64,
    /// The maker's code; empty where there is none.
    pub code: Vec<u8>,
    pub code_ts: i64,
}

memory!(Common: last_ts, state, state_since, code, code_ts);

impl Default for Common {
    fn default() -> Common {
        Common::new()
    }
}

impl Common {
    pub fn new() -> Common {
        Common {
            last_ts: None,
            state: NONE,
            state_since: 0,
            state_ms: 0,
            ts: 0,
            dt_ms: 0,
            changed: false,
            reported: false,
            power: f64::NAN,
            pn: f64::NAN,
            volt_low: f64::NAN,
            volt_high: f64::NAN,
            level: f64::NAN,
            code: Vec::new(),
            code_ts: 0,
        }
    }

    pub fn update(&mut self, spec: &Spec, view: &View, state: State, pn: f64) {
        let (ts, places) = (view.sample.ts, &spec.places);
        self.ts = ts;
        self.dt_ms = self.last_ts.map_or(0, |last| ts - last);
        self.last_ts = Some(ts);
        self.reported = view.text(places.run_state) == Some(spec.name(state).as_bytes());
        self.changed = state != self.state;
        if self.changed {
            self.state = state;
            self.state_since = ts;
        }
        self.state_ms = ts - self.state_since;
        self.power = view.num(places.power_w);
        self.pn = pn;
        self.level = view.num(places.level);
        (self.volt_low, self.volt_high) = mains_span(spec, view);
        if let Some(said) = view.text(places.fault_code) {
            let said = stripped(said);
            self.code.clear();
            if !NO_CODE.iter().any(|none| said.eq_ignore_ascii_case(none)) {
                self.code.extend_from_slice(said);
            }
            self.code_ts = ts;
        } else if !self.code.is_empty() && ts - self.code_ts > CODE_HOLD_MS {
            self.code.clear();
        }
    }

    pub fn copy_from(&mut self, other: &Common) {
        let mut code = std::mem::take(&mut self.code);
        code.clone_from(&other.code);
        *self = Common { code, ..*other };
    }
}

/// Without spaces at both ends; a sample's text has no other white space.
fn stripped(text: &[u8]) -> &[u8] {
    let is_letter = |byte: &u8| *byte != b' ';
    let begin = text.iter().position(is_letter).unwrap_or(text.len());
    let end = text.iter().rposition(is_letter).map_or(begin, |last| last + 1);
    &text[begin..end]
}

/// The facts of one machine, by its type.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one per machine, never moved
pub enum Facts {
    Soymilk(SoymilkFacts),
    Freshair(FreshairFacts),
}

impl Facts {
    pub fn new(spec: &Spec) -> Facts {
        match spec.kind {
            Type::Soymilk => Facts::Soymilk(SoymilkFacts::new()),
            Type::Freshair => Facts::Freshair(FreshairFacts::new()),
        }
    }

    /// Take in the next sample in order of time; `state` and `pn` as the state inference saw them.
    pub fn update(&mut self, spec: &Spec, view: &View, state: State, pn: f64) -> Result<(), Odd> {
        match self {
            Facts::Soymilk(facts) => facts.update(spec, view, state, pn),
            Facts::Freshair(facts) => facts.update(spec, view, state, pn),
        }
        Ok(())
    }

    /// A fact of the last sample by its place in `slot_names`: floats as they are, bools 1 or 0, None nan, states by place.
    pub fn slot(&self, spec: &Spec, view: &View, slot: u8) -> f64 {
        match self {
            Facts::Soymilk(facts) => facts.slot(spec, view, slot),
            Facts::Freshair(facts) => facts.slot(spec, view, slot),
        }
    }

    /// The names of the facts, as Python has them.
    pub fn slot_names(kind: Type) -> &'static [&'static str] {
        match kind {
            Type::Soymilk => SoymilkFacts::SLOTS,
            Type::Freshair => FreshairFacts::SLOTS,
        }
    }

    pub fn common(&self) -> &Common {
        match self {
            Facts::Soymilk(facts) => &facts.common,
            Facts::Freshair(facts) => &facts.common,
        }
    }

    pub fn ts(&self) -> i64 {
        self.common().ts
    }

    pub fn dt_ms(&self) -> i64 {
        self.common().dt_ms
    }

    pub fn changed(&self) -> bool {
        self.common().changed
    }

    /// The state of the last sample; `NONE` before the first.
    pub fn state(&self) -> State {
        self.common().state
    }

    /// JSON of what is remembered.
    pub fn dump(&self, spec: &Spec) -> Json {
        match self {
            Facts::Soymilk(facts) => both(facts.common.dump(spec), facts.dump(spec)),
            Facts::Freshair(facts) => both(facts.common.dump(spec), facts.dump(spec)),
        }
    }

    /// Take over what `dump` or Python wrote; false where it cannot be held exactly.
    #[must_use]
    pub fn restore(&mut self, spec: &Spec, dumped: &Json) -> bool {
        match self {
            Facts::Soymilk(facts) => facts.common.restore(spec, dumped) && facts.restore(spec, dumped),
            Facts::Freshair(facts) => facts.common.restore(spec, dumped) && facts.restore(spec, dumped),
        }
    }

    /// Note how the other one, which is of the same type, is before its `update`; allocates nothing once warm.
    pub fn note(&mut self, other: &Facts) {
        match (self, other) {
            (Facts::Soymilk(facts), Facts::Soymilk(others)) => facts.copy_from(others),
            (Facts::Freshair(facts), Facts::Freshair(others)) => facts.note(others),
            (facts, _) => *facts = other.clone(),
        }
    }

    /// Become as noted before the last `update`.
    pub fn back_to(&mut self, noted: &Facts) {
        match (self, noted) {
            (Facts::Soymilk(facts), Facts::Soymilk(noted)) => facts.copy_from(noted),
            (Facts::Freshair(facts), Facts::Freshair(noted)) => facts.back_to(noted),
            (facts, _) => *facts = noted.clone(),
        }
    }
}

fn both(first: Json, second: Json) -> Json {
    match (first, second) {
        (Json::Map(mut pairs), Json::Map(more)) => {
            pairs.extend(more);
            Json::Map(pairs)
        }
        (first, _) => first,
    }
}

/// A flag as a slot shows it.
pub fn flag(given: Option<bool>) -> f64 {
    given.map_or(f64::NAN, truth)
}

/// A bool as a slot shows it.
pub fn truth(given: bool) -> f64 {
    f64::from(u8::from(given))
}

/// Defines `SLOTS` and `slot` of a type of facts: what all types have, then its own.
macro_rules! slots {
    ($type:ty: |$facts:ident, $spec:ident, $view:ident| $($name:ident: $value:expr,)*) => {
        slots! {@all $type, $facts, $spec, $view,
            ts: $facts.common.ts as f64,
            dt_ms: $facts.common.dt_ms as f64,
            state: f64::from($facts.common.state),
            state_ms: $facts.common.state_ms as f64,
            changed: $crate::facts::truth($facts.common.changed),
            reported: $crate::facts::truth($facts.common.reported),
            power: $facts.common.power,
            pn: $facts.common.pn,
            volt_low: $facts.common.volt_low,
            volt_high: $facts.common.volt_high,
            level: $facts.common.level,
            has_code: $crate::facts::truth(!$facts.common.code.is_empty()),
            is_rejected: 0.0, // a sample with a rejected value is odd
            $($name: $value,)*
        }
    };
    (@all $type:ty, $facts:ident, $spec:ident, $view:ident, $($name:ident: $value:expr,)*) => {
        mod at {
            #[allow(non_camel_case_types)]
            enum Slot { $($name),* }
            $(#[allow(non_upper_case_globals)] pub const $name: u8 = Slot::$name as u8;)*
        }

        impl $type {
            /// The names of the slots, as Python has them.
            pub const SLOTS: &'static [&'static str] = &[$(stringify!($name)),*];

            /// A fact of the last sample by its place in `SLOTS`.
            pub fn slot(&self, $spec: &$crate::card::Spec, $view: &$crate::sample::View, slot: u8) -> f64 {
                let ($facts, _, _) = (self, $spec, $view);
                match slot {
                    $(at::$name => $value,)*
                    _ => f64::NAN,
                }
            }
        }
    };
}
pub(crate) use slots;

//! What is remembered, as JSON: the names and types of `Memory.dump` in `domain/catalogue/facts.py`.

use crate::card::{Spec, State, NONE};
use crate::json::Json;
use crate::sample::EXACT;

/// Something that a memory keeps under a name.
pub trait Kept {
    fn dump(&self, spec: &Spec) -> Json;

    /// Take over what `dump` or Python wrote; false where it cannot be held exactly.
    fn restore(&mut self, spec: &Spec, dumped: &Json) -> bool;
}

/// Defines `dump` and `restore` of a type from the names that it remembers.
macro_rules! memory {
    ($type:ty: $($name:ident),*) => {
        impl $crate::memory::Kept for $type {
            fn dump(&self, spec: &$crate::card::Spec) -> $crate::json::Json {
                $crate::json::Json::Map(vec![
                    $((stringify!($name).to_string(), $crate::memory::Kept::dump(&self.$name, spec))),*
                ])
            }

            fn restore(&mut self, spec: &$crate::card::Spec, dumped: &$crate::json::Json) -> bool {
                dumped.pairs().iter().all(|(name, value)| match name.as_str() {
                    $(stringify!($name) => $crate::memory::Kept::restore(&mut self.$name, spec, value),)*
                    _ => true,
                })
            }
        }
    };
}
pub(crate) use memory;

fn put<T>(into: &mut T, found: Option<T>) -> bool {
    found.map(|value| *into = value).is_some()
}

impl Kept for i64 {
    fn dump(&self, _: &Spec) -> Json {
        Json::Int(*self)
    }

    fn restore(&mut self, _: &Spec, dumped: &Json) -> bool {
        put(self, if let Json::Int(whole) = dumped { Some(*whole).filter(|one| one.abs() < EXACT) } else { None })
    }
}

impl Kept for Option<i64> {
    fn dump(&self, _: &Spec) -> Json {
        Json::of(*self)
    }

    fn restore(&mut self, spec: &Spec, dumped: &Json) -> bool {
        *self = None;
        *dumped == Json::Null || self.insert(0).restore(spec, dumped)
    }
}

/// A figure; nan is Python's None.
impl Kept for f64 {
    fn dump(&self, _: &Spec) -> Json {
        if self.is_finite() {
            Json::Num(*self)
        } else {
            Json::Null
        }
    }

    fn restore(&mut self, _: &Spec, dumped: &Json) -> bool {
        *self = dumped.num();
        matches!(dumped, Json::Null | Json::Int(_) | Json::Num(_))
    }
}

impl Kept for bool {
    fn dump(&self, _: &Spec) -> Json {
        Json::Bool(*self)
    }

    fn restore(&mut self, _: &Spec, dumped: &Json) -> bool {
        put(self, if let Json::Bool(flag) = dumped { Some(*flag) } else { None })
    }
}

impl Kept for State {
    fn dump(&self, spec: &Spec) -> Json {
        Json::Text(spec.name(*self).to_string())
    }

    fn restore(&mut self, spec: &Spec, dumped: &Json) -> bool {
        *self = spec.state(dumped.text().as_bytes());
        *self != NONE || *dumped == Json::Text(String::new())
    }
}

/// A text.
impl Kept for Vec<u8> {
    fn dump(&self, _: &Spec) -> Json {
        Json::Text(String::from_utf8_lossy(self).into_owned())
    }

    fn restore(&mut self, _: &Spec, dumped: &Json) -> bool {
        put(self, if let Json::Text(text) = dumped { Some(text.clone().into_bytes()) } else { None })
    }
}

impl Kept for Option<Vec<u8>> {
    fn dump(&self, spec: &Spec) -> Json {
        self.as_ref().map_or(Json::Null, |text| text.dump(spec))
    }

    fn restore(&mut self, spec: &Spec, dumped: &Json) -> bool {
        *self = None;
        *dumped == Json::Null || self.insert(Vec::new()).restore(spec, dumped)
    }
}

fn dump_all<T: Kept>(items: &[T], spec: &Spec) -> Json {
    Json::List(items.iter().map(|item| item.dump(spec)).collect())
}

fn restore_all<T: Kept + Default>(items: &mut Vec<T>, spec: &Spec, dumped: &Json) -> bool {
    items.clear();
    matches!(dumped, Json::List(_))
        && dumped.items().iter().all(|one| {
            items.push(T::default());
            items.last_mut().is_some_and(|item| item.restore(spec, one))
        })
}

impl Kept for Vec<i64> {
    fn dump(&self, spec: &Spec) -> Json {
        dump_all(self, spec)
    }

    fn restore(&mut self, spec: &Spec, dumped: &Json) -> bool {
        restore_all(self, spec, dumped)
    }
}

impl Kept for Vec<f64> {
    fn dump(&self, spec: &Spec) -> Json {
        dump_all(self, spec)
    }

    fn restore(&mut self, spec: &Spec, dumped: &Json) -> bool {
        restore_all(self, spec, dumped) && self.iter().all(|one| one.is_finite())
    }
}

/// A figure and its time.
impl Kept for (i64, f64) {
    fn dump(&self, spec: &Spec) -> Json {
        Json::List(vec![self.0.dump(spec), self.1.dump(spec)])
    }

    fn restore(&mut self, spec: &Spec, dumped: &Json) -> bool {
        match dumped.items() {
            [ts, value] => self.0.restore(spec, ts) && self.1.restore(spec, value) && self.1.is_finite(),
            _ => false,
        }
    }
}

impl Kept for Vec<(i64, f64)> {
    fn dump(&self, spec: &Spec) -> Json {
        dump_all(self, spec)
    }

    fn restore(&mut self, spec: &Spec, dumped: &Json) -> bool {
        restore_all(self, spec, dumped)
    }
}

/// The last `N` figures, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Last<const N: usize> {
    items: [f64; N],
    len: usize,
}

impl<const N: usize> Last<N> {
    pub fn new() -> Last<N> {
        Last { items: [0.0; N], len: 0 }
    }

    /// Take in a figure; the oldest one gives way.
    pub fn push(&mut self, figure: f64) {
        if self.len == N {
            self.items.copy_within(1.., 0);
            self.len -= 1;
        }
        self.items[self.len] = figure;
        self.len += 1;
    }

    pub fn all(&self) -> &[f64] {
        &self.items[..self.len]
    }
}

impl<const N: usize> Default for Last<N> {
    fn default() -> Last<N> {
        Last::new()
    }
}

impl<const N: usize> Kept for Last<N> {
    fn dump(&self, spec: &Spec) -> Json {
        dump_all(self.all(), spec)
    }

    fn restore(&mut self, spec: &Spec, dumped: &Json) -> bool {
        let mut figures: Vec<f64> = Vec::new();
        let held = figures.restore(spec, dumped);
        self.len = 0;
        figures.into_iter().for_each(|figure| self.push(figure));
        held
    }
}

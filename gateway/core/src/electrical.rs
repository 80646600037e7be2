//! Mains voltage and voltage-normalised power, as `domain/catalogue/electrical.py` has them.

use std::hint::black_box;

use crate::card::{larger, smaller, Card, Spec};
use crate::sample::View;

const LINE_TO_NEUTRAL: f64 = 0.75;
const NO_SUPPLY: f64 = 0.3;

/// Lowest and highest voltage reported in V, phase against phase on a three-phase card; (nan, nan) where there is none.
pub fn mains_span(spec: &Spec, view: &View) -> (f64, f64) {
    let (card, places) = (&spec.card, &spec.places);
    let neutral = LINE_TO_NEUTRAL * card.rated_v;
    let between = |volts: f64| if card.phases == 3 && volts < neutral { volts * 3f64.sqrt() } else { volts };
    let total = between(view.num(places.voltage_v));
    if view.sample.mask & spec.phase_volts == 0 {
        return (total, total);
    }
    let (mut low, mut high) = (total, total);
    for place in [places.voltage_v_a, places.voltage_v_b, places.voltage_v_c] {
        if view.has(place) {
            let volts = between(view.num(place));
            (low, high) = if low.is_nan() { (volts, volts) } else { (smaller(low, volts), larger(high, volts)) };
        }
    }
    (low, high)
}

/// Pn = P·(rated/U)² in W; P itself where the voltage is absent (nan) or no supply at all.
pub fn normalised_w(power_w: f64, volts: f64, card: &Card) -> f64 {
    if volts > NO_SUPPLY * card.rated_v {
        power_w * power(card.rated_v / volts, 2.0)
    } else {
        power_w
    }
}

/// `base ** exponent` as Python computes it: by the C library. The compiler must not see the exponent, or it would put a
/// product in its place, which may differ in the last bit.
pub fn power(base: f64, exponent: f64) -> f64 {
    base.powf(black_box(exponent))
}

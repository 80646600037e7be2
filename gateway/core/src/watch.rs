//! The window of samples that speak for one rule row: `domain/detection/watch.py`.

/// Of the samples in a window that must agree, and of the window that samples must cover.
const SHARE: f64 = 0.8;
const SMALLEST: usize = 4;

/// 2·t + agrees per sample, the first one agreeing. Places are counted on and on, and masked by the capacity, a power of two:
/// nothing that `mark` still spans is overwritten by one call of `lasted`.
#[derive(Default)]
pub struct Window {
    codes: Box<[i64]>,
    head: u32,
    len: u32,
    agreeing: u32,
}

/// What a window must be set back to so that the last sample was never taken in.
#[derive(Clone, Copy)]
pub struct Mark {
    head: u32,
    len: u32,
    agreeing: u32,
}

impl Window {
    pub fn load(codes: impl Iterator<Item = i64>) -> Window {
        let mut window = Window::default();
        for code in codes {
            window.reserve();
            window.push(code);
        }
        window
    }

    pub fn codes(&self) -> impl Iterator<Item = i64> + '_ {
        (0..self.len).map(|nth| self.code(nth))
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Time of the last sample. Only where there is one.
    pub fn last(&self) -> i64 {
        self.code(self.len - 1) >> 1
    }

    pub fn mark(&self) -> Mark {
        Mark { head: self.head, len: self.len, agreeing: self.agreeing }
    }

    pub fn back_to(&mut self, mark: Mark) {
        (self.head, self.len, self.agreeing) = (mark.head, mark.len, mark.agreeing);
    }

    /// Take in a sample; true when the last `span_ms` agree (80 % of at least 3 samples, without a hole).
    pub fn lasted(
        &mut self,
        agrees: bool,
        t: i64,
        span_ms: i64,
        gap_ms: i64,
        min_samples: u32,
        times: &mut Vec<i64>,
    ) -> bool {
        if self.len > 0 {
            let last = self.last();
            if t - last > gap_ms {
                self.reserve();
                self.head = self.head.wrapping_add(self.len);
                (self.len, self.agreeing) = (0, 0);
            } else if t == last {
                return false;
            }
        } else if !agrees {
            return false;
        }
        self.reserve();
        self.push(2 * t + i64::from(agrees));
        let oldest = t - span_ms;
        while self.len > min_samples && self.len > 1 && self.code(1) >> 1 <= oldest {
            self.pop();
        }
        while self.len > 0 && self.code(0) & 1 == 0 {
            self.pop();
        }
        if !agrees
            || self.len < min_samples
            || self.code(0) >> 1 > oldest
            || f64::from(self.agreeing) < SHARE * f64::from(self.len)
        {
            return false;
        }
        self.len < 3 || self.covered(times)
    }

    /// Samples are there for 80 % of the window, by the rhythm of this rule's own channels.
    fn covered(&self, times: &mut Vec<i64>) -> bool {
        times.clear();
        times.extend((1..self.len).map(|nth| (self.code(nth) >> 1) - (self.code(nth - 1) >> 1)));
        let low = (times.len() - 1) / 2;
        let rhythm = *times.select_nth_unstable(low).1;
        let spanned = self.last() - (self.code(0) >> 1);
        (rhythm * i64::from(self.len - 1)) as f64 >= SHARE * spanned as f64
    }

    fn code(&self, nth: u32) -> i64 {
        self.codes[self.head.wrapping_add(nth) as usize & (self.codes.len() - 1)]
    }

    fn push(&mut self, code: i64) {
        let mask = self.codes.len() - 1;
        self.codes[self.head.wrapping_add(self.len) as usize & mask] = code;
        self.len += 1;
        self.agreeing += (code & 1) as u32;
    }

    fn pop(&mut self) {
        self.agreeing -= (self.code(0) & 1) as u32;
        self.head = self.head.wrapping_add(1);
        self.len -= 1;
    }

    /// Room for one more.
    fn reserve(&mut self) {
        let capacity = self.codes.len();
        if (self.len as usize) < capacity {
            return;
        }
        let mut wider = vec![0; (2 * capacity).max(SMALLEST)].into_boxed_slice();
        let mask = wider.len() - 1;
        for nth in 0..self.len {
            wider[self.head.wrapping_add(nth) as usize & mask] = self.code(nth);
        }
        self.codes = wider;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_can_be_taken_back() {
        let mut times = Vec::new();
        let mut window = Window::default();
        for nth in 0..100i64 {
            let (before, mark) = (window.codes().collect::<Vec<_>>(), window.mark());
            let gap = if nth % 17 == 0 { 1 } else { 1000 };
            window.lasted(nth % 5 != 3, nth * 10, 80, gap, 3, &mut times);
            let after = window.codes().collect::<Vec<_>>();
            window.back_to(mark);
            assert_eq!(window.codes().collect::<Vec<_>>(), before);
            window.lasted(nth % 5 != 3, nth * 10, 80, gap, 3, &mut times);
            assert_eq!(window.codes().collect::<Vec<_>>(), after);
        }
    }

    #[test]
    fn it_lasts_when_the_span_is_covered() {
        let mut times = Vec::new();
        let mut window = Window::default();
        let said: Vec<bool> = (0..8).map(|nth| window.lasted(true, nth * 10_000, 60_000, 60_000, 3, &mut times)).collect();
        assert_eq!(said, [false, false, false, false, false, false, true, true]);
    }
}

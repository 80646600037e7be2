//! Ordinary samples: flat JSON objects of catalogue channels with usable values. Whatever is not ordinary (nesting,
//! escapes, a value out of range, a wrong type, a time that is no whole number …) is `Odd`, and Python decides about it.

use crate::json::Json;

/// Not ordinary: Python has to look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odd;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Float,
    Text,
    Flag,
}

#[derive(Clone, Debug)]
pub struct Channel {
    pub key: String,
    pub kind: Kind,
    /// Range of the wire; infinite where the catalogue gives none.
    pub low: f64,
    pub high: f64,
}

/// Place of a channel in its catalogue; `ABSENT` where the type has no such channel.
pub type Place = u8;
pub const ABSENT: Place = 255;
pub const MOST_CHANNELS: usize = 64;
/// Whole numbers from here on are not exact as floats.
pub const EXACT: i64 = 1 << 53;
/// Longest text of a channel, in bytes (characters: these texts are ASCII).
pub const MAX_TEXT: usize = 256;
pub const MAX_SAMPLES: usize = 1000;
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// Keys beside the channels.
const TS: Place = 128;
const SEQ: Place = 129;
const BOOT: Place = 130;
const BACKFILL: Place = 131;
const SERVICE: [(&str, Place); 4] = [("ts", TS), ("seq", SEQ), ("boot", BOOT), ("backfill", BACKFILL)];

/// The channels of one equipment type.
pub struct Catalogue {
    pub channels: Vec<Channel>,
    table: Vec<Place>,
    /// Every known key as it stands in a sample, with quotes and colon, by place.
    quoted: Vec<Vec<u8>>,
}

impl Catalogue {
    /// From a list of `{"key", "kind": "float"|"str"|"bool", "low", "high"}`.
    pub fn new(given: &Json) -> Option<Catalogue> {
        let mut channels = Vec::new();
        for one in given.items() {
            let or = |found: f64, none: f64| if found.is_nan() { none } else { found };
            channels.push(Channel {
                key: one.get("key").text().to_string(),
                kind: match one.get("kind").text() {
                    "float" => Kind::Float,
                    "str" => Kind::Text,
                    "bool" => Kind::Flag,
                    _ => return None,
                },
                low: or(one.get("low").num(), f64::NEG_INFINITY),
                high: or(one.get("high").num(), f64::INFINITY),
            });
        }
        if channels.len() > MOST_CHANNELS {
            return None;
        }
        let mut quoted = vec![Vec::new(); ABSENT as usize + 1];
        let keys = channels.iter().enumerate().map(|(place, channel)| (channel.key.as_str(), place as Place));
        for (key, place) in keys.chain(SERVICE) {
            quoted[place as usize] = format!("\"{key}\":").into_bytes();
        }
        let mut catalogue = Catalogue { channels, table: vec![ABSENT; TABLE], quoted };
        for place in 0..catalogue.channels.len() {
            let mut slot = hash(catalogue.channels[place].key.as_bytes());
            while catalogue.table[slot] != ABSENT {
                slot = (slot + 1) % TABLE;
            }
            catalogue.table[slot] = place as Place;
        }
        Some(catalogue)
    }

    /// Where a channel stands; `ABSENT` where there is none of this name.
    pub fn place(&self, key: &[u8]) -> Place {
        let mut slot = hash(key);
        loop {
            let place = self.table[slot];
            if place == ABSENT || self.channels[place as usize].key.as_bytes() == key {
                return place;
            }
            slot = (slot + 1) % TABLE;
        }
    }
}

const TABLE: usize = 256;

fn hash(key: &[u8]) -> usize {
    let (first, last) = (key.first().copied().unwrap_or(0) as usize, key.last().copied().unwrap_or(0) as usize);
    let middle = key.get(key.len() / 2).copied().unwrap_or(0) as usize;
    (first.wrapping_mul(31) ^ last.wrapping_mul(7) ^ middle.wrapping_mul(113) ^ key.len().wrapping_mul(61)) % TABLE
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub at: u32,
    pub len: u32,
}

/// One sample, as places in the payload it was read from; reused from sample to sample.
pub struct Sample {
    /// The device's time, UTC in ms.
    pub ts: i64,
    /// −1 where there is none.
    pub seq: i64,
    pub boot: Option<Span>,
    pub backfill: bool,
    /// Which channels are there, a bit each by place.
    pub mask: u64,
    numbers: [f64; MOST_CHANNELS],
    spans: [Span; MOST_CHANNELS],
    /// Keys that are no channels.
    pub strangers: Vec<Span>,
    /// The keys of the sample before, in their order: machines say the same things in the same order.
    habits: [Place; MOST_CHANNELS],
    /// The whole object in the payload.
    pub object: Span,
}

impl Default for Sample {
    fn default() -> Sample {
        Sample::new()
    }
}

impl Sample {
    pub fn new() -> Sample {
        Sample {
            ts: 0,
            seq: -1,
            boot: None,
            backfill: false,
            mask: 0,
            numbers: [0.0; MOST_CHANNELS],
            spans: [Span::default(); MOST_CHANNELS],
            strangers: Vec::new(),
            habits: [ABSENT; MOST_CHANNELS],
            object: Span::default(),
        }
    }
}

/// A sample together with the payload it points into, and the time of its receipt in ms.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub sample: &'a Sample,
    pub payload: &'a [u8],
    pub recv_ms: i64,
}

impl<'a> View<'a> {
    /// Whether the channel at `place` is in this sample.
    pub fn has(&self, place: Place) -> bool {
        (place as usize) < MOST_CHANNELS && self.sample.mask >> place & 1 == 1
    }

    /// A float channel's value (nan where it is absent). Only for places of float channels.
    pub fn num(&self, place: Place) -> f64 {
        if self.has(place) {
            self.sample.numbers[place as usize]
        } else {
            f64::NAN
        }
    }

    /// A flag's value. Only for places of flag channels.
    pub fn flag(&self, place: Place) -> Option<bool> {
        self.has(place).then(|| self.sample.numbers[place as usize] != 0.0)
    }

    /// A text's bytes (ASCII without quotes, backslashes and control characters). Only for places of text channels.
    pub fn text(&self, place: Place) -> Option<&'a [u8]> {
        self.has(place).then(|| self.slice(self.sample.spans[place as usize]))
    }

    /// A value as it was written: a number's or a flag's digits and letters, a text without its quotes.
    pub fn written(&self, place: Place) -> &'a [u8] {
        self.slice(self.sample.spans[place as usize])
    }

    /// The boot's name.
    pub fn boot(&self) -> Option<&'a [u8]> {
        self.sample.boot.map(|span| self.slice(span))
    }

    /// Bytes of the payload.
    pub fn slice(&self, span: Span) -> &'a [u8] {
        &self.payload[span.at as usize..(span.at + span.len) as usize]
    }
}

/// Reads the samples of one payload: an object, or an array of up to 1000 of them.
pub struct Scanner<'a> {
    payload: &'a [u8],
    at: usize,
    array: bool,
    count: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(payload: &'a [u8]) -> Scanner<'a> {
        let mut scanner = Scanner { payload, at: 0, array: false, count: 0 };
        scanner.space();
        if payload.get(scanner.at) == Some(&b'[') {
            scanner.at += 1;
            scanner.array = true;
        }
        scanner
    }

    /// The next sample; `Ok(false)` at the end of a payload that was read whole.
    pub fn next(&mut self, catalogue: &Catalogue, sample: &mut Sample) -> Result<bool, Odd> {
        self.space();
        if self.array {
            match self.payload.get(self.at) {
                Some(b']') if self.count == 0 => return Err(Odd),
                Some(b']') => {
                    self.at += 1;
                    self.array = false;
                    return self.ended();
                }
                Some(b',') if self.count > 0 => {
                    self.at += 1;
                    self.space();
                }
                _ if self.count > 0 => return Err(Odd),
                _ => {}
            }
        } else if self.count > 0 {
            return self.ended();
        }
        self.count += 1;
        if self.count > MAX_SAMPLES || self.payload.len() > MAX_PAYLOAD_BYTES {
            return Err(Odd);
        }
        self.object(catalogue, sample)?;
        Ok(true)
    }

    fn ended(&mut self) -> Result<bool, Odd> {
        self.space();
        if self.at == self.payload.len() {
            Ok(false)
        } else {
            Err(Odd)
        }
    }

    fn space(&mut self) {
        while matches!(self.payload.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), Odd> {
        if self.payload.get(self.at) == Some(&byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(Odd)
        }
    }

    fn object(&mut self, catalogue: &Catalogue, sample: &mut Sample) -> Result<(), Odd> {
        let begin = self.at;
        sample.ts = i64::MIN;
        sample.seq = -1;
        sample.boot = None;
        sample.backfill = false;
        sample.mask = 0;
        sample.strangers.clear();
        self.take(b'{')?;
        self.space();
        if self.payload.get(self.at) == Some(&b'}') {
            return Err(Odd);
        }
        let mut nth = 0;
        loop {
            self.space();
            let habit = sample.habits[nth % MOST_CHANNELS];
            let quoted = &catalogue.quoted[habit as usize];
            if habit != ABSENT && self.payload[self.at..].starts_with(quoted) {
                self.at += quoted.len();
                self.space();
                self.member(habit, Span::default(), catalogue, sample)?;
            } else {
                let key = self.text()?;
                self.space();
                self.take(b':')?;
                self.space();
                let name = &self.payload[key.at as usize..(key.at + key.len) as usize];
                let place = match catalogue.place(name) {
                    ABSENT => SERVICE.iter().find(|(key, _)| key.as_bytes() == name).map_or(ABSENT, |(_, place)| *place),
                    place => place,
                };
                sample.habits[nth % MOST_CHANNELS] = place;
                self.member(place, key, catalogue, sample)?;
            }
            nth += 1;
            self.space();
            match self.payload.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    break;
                }
                _ => return Err(Odd),
            }
        }
        if sample.ts == i64::MIN {
            return Err(Odd);
        }
        sample.object = Span { at: begin as u32, len: (self.at - begin) as u32 };
        Ok(())
    }

    #[inline]
    fn member(&mut self, place: Place, key: Span, catalogue: &Catalogue, sample: &mut Sample) -> Result<(), Odd> {
        match place {
            TS => sample.ts = self.whole()?,
            SEQ => {
                if self.null() {
                    sample.seq = -1;
                } else {
                    sample.seq = self.whole()?;
                    if sample.seq < 0 {
                        return Err(Odd);
                    }
                }
            }
            BOOT => sample.boot = if self.null() { None } else { Some(self.text()?) },
            BACKFILL => sample.backfill = self.flag()?,
            ABSENT => {
                self.stranger()?;
                sample.strangers.push(key);
            }
            _ => return self.channel(place, &catalogue.channels[place as usize], sample),
        }
        Ok(())
    }

    fn channel(&mut self, place: Place, channel: &Channel, sample: &mut Sample) -> Result<(), Odd> {
        if self.null() {
            sample.mask &= !(1 << place);
            return Ok(());
        }
        let begin = self.at;
        match channel.kind {
            Kind::Float => {
                let number = self.number()?;
                if !(number >= channel.low && number <= channel.high) {
                    return Err(Odd);
                }
                sample.numbers[place as usize] = number;
                sample.spans[place as usize] = Span { at: begin as u32, len: (self.at - begin) as u32 };
            }
            Kind::Flag => {
                sample.numbers[place as usize] = f64::from(u8::from(self.flag()?));
                sample.spans[place as usize] = Span { at: begin as u32, len: (self.at - begin) as u32 };
            }
            Kind::Text => sample.spans[place as usize] = self.text()?,
        }
        sample.mask |= 1 << place;
        Ok(())
    }

    fn null(&mut self) -> bool {
        let is = self.payload[self.at..].starts_with(b"null");
        if is {
            self.at += 4;
        }
        is
    }

    fn flag(&mut self) -> Result<bool, Odd> {
        let rest = &self.payload[self.at..];
        if rest.starts_with(b"true") {
            self.at += 4;
            Ok(true)
        } else if rest.starts_with(b"false") {
            self.at += 5;
            Ok(false)
        } else {
            Err(Odd)
        }
    }

    /// A short text of plain ASCII: nothing escaped, nothing that does not print.
    fn text(&mut self) -> Result<Span, Odd> {
        self.take(b'"')?;
        let begin = self.at;
        let rest = &self.payload[begin..];
        let len = rest.iter().position(|byte| !PLAIN[*byte as usize]).ok_or(Odd)?;
        if rest[len] != b'"' || len > MAX_TEXT {
            return Err(Odd);
        }
        self.at = begin + len + 1;
        Ok(Span { at: begin as u32, len: len as u32 })
    }

    /// A value without nesting that nobody uses.
    fn stranger(&mut self) -> Result<(), Odd> {
        match self.payload.get(self.at) {
            Some(b'"') => self.text().map(|_| ()),
            Some(b't' | b'f') => self.flag().map(|_| ()),
            Some(b'n') => {
                if self.null() {
                    Ok(())
                } else {
                    Err(Odd)
                }
            }
            _ => self.number().map(|_| ()),
        }
    }

    /// A whole number below 2^53, written without point and exponent.
    fn whole(&mut self) -> Result<i64, Odd> {
        let begin = self.at;
        let number = self.number()?;
        let written = &self.payload[begin..self.at];
        if written.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) || number.abs() >= EXACT as f64 {
            return Err(Odd);
        }
        Ok(number as i64)
    }

    /// A finite JSON number.
    fn number(&mut self) -> Result<f64, Odd> {
        let text = self.payload;
        let begin = self.at;
        let negative = text.get(begin) == Some(&b'-');
        let whole_at = begin + usize::from(negative);
        let mut mantissa = 0u64;
        let mut at = whole_at + digits_of(&text[whole_at..], &mut mantissa);
        if at == whole_at || (text[whole_at] == b'0' && at - whole_at > 1) {
            return Err(Odd);
        }
        let (mut digits, mut scale) = (at - whole_at, 0usize);
        if text.get(at) == Some(&b'.') {
            at += 1;
            scale = digits_of(&text[at..], &mut mantissa);
            if scale == 0 {
                return Err(Odd);
            }
            digits += scale;
            at += scale;
        }
        let mut simple = digits <= 15;
        if let Some(b'e' | b'E') = text.get(at) {
            at += 1;
            at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
            let exponent_at = at;
            while let Some(b'0'..=b'9') = text.get(at) {
                at += 1;
            }
            if at == exponent_at {
                return Err(Odd);
            }
            simple = false;
        }
        self.at = at;
        if simple {
            // Both are exact, so that the quotient is rounded once, as it must be.
            let number = mantissa as f64 / POWERS[scale];
            return Ok(if negative { -number } else { number });
        }
        let said = std::str::from_utf8(&text[begin..at]).map_err(|_| Odd)?;
        match said.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(Odd),
        }
    }
}

/// How many digits `text` begins with; they are put behind those of `mantissa`, which wraps where there are too many.
#[inline]
fn digits_of(text: &[u8], mantissa: &mut u64) -> usize {
    let mut count = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        count += 1;
    }
    count
}

/// Printable ASCII but quote and backslash.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// Exact up to there.
const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

//! From records of the spool to line protocol, for machines that speak the native convention.

use std::collections::HashMap;

use crate::records;
use crate::sample::{Catalogue, Kind, Odd, Sample, Scanner, View};
use crate::topics::{self, Hashing};

/// How old and how far ahead a device's time may be, in ms (`gateway/samples.py`).
#[derive(Clone, Copy)]
pub struct Belief {
    pub oldest_ms: i64,
    pub ahead_ms: i64,
}

impl Belief {
    pub fn holds(&self, ts: i64, recv_ms: i64) -> bool {
        recv_ms - self.oldest_ms <= ts && ts <= recv_ms + self.ahead_ms
    }
}

struct Speaker {
    catalogue: usize,
    /// `measurement,serial=… `
    prefix: Vec<u8>,
    simulated: bool,
    /// Python has taken a record of this machine's in the present chunk: what follows must come behind it.
    away: bool,
}

pub struct Lines {
    pub belief: Belief,
    pub catalogues: Vec<Catalogue>,
    speakers: Vec<Speaker>,
    topics: HashMap<Vec<u8>, u32, Hashing>,
    sample: Sample,
    gone: Vec<u32>,
    /// Lines, a break behind each.
    pub body: Vec<u8>,
    pub lines: usize,
    /// Samples, those without any field too.
    pub samples: usize,
    /// Records for Python, by where they begin.
    pub odd: Vec<u32>,
    /// Messages by the time of their receipt, as they came: ms, and how many.
    pub received: Vec<[i64; 2]>,
}

impl Lines {
    pub fn new(belief: Belief) -> Lines {
        Lines {
            belief,
            catalogues: Vec::new(),
            speakers: Vec::new(),
            topics: HashMap::default(),
            sample: Sample::new(),
            gone: Vec::new(),
            body: Vec::new(),
            lines: 0,
            samples: 0,
            odd: Vec::new(),
            received: Vec::new(),
        }
    }

    /// A machine, by the topic of its telemetry; said again, what is said last holds.
    pub fn speaker(&mut self, topic: &[u8], prefix: &[u8], catalogue: usize, simulated: bool) {
        let speaker = Speaker { catalogue, prefix: prefix.to_vec(), simulated, away: false };
        if let Some(number) = self.topics.get(topic) {
            self.speakers[*number as usize] = speaker;
        } else {
            self.topics.insert(topic.to_vec(), self.speakers.len() as u32);
            self.speakers.push(speaker);
        }
    }

    /// Forget all machines.
    pub fn clear(&mut self) {
        self.topics.clear();
        self.speakers.clear();
    }

    /// Turn the records at the beginning of `chunk` into lines; returns where the last intact one ends.
    pub fn take(&mut self, chunk: &[u8]) -> usize {
        self.body.clear();
        self.odd.clear();
        self.received.clear();
        (self.lines, self.samples) = (0, 0);
        let mut at = 0;
        while let Some(record) = records::read(chunk, at) {
            match self.received.last_mut() {
                Some([recv_ms, count]) if *recv_ms == record.recv_ms => *count += 1,
                _ => self.received.push([record.recv_ms, 1]),
            }
            if self.record(record.topic, record.payload, record.recv_ms).is_err() {
                self.odd.push(record.at as u32);
            }
            at = record.end;
        }
        for number in self.gone.drain(..) {
            self.speakers[number as usize].away = false;
        }
        at
    }

    fn record(&mut self, topic: &[u8], payload: &[u8], recv_ms: i64) -> Result<(), Odd> {
        let Some(number) = self.topics.get(topic).copied() else {
            // A birth may say something about what follows it.
            if let Some(number) = topics::telemetry_of_birth(topic).and_then(|it| self.topics.get(&it[..]).copied()) {
                self.speakers[number as usize].away = true;
                self.gone.push(number);
            }
            return Err(Odd);
        };
        let speaker = &mut self.speakers[number as usize];
        if speaker.away {
            return Err(Odd);
        }
        let catalogue = &self.catalogues[speaker.catalogue];
        let before = (self.body.len(), self.lines, self.samples);
        let mut scanner = Scanner::new(payload);
        loop {
            match scanner.next(catalogue, &mut self.sample) {
                Ok(false) => return Ok(()),
                Ok(true) if self.belief.holds(self.sample.ts, recv_ms) => {
                    self.samples += 1;
                    let view = View { sample: &self.sample, payload, recv_ms };
                    self.lines += usize::from(line(catalogue, speaker, &view, &mut self.body));
                }
                _ => {
                    // Nothing of this record was said: Python says all of it.
                    self.body.truncate(before.0);
                    (self.lines, self.samples) = (before.1, before.2);
                    speaker.away = true;
                    self.gone.push(number);
                    return Err(Odd);
                }
            }
        }
    }
}

/// One line and its break; false, and nothing, where the sample has no field.
fn line(catalogue: &Catalogue, speaker: &Speaker, view: &View, out: &mut Vec<u8>) -> bool {
    let mut rest = view.sample.mask;
    if rest == 0 {
        return false;
    }
    out.extend_from_slice(&speaker.prefix);
    while rest != 0 {
        let place = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        let channel = &catalogue.channels[place];
        out.extend_from_slice(channel.key.as_bytes());
        out.push(b'=');
        let written = view.written(place as u8);
        match channel.kind {
            // A JSON number is a float of line protocol as it stands: nothing is rounded on the way.
            Kind::Float | Kind::Flag => out.extend_from_slice(written),
            Kind::Text => {
                out.push(b'"');
                out.extend_from_slice(written);
                out.push(b'"');
            }
        }
        out.push(b',');
    }
    if speaker.simulated {
        out.extend_from_slice(b"simulated=true ");
    } else {
        let end = out.len() - 1;
        out[end] = b' ';
    }
    digits(view.sample.ts, out);
    out.push(b'\n');
    true
}

/// A believable time is positive.
fn digits(whole: i64, out: &mut Vec<u8>) {
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    let mut rest = whole.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if whole < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&buffer[at..]);
}

//! All machines whose ordinary messages are folded here, by the topic of their telemetry.

use std::collections::HashMap;
use std::rc::Rc;

use crate::detector::{Detector, Fold, Scratch};
use crate::json::{write_text, Json};
use crate::records;
use crate::sample::{Kind, Odd, Sample, Scanner, View, MOST_CHANNELS};
use crate::card::Spec;
use crate::topics::{self, Hashing};

/// More different unknown keys than this are not told apart.
const MOST_STRANGERS: usize = 1000;

struct Machine {
    spec: u32,
    serial: Rc<str>,
    topic: Rc<[u8]>,
    detector: Detector,
    /// Python has its memory.
    away: bool,
    /// Python has a record of it in the present chunk: what follows must come behind it.
    held: bool,
    /// Its memory is another than the one kept last.
    changed: bool,
    /// There is news since `news` was asked last.
    fresh: bool,
    heard_ms: Option<i64>,
    last_ts: Option<i64>,
    skew_ms: Option<i64>,
    latest: Latest,
}

/// The last value of every channel since news were asked for.
#[derive(Default)]
struct Latest {
    mask: u64,
    numbers: Vec<f64>,
    texts: Vec<(u8, Vec<u8>)>,
}

impl Latest {
    fn update(&mut self, spec: &Spec, view: &View) {
        if self.numbers.is_empty() {
            self.numbers.reserve_exact(spec.catalogue.channels.len());
            self.numbers.resize(spec.catalogue.channels.len(), 0.0);
        }
        self.mask |= view.sample.mask;
        let mut rest = view.sample.mask;
        while rest != 0 {
            let place = rest.trailing_zeros() as u8;
            rest &= rest - 1;
            match spec.catalogue.channels[place as usize].kind {
                Kind::Float => self.numbers[place as usize] = view.num(place),
                Kind::Flag => self.numbers[place as usize] = f64::from(u8::from(view.flag(place) == Some(true))),
                Kind::Text => {
                    let said = view.text(place).unwrap_or_default();
                    match self.texts.iter_mut().find(|(at, _)| *at == place) {
                        Some((_, text)) if text == said => {}
                        Some((_, text)) => {
                            text.clear();
                            text.extend_from_slice(said);
                        }
                        None => self.texts.push((place, said.to_vec())),
                    }
                }
            }
        }
    }

    fn tell(&self, spec: &Spec) -> Json {
        let mut pairs = Vec::new();
        for place in 0..MOST_CHANNELS.min(self.numbers.len()) {
            if self.mask >> place & 1 == 0 {
                continue;
            }
            let channel = &spec.catalogue.channels[place];
            let value = match channel.kind {
                Kind::Float => Json::Num(self.numbers[place]),
                Kind::Flag => Json::Bool(self.numbers[place] != 0.0),
                Kind::Text => {
                    let found = self.texts.iter().find(|(at, _)| *at as usize == place);
                    Json::Text(found.map_or(String::new(), |(_, text)| String::from_utf8_lossy(text).into_owned()))
                }
            };
            pairs.push((channel.key.clone(), value));
        }
        Json::Map(pairs)
    }
}

pub struct Fleet {
    specs: Vec<(Spec, Scratch)>,
    machines: Vec<Machine>,
    topics: HashMap<Rc<[u8]>, u32, Hashing>,
    serials: HashMap<Rc<str>, u32, Hashing>,
    parts: Vec<Sample>,
    strangers: HashMap<Vec<u8>, u64>,
    gone: Vec<u32>,
    /// Samples folded by the last `take`.
    pub samples: usize,
    /// Records for Python: where each begins, and how many of its samples are folded already.
    pub odd: Vec<[u32; 2]>,
    /// The latest device time taken in.
    pub watermark_ms: i64,
}

impl Default for Fleet {
    fn default() -> Fleet {
        Fleet::new()
    }
}

impl Fleet {
    pub fn new() -> Fleet {
        Fleet {
            specs: Vec::new(),
            machines: Vec::new(),
            topics: HashMap::default(),
            serials: HashMap::default(),
            parts: Vec::new(),
            strangers: HashMap::new(),
            gone: Vec::new(),
            samples: 0,
            odd: Vec::new(),
            watermark_ms: 0,
        }
    }

    /// What machines of one nameplate share; returns its number.
    pub fn add_spec(&mut self, given: &Json) -> Option<usize> {
        let spec = Spec::new(given)?;
        let scratch = Scratch::new(&spec);
        self.specs.push((spec, scratch));
        Some(self.specs.len() - 1)
    }

    /// Take a machine in: `{"serial", "topic", "spec", "interval_s", "memory", "changed"}`; without a memory it begins anew. Said
    /// again, it comes home with the memory given, `changed` or not. False where that cannot be read.
    pub fn put(&mut self, given: &Json) -> bool {
        let number = given.get("spec").int().unwrap_or(-1) as usize;
        let Some((spec, _)) = self.specs.get(number) else { return false };
        let memory = given.get("memory");
        let mut detector = if *memory == Json::Null {
            Detector::new(spec)
        } else {
            match Detector::load(spec, memory) {
                Some(detector) => detector,
                None => return false,
            }
        };
        let interval_s = given.get("interval_s").num();
        if detector.interval_s().is_none() && !interval_s.is_nan() {
            detector.set_interval_s(interval_s);
        }
        let (serial, topic) = (given.get("serial").text(), given.get("topic").text().as_bytes());
        if let Some(found) = self.serials.get(serial) {
            let machine = &mut self.machines[*found as usize];
            machine.detector = detector;
            machine.spec = number as u32;
            machine.away = false;
            machine.changed |= given.get("changed").truth();
            if *machine.topic != *topic {
                self.topics.remove(&machine.topic);
                machine.topic = topic.into();
                self.topics.insert(machine.topic.clone(), *found);
            }
            return true;
        }
        let at = self.machines.len() as u32;
        let (serial, topic): (Rc<str>, Rc<[u8]>) = (serial.into(), topic.into());
        self.serials.insert(serial.clone(), at);
        self.topics.insert(topic.clone(), at);
        self.machines.push(Machine {
            spec: number as u32,
            serial,
            topic,
            detector,
            away: false,
            held: false,
            changed: given.get("changed").truth(),
            fresh: false,
            heard_ms: None,
            last_ts: None,
            skew_ms: None,
            latest: Latest::default(),
        });
        true
    }

    /// Lend a machine's memory to Python until it is `put` again; None where there is no such machine here.
    pub fn lend(&mut self, serial: &str) -> Option<Json> {
        let machine = &mut self.machines[*self.serials.get(serial)? as usize];
        if machine.away {
            return None;
        }
        machine.away = true;
        Some(machine.detector.dump(&self.specs[machine.spec as usize].0))
    }

    /// How often a machine says it speaks; false where there is no such machine here.
    pub fn interval(&mut self, serial: &str, interval_s: f64) -> bool {
        let Some(found) = self.serials.get(serial) else { return false };
        let machine = &mut self.machines[*found as usize];
        if machine.away {
            return false;
        }
        machine.detector.set_interval_s(interval_s);
        machine.changed = true;
        true
    }

    /// Fold the records at the beginning of `chunk`; returns where the last intact one ends.
    pub fn take(&mut self, chunk: &[u8]) -> usize {
        self.odd.clear();
        self.samples = 0;
        let mut at = 0;
        while let Some(record) = records::read(chunk, at) {
            at = record.end;
            if record.folded {
                continue;
            }
            let spoken = topics::telemetry_of_birth(record.topic);
            let number = self.topics.get(spoken.as_deref().unwrap_or(record.topic)).copied();
            let folded = match number {
                Some(number) if spoken.is_none() => self.record(number, record.payload, record.recv_ms),
                _ => Err(0),
            };
            if let Err(part) = folded {
                self.odd.push([record.at as u32, part]);
                if let Some(number) = number {
                    self.machines[number as usize].held = true;
                    self.gone.push(number);
                }
            }
        }
        for number in self.gone.drain(..) {
            self.machines[number as usize].held = false;
        }
        at
    }

    /// Err with the number of samples folded where Python has to go on.
    fn record(&mut self, number: u32, payload: &[u8], recv_ms: i64) -> Result<(), u32> {
        let machine = &mut self.machines[number as usize];
        if machine.away || machine.held {
            return Err(0);
        }
        machine.detector.expect();
        let (spec, scratch) = &mut self.specs[machine.spec as usize];
        let spec = &*spec;
        let mut scanner = Scanner::new(payload);
        // A later part may make the whole payload unreadable: nothing is folded before all of it was read.
        let mut read = 0;
        loop {
            if read == self.parts.len() {
                self.parts.push(Sample::new());
            }
            match scanner.next(&spec.catalogue, &mut self.parts[read]) {
                Ok(true) => read += 1,
                Ok(false) => break,
                Err(Odd) => return Err(0),
            }
        }
        for (part, sample) in self.parts[..read].iter().enumerate() {
            let view = View { sample, payload, recv_ms };
            let ordinary = spec.is_believable(view.sample.ts, recv_ms)
                && matches!(machine.detector.fold(spec, &view, scratch), Fold::Done);
            if !ordinary {
                return Err(part as u32);
            }
            self.samples += 1;
            machine.changed = true;
            machine.fresh = true;
            if machine.heard_ms.map_or(true, |heard_ms| recv_ms >= heard_ms) {
                machine.heard_ms = Some(recv_ms);
            }
            if !view.sample.backfill {
                machine.skew_ms = Some(recv_ms - view.sample.ts);
                machine.last_ts = Some(machine.last_ts.map_or(view.sample.ts, |last| last.max(view.sample.ts)));
                self.watermark_ms = self.watermark_ms.max(view.sample.ts);
                machine.latest.update(spec, &view);
            }
            for key in &view.sample.strangers {
                let name = view.slice(*key);
                let key = if self.strangers.len() < MOST_STRANGERS || self.strangers.contains_key(name) { name } else { b"?" };
                match self.strangers.get_mut(key) {
                    Some(count) => *count += 1,
                    None => {
                        self.strangers.insert(key.to_vec(), 1);
                    }
                }
            }
        }
        Ok(())
    }

    /// What was heard since this was asked last: `{serial: {"heard_ms", "last_ts", "skew_ms", "state", "latest"}}`.
    pub fn news(&mut self, out: &mut String) {
        out.push('{');
        let begin = out.len();
        for machine in &mut self.machines {
            if !machine.fresh {
                continue;
            }
            machine.fresh = false;
            let spec = &self.specs[machine.spec as usize].0;
            if out.len() > begin {
                out.push(',');
            }
            write_text(&machine.serial, out);
            out.push(':');
            Json::Map(vec![
                ("heard_ms".into(), Json::of(machine.heard_ms)),
                ("last_ts".into(), Json::of(machine.last_ts)),
                ("skew_ms".into(), Json::of(machine.skew_ms)),
                ("state".into(), Json::Text(machine.detector.state_name(spec).to_string())),
                ("latest".into(), machine.latest.tell(spec)),
            ])
            .write(out);
            machine.latest = Latest::default();
        }
        out.push('}');
    }

    /// The memories that changed, by serial, of up to `most` machines from number `from` on; those that are lent out are not among
    /// them. Returns the number to go on from.
    pub fn memories(&self, from: usize, most: usize, out: &mut String) -> usize {
        out.push('{');
        let begin = out.len();
        let (mut next, mut told) = (from, 0);
        while let Some(machine) = self.machines.get(next).filter(|_| told < most) {
            next += 1;
            if !machine.changed || machine.away {
                continue;
            }
            told += 1;
            if out.len() > begin {
                out.push(',');
            }
            write_text(&machine.serial, out);
            out.push(':');
            machine.detector.dump(&self.specs[machine.spec as usize].0).write(out);
        }
        out.push('}');
        next
    }

    /// The memories as they are now are safe.
    pub fn kept(&mut self) {
        for machine in &mut self.machines {
            machine.changed = false;
        }
    }

    /// How many machines there are.
    pub fn count(&self) -> usize {
        self.machines.len()
    }

    /// How many memories changed.
    pub fn changed(&self) -> usize {
        self.machines.iter().filter(|machine| machine.changed).count()
    }

    /// Who may have been silent for too long: `least_ms` is the shortest patience, `more_ms` comes on top.
    pub fn silent(&self, now_ms: i64, least_ms: i64, more_ms: i64, out: &mut String) {
        let silent = self.machines.iter().filter(|machine| {
            !machine.away
                && !machine.detector.is_silent()
                && machine.detector.last_seen().is_some_and(|seen| {
                    now_ms >= seen + (3 * machine.detector.expected_interval_ms()).max(least_ms) + more_ms
                })
        });
        Json::List(silent.map(|machine| Json::Text(machine.serial.to_string())).collect()).write(out);
    }

    /// When each machine was heard, and how often it should be: `{serial: [heard_ms, interval_s]}`, null where unknown; only
    /// those that were ever heard.
    pub fn rhythms(&self, out: &mut String) {
        let heard = self.machines.iter().filter(|machine| machine.detector.last_seen().is_some());
        let pairs = heard.map(|machine| {
            let interval = machine.detector.interval_s().map_or(Json::Null, Json::Num);
            (machine.serial.to_string(), Json::List(vec![Json::of(machine.heard_ms), interval]))
        });
        Json::Map(pairs.collect()).write(out);
    }

    /// Keys that are no channels, and how often each came since this was asked last.
    pub fn strangers(&mut self, out: &mut String) {
        let pairs = self.strangers.drain().map(|(key, count)| {
            (String::from_utf8_lossy(&key).into_owned(), Json::Int(count as i64))
        });
        Json::Map(pairs.collect()).write(out);
    }
}

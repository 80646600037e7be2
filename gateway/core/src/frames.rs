//! What a broker sends nearly all the time: PUBLISH packets at QoS 1 (or 0), whole, one behind the other.

use crate::records;

const PUBLISH: u8 = 3;
const PUBACK: [u8; 2] = [0x40, 2];
/// Longest packet that is taken here (as in `mqtt_codec.py`).
const LIMIT: usize = 1 << 20;

/// What was cut from one read.
#[derive(Default)]
pub struct Frames {
    /// The messages as records of the spool.
    pub block: Vec<u8>,
    /// A PUBACK for each of QoS 1.
    pub acks: Vec<u8>,
    pub count: usize,
}

enum Cut<'a> {
    Message { retained: bool, topic: &'a [u8], mid: Option<[u8; 2]>, payload: &'a [u8], end: usize },
    /// Its end has not come yet.
    Partial,
    /// Anything else: Python knows what to do with it.
    Other,
}

impl Frames {
    /// Take the messages at the beginning of `data`. Returns where they end, and whether what follows is the beginning of
    /// another one (or nothing) rather than a packet that has to be looked at.
    pub fn take(&mut self, data: &[u8], recv_ms: i64, version: u8) -> (usize, bool) {
        self.block.clear();
        self.acks.clear();
        self.count = 0;
        let mut at = 0;
        while at < data.len() {
            match cut(data, at, version) {
                Cut::Message { retained, topic, mid, payload, end } => {
                    records::write(recv_ms, retained, topic, payload, &mut self.block);
                    if let Some(mid) = mid {
                        self.acks.extend_from_slice(&PUBACK);
                        self.acks.extend_from_slice(&mid);
                    }
                    self.count += 1;
                    at = end;
                }
                Cut::Partial => return (at, true),
                Cut::Other => return (at, false),
            }
        }
        (at, true)
    }
}

fn cut(data: &[u8], begin: usize, version: u8) -> Cut<'_> {
    let first = data[begin];
    let qos = first >> 1 & 3;
    if first >> 4 != PUBLISH || qos > 1 {
        return Cut::Other;
    }
    let (length, at) = match varint(data, begin + 1) {
        Varint::Is(length, at) => (length, at),
        Varint::Partial => return Cut::Partial,
        Varint::Broken => return Cut::Other,
    };
    if length > LIMIT {
        return Cut::Other;
    }
    let end = at + length;
    if end > data.len() {
        return Cut::Partial;
    }
    let body = &data[at..end];
    if body.len() < 2 {
        return Cut::Other;
    }
    let topic_end = 2 + u16::from_be_bytes([body[0], body[1]]) as usize;
    let head_end = topic_end + 2 * usize::from(qos);
    if topic_end == 2 || head_end > body.len() {
        return Cut::Other;
    }
    let topic = &body[2..topic_end];
    let plain = topic.iter().all(|byte| (0x20..0x7f).contains(byte));
    if !plain && (topic.contains(&0) || std::str::from_utf8(topic).is_err()) {
        return Cut::Other;
    }
    let mid = (qos == 1).then(|| [body[topic_end], body[topic_end + 1]]);
    let mut payload = &body[head_end..];
    if version == 5 {
        match varint(payload, 0) {
            Varint::Is(length, at) if at + length <= payload.len() => payload = &payload[at + length..],
            _ => return Cut::Other,
        }
    }
    if mid == Some([0, 0]) {
        return Cut::Other;
    }
    Cut::Message { retained: first & 1 == 1, topic, mid, payload, end }
}

enum Varint {
    Is(usize, usize),
    Partial,
    Broken,
}

fn varint(data: &[u8], begin: usize) -> Varint {
    let mut length = 0;
    for nth in 0..4 {
        match data.get(begin + nth) {
            None => return Varint::Partial,
            Some(byte) => {
                length |= usize::from(byte & 0x7f) << (7 * nth);
                if byte & 0x80 == 0 {
                    return Varint::Is(length, begin + nth + 1);
                }
            }
        }
    }
    Varint::Broken
}

//! Records of the spool: a marker, a CRC, a length and a body, which is one MQTT message (see `gateway/ingest/spool.py` and
//! `gateway/messages.py`, whose bytes these are).

use crate::crc::crc32;

const MARK: [u8; 4] = *b"\xb7BR1";
const HEADER: usize = 12;
/// Receipt in ms, flags, length of the topic.
const HEAD: usize = 11;
const RETAINED: u8 = 1;
const FOLDED: u8 = 2;

/// One message as it lies in the spool.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub recv_ms: i64,
    /// The rules have had it already.
    pub folded: bool,
    pub topic: &'a [u8],
    pub payload: &'a [u8],
    /// Where the record begins, and where the next one does.
    pub at: usize,
    pub end: usize,
}

/// Append a message as a record.
pub fn write(recv_ms: i64, retained: bool, topic: &[u8], payload: &[u8], out: &mut Vec<u8>) {
    let length = ((HEAD + topic.len() + payload.len()) as u32).to_le_bytes();
    let begin = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&length);
    out.extend_from_slice(&recv_ms.to_le_bytes());
    out.push(if retained { RETAINED } else { 0 });
    out.extend_from_slice(&(topic.len() as u16).to_le_bytes());
    out.extend_from_slice(topic);
    out.extend_from_slice(payload);
    // The CRC covers the length and the body, which lie side by side.
    let crc = crc32(&out[begin + 8..]).to_le_bytes();
    out[begin + 4..begin + 8].copy_from_slice(&crc);
}

/// The intact record at `at`; None at the end, and where there is none.
pub fn read(buffer: &[u8], at: usize) -> Option<Record<'_>> {
    let header = buffer.get(at..at + HEADER)?;
    if header[..4] != MARK {
        return None;
    }
    let length = u32::from_le_bytes(header[8..12].try_into().ok()?) as usize;
    let end = at.checked_add(HEADER)?.checked_add(length)?;
    let covered = buffer.get(at + 8..end)?;
    if crc32(covered) != u32::from_le_bytes(header[4..8].try_into().ok()?) {
        return None;
    }
    let body = &covered[4..];
    let head = body.get(..HEAD)?;
    let topic_end = HEAD + u16::from_le_bytes(head[9..11].try_into().ok()?) as usize;
    Some(Record {
        recv_ms: i64::from_le_bytes(head[..8].try_into().ok()?),
        folded: head[8] & FOLDED != 0,
        topic: body.get(HEAD..topic_end)?,
        payload: &body[topic_end..],
        at,
        end,
    })
}

/// The serial number that a native topic claims: `brewair/v1/{shard}/{type}/{serial}/…`.
pub fn serial_of(topic: &[u8]) -> Option<&[u8]> {
    topic.strip_prefix(b"brewair/v1/")?.split(|byte| *byte == b'/').nth(2)
}

//! The border to Python (ctypes). Every function returns a status: 0 well, 1 no, −1 this side has failed.
//!
//! # Safety
//! Pointers come from `gateway/core/library.py`: handles from the `_new` function of the same kind, buffers with their
//! length, results valid until the next call on the same handle. A handle is used by one thread at a time.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::slice::from_raw_parts;

use crate::fleet::Fleet;
use crate::frames::Frames;
use crate::json::Json;
use crate::lines::{Belief, Lines};
use crate::records;
use crate::sample::Catalogue;

const WELL: i32 = 0;
const NO: i32 = 1;
const FAILED: i32 = -1;

/// What a call brings: a few counts, and up to three buffers.
#[repr(C)]
pub struct Outcome {
    pub consumed: u64,
    pub count: u64,
    pub samples: u64,
    pub clean: u64,
    pub first: *const u8,
    pub first_len: u64,
    pub second: *const u8,
    pub second_len: u64,
    pub third: *const u8,
    pub third_len: u64,
}

fn guarded(work: impl FnOnce() -> i32) -> i32 {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(FAILED)
}

unsafe fn bytes<'a>(at: *const u8, len: u64) -> &'a [u8] {
    if len == 0 {
        &[]
    } else {
        from_raw_parts(at, len as usize)
    }
}

fn raw<T>(items: &[T]) -> (*const u8, u64) {
    (items.as_ptr().cast(), std::mem::size_of_val(items) as u64)
}

/// A number that both sides know, so that a library of another build is refused.
#[no_mangle]
pub extern "C" fn bc_version() -> u32 {
    2
}

// --- frames

#[no_mangle]
pub extern "C" fn bc_frames_new() -> *mut Frames {
    Box::into_raw(Box::default())
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_frames_free(frames: *mut Frames) {
    drop(Box::from_raw(frames));
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_frames_take(
    frames: *mut Frames,
    data: *const u8,
    len: u64,
    recv_ms: i64,
    version: u32,
    out: *mut Outcome,
) -> i32 {
    guarded(|| {
        let (frames, out) = (&mut *frames, &mut *out);
        let (consumed, clean) = frames.take(bytes(data, len), recv_ms, version as u8);
        (out.consumed, out.clean, out.count) = (consumed as u64, clean.into(), frames.count as u64);
        (out.first, out.first_len) = raw(&frames.block);
        (out.second, out.second_len) = raw(&frames.acks);
        WELL
    })
}

// --- lines

#[no_mangle]
pub extern "C" fn bc_lines_new(oldest_ms: i64, ahead_ms: i64) -> *mut Lines {
    Box::into_raw(Box::new(Lines::new(Belief { oldest_ms, ahead_ms })))
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_lines_free(lines: *mut Lines) {
    drop(Box::from_raw(lines));
}

/// Channels as JSON; catalogues are numbered from 0 in the order in which they come.
///
/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_lines_catalogue(lines: *mut Lines, json: *const u8, len: u64) -> i32 {
    guarded(|| match Json::parse(bytes(json, len)).as_ref().and_then(Catalogue::new) {
        Some(catalogue) => {
            (*lines).catalogues.push(catalogue);
            WELL
        }
        None => NO,
    })
}

/// Replace all machines: a list of `[topic, prefix, catalogue, simulated]`.
///
/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_lines_speakers(lines: *mut Lines, json: *const u8, len: u64) -> i32 {
    guarded(|| {
        let lines = &mut *lines;
        let Some(given) = Json::parse(bytes(json, len)) else { return NO };
        lines.clear();
        for one in given.items() {
            let [topic, prefix, catalogue, simulated] = one.items() else { return NO };
            let number = catalogue.int().unwrap_or(-1) as usize;
            if number >= lines.catalogues.len() {
                return NO;
            }
            lines.speaker(topic.text().as_bytes(), prefix.text().as_bytes(), number, simulated.truth());
        }
        WELL
    })
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_lines_take(lines: *mut Lines, chunk: *const u8, len: u64, out: *mut Outcome) -> i32 {
    guarded(|| {
        let (lines, out) = (&mut *lines, &mut *out);
        out.consumed = lines.take(bytes(chunk, len)) as u64;
        (out.count, out.samples) = (lines.lines as u64, lines.samples as u64);
        (out.first, out.first_len) = raw(&lines.body);
        (out.second, out.second_len) = raw(&lines.odd);
        (out.third, out.third_len) = raw(&lines.received);
        WELL
    })
}

// --- the fleet

pub struct Handle {
    fleet: Fleet,
    said: String,
}

/// An answer about all machines is long, and seldom: room for more than this is given back.
const ROOM: usize = 1 << 20;

impl Handle {
    /// Room for an answer.
    fn begin(&mut self) -> &mut String {
        self.said.clear();
        self.said.shrink_to(ROOM);
        &mut self.said
    }
}

#[no_mangle]
pub extern "C" fn bc_fleet_new() -> *mut Handle {
    Box::into_raw(Box::new(Handle { fleet: Fleet::new(), said: String::new() }))
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_fleet_free(handle: *mut Handle) {
    drop(Box::from_raw(handle));
}

/// The number of the spec comes in `count`.
///
/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_fleet_spec(handle: *mut Handle, json: *const u8, len: u64, out: *mut Outcome) -> i32 {
    guarded(|| {
        let number = Json::parse(bytes(json, len)).and_then(|given| (*handle).fleet.add_spec(&given));
        (*out).count = number.unwrap_or(0) as u64;
        if number.is_some() {
            WELL
        } else {
            NO
        }
    })
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_fleet_put(handle: *mut Handle, json: *const u8, len: u64) -> i32 {
    guarded(|| match Json::parse(bytes(json, len)) {
        Some(given) if (*handle).fleet.put(&given) => WELL,
        _ => NO,
    })
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_fleet_lend(handle: *mut Handle, serial: *const u8, len: u64, out: *mut Outcome) -> i32 {
    guarded(|| {
        let handle = &mut *handle;
        let serial = String::from_utf8_lossy(bytes(serial, len));
        let Some(memory) = handle.fleet.lend(&serial) else { return NO };
        memory.write(handle.begin());
        ((*out).first, (*out).first_len) = raw(handle.said.as_bytes());
        WELL
    })
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_fleet_interval(handle: *mut Handle, serial: *const u8, len: u64, interval_s: f64) -> i32 {
    guarded(|| {
        let serial = String::from_utf8_lossy(bytes(serial, len));
        if (*handle).fleet.interval(&serial, interval_s) {
            WELL
        } else {
            NO
        }
    })
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_fleet_take(handle: *mut Handle, chunk: *const u8, len: u64, out: *mut Outcome) -> i32 {
    guarded(|| {
        (*handle).begin();
        let (fleet, out) = (&mut (*handle).fleet, &mut *out);
        out.consumed = fleet.take(bytes(chunk, len)) as u64;
        out.samples = fleet.samples as u64;
        out.count = fleet.watermark_ms.max(0) as u64;
        (out.first, out.first_len) = raw(&fleet.odd);
        WELL
    })
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_fleet_kept(handle: *mut Handle) -> i32 {
    guarded(|| {
        (*handle).fleet.kept();
        WELL
    })
}

/// How many memories changed, in `count`.
///
/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_fleet_changed(handle: *mut Handle, out: *mut Outcome) -> i32 {
    guarded(|| {
        (*out).count = (*handle).fleet.changed() as u64;
        WELL
    })
}

/// Memories that changed, as JSON: of up to `most` machines from number `from` on. The number to go on from comes in
/// `consumed`, 0 where these were the last.
///
/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_fleet_memories(handle: *mut Handle, from: u64, most: u64, out: *mut Outcome) -> i32 {
    guarded(|| {
        let handle = &mut *handle;
        handle.begin();
        let next = handle.fleet.memories(from as usize, most as usize, &mut handle.said);
        (*out).consumed = if next < handle.fleet.count() { next as u64 } else { 0 };
        ((*out).first, (*out).first_len) = raw(handle.said.as_bytes());
        WELL
    })
}

/// One of the fleet's answers as JSON: 0 news, 1 rhythms, 2 strangers.
///
/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_fleet_tell(handle: *mut Handle, what: u32, out: *mut Outcome) -> i32 {
    guarded(|| {
        let handle = &mut *handle;
        handle.begin();
        match what {
            0 => handle.fleet.news(&mut handle.said),
            1 => handle.fleet.rhythms(&mut handle.said),
            2 => handle.fleet.strangers(&mut handle.said),
            _ => return NO,
        }
        ((*out).first, (*out).first_len) = raw(handle.said.as_bytes());
        WELL
    })
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_fleet_silent(
    handle: *mut Handle,
    now_ms: i64,
    least_ms: i64,
    more_ms: i64,
    out: *mut Outcome,
) -> i32 {
    guarded(|| {
        let handle = &mut *handle;
        handle.begin();
        handle.fleet.silent(now_ms, least_ms, more_ms, &mut handle.said);
        ((*out).first, (*out).first_len) = raw(handle.said.as_bytes());
        WELL
    })
}

// --- records

/// Where the records of certain machines begin: `serials` are divided by line breaks, `places` takes up to `room` of them.
/// `consumed` is where the last intact record ends, or where the room did.
///
/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn bc_pick(
    chunk: *const u8,
    len: u64,
    serials: *const u8,
    serials_len: u64,
    places: *mut u32,
    room: u64,
    out: *mut Outcome,
) -> i32 {
    guarded(|| {
        let (chunk, out) = (bytes(chunk, len), &mut *out);
        let wanted: std::collections::HashSet<&[u8]> =
            bytes(serials, serials_len).split(|byte| *byte == b'\n').collect();
        let (mut at, mut found) = (0, 0);
        while let Some(record) = records::read(chunk, at) {
            if records::serial_of(record.topic).is_some_and(|serial| wanted.contains(serial)) {
                if found == room {
                    break;
                }
                *places.add(found as usize) = record.at as u32;
                found += 1;
            }
            at = record.end;
        }
        (out.consumed, out.count) = (at as u64, found);
        WELL
    })
}

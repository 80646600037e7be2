//! One machine at a time, for the tests that compare the core with Python.

use crate::card::Spec;
use crate::detector::{Detector, Fold, Scratch};
use crate::json::Json;
use crate::sample::{Sample, Scanner, View};

pub struct Single {
    spec: Spec,
    detector: Detector,
    scratch: Scratch,
    parts: Vec<Sample>,
}

/// # Safety
/// `text` must point to `len` bytes.
unsafe fn json(text: *const u8, len: usize) -> Option<Json> {
    Json::parse(std::slice::from_raw_parts(text, len))
}

/// A machine of this spec with this memory (`null`: none yet); null where the core does not know what to do with them.
///
/// # Safety
/// The pointers must point to so many bytes.
#[no_mangle]
pub unsafe extern "C" fn brewair_single_new(
    spec: *const u8,
    spec_len: usize,
    dump: *const u8,
    dump_len: usize,
) -> *mut Single {
    let made = || {
        let spec = Spec::new(&json(spec, spec_len)?)?;
        let detector = match json(dump, dump_len)? {
            Json::Null => Detector::new(&spec),
            dumped => Detector::load(&spec, &dumped)?,
        };
        let scratch = Scratch::new(&spec);
        Some(Box::new(Single { spec, detector, scratch, parts: Vec::new() }))
    };
    made().map_or(std::ptr::null_mut(), Box::into_raw)
}

/// Go on with this memory; false where it does not fit.
///
/// # Safety
/// `single` must be alive, `dump` must point to `len` bytes.
#[no_mangle]
pub unsafe extern "C" fn brewair_single_load(single: *mut Single, dump: *const u8, len: usize) -> bool {
    let single = &mut *single;
    let loaded = json(dump, len).and_then(|dumped| Detector::load(&single.spec, &dumped));
    let fits = loaded.is_some();
    if let Some(detector) = loaded {
        single.detector = detector;
    }
    fits
}

/// Take in one payload: −1 when all of it is done, else the first object that is for Python (all before it are done).
///
/// # Safety
/// `single` must be alive, `payload` must point to `len` bytes.
#[no_mangle]
pub unsafe extern "C" fn brewair_single_fold(single: *mut Single, payload: *const u8, len: usize, recv_ms: i64) -> i64 {
    let Single { spec, detector, scratch, parts } = &mut *single;
    let payload = std::slice::from_raw_parts(payload, len);
    // Nothing may be taken in before the whole payload is known to be ordinary: an odd part can make all of it unusable.
    let mut scanner = Scanner::new(payload);
    let mut count = 0;
    loop {
        if parts.len() == count {
            parts.push(Sample::new());
        }
        match scanner.next(&spec.catalogue, &mut parts[count]) {
            Ok(true) if spec.is_believable(parts[count].ts, recv_ms) => count += 1,
            Ok(false) => break,
            _ => return 0,
        }
    }
    for (nth, sample) in parts[..count].iter().enumerate() {
        if detector.fold(spec, &View { sample, payload, recv_ms }, scratch) == Fold::Python {
            return nth as i64;
        }
    }
    -1
}

/// The memory as JSON text, to be given back by `brewair_single_free_text`.
///
/// # Safety
/// `single` must be alive, `len` must be writable.
#[no_mangle]
pub unsafe extern "C" fn brewair_single_dump(single: *const Single, len: *mut usize) -> *mut u8 {
    let single = &*single;
    let mut text = String::new();
    single.detector.dump(&single.spec).write(&mut text);
    let text = text.into_bytes().into_boxed_slice();
    *len = text.len();
    Box::into_raw(text).cast()
}

/// # Safety
/// `text` and `len` must come from `brewair_single_dump`.
#[no_mangle]
pub unsafe extern "C" fn brewair_single_free_text(text: *mut u8, len: usize) {
    drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(text, len)));
}

/// # Safety
/// `single` must come from `brewair_single_new`, and is gone afterwards.
#[no_mangle]
pub unsafe extern "C" fn brewair_single_free(single: *mut Single) {
    drop(Box::from_raw(single));
}

//! For tests only: runs samples through the state inference and the facts, and shows all that they say.

use crate::card::Spec;
use crate::facts::Facts;
use crate::json::Json;
use crate::sample::{Sample, Scanner, View};
use crate::states::StateInference;

/// Bytes that Rust owns; give them back with `brewair_probe_free`.
#[repr(C)]
pub struct Buffer {
    at: *mut u8,
    len: usize,
}

/// Takes `{"spec", "inference": dump or null, "facts": dump or null, "payloads": [text…]}` and answers
/// `{"slots": [name…], "steps": [[state, pn, slot…]…], "inference", "facts"}`, or null where it does not understand. Floats are
/// the bits of their bytes in hexadecimal. It stops before the first sample that is odd.
///
/// # Safety
/// `given` must point to `len` bytes.
#[no_mangle]
pub unsafe extern "C" fn brewair_probe(given: *const u8, len: usize) -> Buffer {
    let given = unsafe { std::slice::from_raw_parts(given, len) };
    let mut out = String::new();
    Json::parse(given).as_ref().and_then(run).unwrap_or(Json::Null).write(&mut out);
    let mut bytes = std::mem::ManuallyDrop::new(out.into_bytes().into_boxed_slice());
    Buffer { at: bytes.as_mut_ptr(), len: bytes.len() }
}

/// # Safety
/// `buffer` must come from `brewair_probe` and must not be given back twice.
#[no_mangle]
pub unsafe extern "C" fn brewair_probe_free(buffer: Buffer) {
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(buffer.at, buffer.len)) });
}

fn run(given: &Json) -> Option<Json> {
    let spec = Spec::new(given.get("spec"))?;
    let (mut inference, mut facts) = (StateInference::new(), Facts::new(&spec));
    let kept = |dumped: &Json| *dumped != Json::Null;
    if (kept(given.get("inference")) && !inference.restore(&spec, given.get("inference")))
        || (kept(given.get("facts")) && !facts.restore(&spec, given.get("facts")))
    {
        return None;
    }
    let names = Facts::slot_names(spec.kind);
    // every sample is taken in, taken back and taken in again, so that the taking back is tested along
    let (mut noted_inference, mut noted_facts) = (StateInference::new(), Facts::new(&spec));
    let mut sample = Sample::new();
    let mut steps = Vec::new();
    for payload in given.get("payloads").items() {
        let payload = payload.text().as_bytes();
        if Scanner::new(payload).next(&spec.catalogue, &mut sample) != Ok(true) {
            break;
        }
        let view = View { sample: &sample, payload, recv_ms: sample.ts };
        noted_inference.copy_from(&inference);
        noted_facts.note(&facts);
        match inference.step(&spec, &view) {
            Ok(state) => {
                let updated = facts.update(&spec, &view, state, inference.pn);
                inference.copy_from(&noted_inference);
                facts.back_to(&noted_facts);
                if updated.is_err() {
                    break;
                }
            }
            Err(_) => {
                inference.copy_from(&noted_inference);
                break;
            }
        }
        let Ok(state) = inference.step(&spec, &view) else { break };
        if facts.update(&spec, &view, state, inference.pn).is_err() {
            break;
        }
        let mut step = vec![Json::Text(spec.name(state).to_string()), bits(inference.pn)];
        step.extend((0..names.len()).map(|slot| bits(facts.slot(&spec, &view, slot as u8))));
        steps.push(Json::List(step));
    }
    let text = |name: &str| name.to_string();
    Some(Json::Map(vec![
        (text("slots"), Json::List(names.iter().map(|name| Json::Text(text(name))).collect())),
        (text("steps"), Json::List(steps)),
        (text("inference"), inference.dump(&spec)),
        (text("facts"), facts.dump(&spec)),
    ]))
}

fn bits(number: f64) -> Json {
    Json::Text(format!("{:016x}", number.to_bits()))
}

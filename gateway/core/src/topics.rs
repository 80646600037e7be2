//! A quick hash for topics that we chose ourselves: only registered machines' topics are keys, so nobody can make them collide
//! beyond what they look up.

use std::hash::{BuildHasherDefault, Hasher};

#[derive(Default)]
pub struct Quick(u64);

pub type Hashing = BuildHasherDefault<Quick>;

const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]);
            self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(PRIME);
        }
        for byte in words.remainder() {
            self.0 = (self.0.rotate_left(11) ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
}

/// The telemetry topic of the machine whose birth this topic is; None where it is no birth.
pub fn telemetry_of_birth(topic: &[u8]) -> Option<Vec<u8>> {
    topic.strip_suffix(b"birth").map(|head| [head, b"telemetry"].concat())
}

//! CRC-32 as zlib has it. Every message is checked three times on its way, so it has to be cheap: where the processor multiplies
//! polynomials, sixteen bytes cost a few cycles (Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
//! Instruction", Intel 2009, with the bit-reflected constants of its table); elsewhere tables do it.

const SIXTEEN: usize = 16;
/// Shorter texts are done sooner by tables.
#[cfg(target_arch = "x86_64")]
const WORTHWHILE: usize = 64;

/// The checksum of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= WORTHWHILE && is_x86_feature_detected!("pclmulqdq") && is_x86_feature_detected!("sse4.1") {
        // SAFETY: the processor has been asked, and there are four blocks at least.
        return unsafe { folded::crc32(bytes) };
    }
    !by_table(!0, bytes)
}

fn by_table(mut crc: u32, bytes: &[u8]) -> u32 {
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let low = (u32::from_le_bytes([word[0], word[1], word[2], word[3]]) ^ crc).to_le_bytes();
        crc = TABLES[7][low[0] as usize]
            ^ TABLES[6][low[1] as usize]
            ^ TABLES[5][low[2] as usize]
            ^ TABLES[4][low[3] as usize]
            ^ TABLES[3][word[4] as usize]
            ^ TABLES[2][word[5] as usize]
            ^ TABLES[1][word[6] as usize]
            ^ TABLES[0][word[7] as usize];
    }
    for byte in words.remainder() {
        crc = crc >> 8 ^ TABLES[0][((crc ^ u32::from(*byte)) & 0xff) as usize];
    }
    crc
}

const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut all = [[0u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        all[0][byte] = crc;
        byte += 1;
    }
    let mut nth = 1;
    while nth < 8 {
        byte = 0;
        while byte < 256 {
            let before = all[nth - 1][byte];
            all[nth][byte] = before >> 8 ^ all[0][(before & 0xff) as usize];
            byte += 1;
        }
        nth += 1;
    }
    all
}

#[cfg(target_arch = "x86_64")]
mod folded {
    use std::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_clmulepi64_si128, _mm_cvtsi32_si128, _mm_extract_epi32, _mm_loadu_si128, _mm_set_epi32,
        _mm_set_epi64x, _mm_srli_si128, _mm_xor_si128,
    };

    use super::{by_table, SIXTEEN};

    /// x to the 4·128+64, 4·128, 128+64 and 128 (each reflected, modulo the polynomial), by which blocks move on.
    const FOUR: (i64, i64) = (0x01_5444_2bd4, 0x01_c6e4_1596);
    const ONE: (i64, i64) = (0x01_7519_97d0, 0x00_ccaa_009e);
    /// x to the 64.
    const LAST: i64 = 0x01_63cd_6124;
    /// The polynomial, and its inverse for Barrett's reduction.
    const POLYNOMIAL: i64 = 0x01_db71_0641;
    const INVERSE: i64 = 0x01_f701_1641;

    #[inline(always)]
    unsafe fn block(bytes: &[u8], nth: usize) -> __m128i {
        _mm_loadu_si128(bytes.as_ptr().add(nth * SIXTEEN).cast())
    }

    #[inline(always)]
    unsafe fn onto(sum: __m128i, next: __m128i, by: __m128i) -> __m128i {
        let moved = _mm_xor_si128(_mm_clmulepi64_si128::<0x00>(sum, by), _mm_clmulepi64_si128::<0x11>(sum, by));
        _mm_xor_si128(moved, next)
    }

    /// # Safety
    /// The processor has both features; `bytes` has four blocks of sixteen at least.
    #[target_feature(enable = "pclmulqdq,sse4.1")]
    pub unsafe fn crc32(bytes: &[u8]) -> u32 {
        let blocks = bytes.len() / SIXTEEN;
        let begin = _mm_cvtsi32_si128(!0);
        let mut lanes =
            [_mm_xor_si128(block(bytes, 0), begin), block(bytes, 1), block(bytes, 2), block(bytes, 3)];
        let mut nth = 4;
        let by = _mm_set_epi64x(FOUR.1, FOUR.0);
        while nth + 4 <= blocks {
            for lane in 0..4 {
                lanes[lane] = onto(lanes[lane], block(bytes, nth + lane), by);
            }
            nth += 4;
        }
        let by = _mm_set_epi64x(ONE.1, ONE.0);
        let mut sum = lanes[0];
        for lane in &lanes[1..] {
            sum = onto(sum, *lane, by);
        }
        while nth < blocks {
            sum = onto(sum, block(bytes, nth), by);
            nth += 1;
        }
        let low = _mm_set_epi32(0, 0, 0, !0);
        let sum = _mm_xor_si128(_mm_clmulepi64_si128::<0x10>(sum, by), _mm_srli_si128::<8>(sum));
        let half = _mm_clmulepi64_si128::<0x00>(_mm_and_si128(sum, low), _mm_set_epi64x(0, LAST));
        let sum = _mm_xor_si128(half, _mm_srli_si128::<4>(sum));
        let barrett = _mm_set_epi64x(INVERSE, POLYNOMIAL);
        let times = _mm_clmulepi64_si128::<0x10>(_mm_and_si128(sum, low), barrett);
        let whole = _mm_clmulepi64_si128::<0x00>(_mm_and_si128(times, low), barrett);
        let crc = _mm_extract_epi32::<1>(_mm_xor_si128(sum, whole)) as u32;
        !by_table(crc, &bytes[blocks * SIXTEEN..])
    }
}

#[cfg(test)]
mod tests {
    use super::{by_table, crc32};

    #[test]
    fn both_ways_agree_at_every_length() {
        let bytes: Vec<u8> = (0..2000u32).map(|nth| (nth.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in 0..bytes.len() {
            assert_eq!(crc32(&bytes[..len]), !by_table(!0, &bytes[..len]), "{len}");
        }
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}

//! Deterministic kernels and named seeds.

/// Makes libtorch use deterministic kernels or fail (`torch.use_deterministic_algorithms`).
#[allow(unsafe_code)]
pub fn set_deterministic(on: bool) {
    // SAFETY: the shim sets one flag of libtorch's global context and keeps nothing.
    unsafe { tavq_set_deterministic(on) }
}

/// Whether [`set_deterministic`] is on.
#[allow(unsafe_code)]
pub fn deterministic() -> bool {
    // SAFETY: reads the same flag.
    unsafe { tavq_deterministic() }
}

#[allow(unsafe_code)]
unsafe extern "C" {
    fn tavq_set_deterministic(on: bool);
    fn tavq_deterministic() -> bool;
}

/// A seed for one use, derived from the run's seed, a stream's name and two counters (step, rank).
///
/// libtorch's generator state cannot be saved through tch; a generator seeded anew for each use needs no saving.
pub fn seed_from(run: u64, stream: &str, step: u64, rank: u64) -> i64 {
    let mut h = mix(run ^ 0x5441_5651);
    for b in stream.bytes() {
        h = mix(h ^ u64::from(b));
    }
    h = mix(mix(h ^ step) ^ rank.rotate_left(32));
    // libtorch takes an i64; the sign bit is dropped so that the number reads the same in Python.
    (h >> 1) as i64
}

// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn seeds_differ_in_every_part() {
        let mut seen = HashSet::new();
        for run in 0..4 {
            for stream in ["init", "sampler", "flip"] {
                for step in 0..16 {
                    for rank in 0..4 {
                        assert!(seen.insert(seed_from(run, stream, step, rank)));
                    }
                }
            }
        }
        assert_eq!(seed_from(1, "a", 2, 3), seed_from(1, "a", 2, 3));
    }

    #[test]
    fn the_switch_reaches_libtorch() {
        set_deterministic(true);
        assert!(deterministic());
        set_deterministic(false);
        assert!(!deterministic());
    }
}

//! Loops in the widest vectors that the processor has: the compiler lays them out, once for each instruction set.
#![allow(unsafe_code)]

/// Lanes of the multiply-add loop: enough chains to hide its latency.
pub(crate) const FMA_LANES: usize = 96;

/// Independent sums, so that they can be vectors.
const CHUNK: usize = 64;

/// Adding 1.5 * 2^52 (2^23) rounds to a whole number and leaves it in the low bits.
const ROUNDER_F64: f64 = 6_755_399_441_055_744.0;
const ROUNDER_F32: f32 = 12_582_912.0;

/// Taylor coefficients of 2^r, highest power first: as many as the precision needs. What they are does not matter here.
const POWERS_F64: [f64; 12] =
    [4.5e-10, 7.1e-9, 1.02e-7, 1.32e-6, 1.53e-5, 1.54e-4, 1.33e-3, 9.62e-3, 5.55e-2, 0.24, std::f64::consts::LN_2, 1.0];
const POWERS_F32: [f32; 7] = [1.55e-4, 1.34e-3, 9.62e-3, 5.55e-2, 0.24, std::f32::consts::LN_2, 1.0];

macro_rules! dispatched {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? = $body:ident;)*) => {
        $(pub(crate) fn $name($($arg: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,fma")]
                fn wide($($arg: $type),*) $(-> $out)? { $body::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn narrow($($arg: $type),*) $(-> $out)? { $body::<true>($($arg),*) }
                match name() {
                    // SAFETY: `name` found the features.
                    "AVX-512" => return unsafe { wide($($arg),*) },
                    "AVX2" => return unsafe { narrow($($arg),*) },
                    _ => {}
                }
            }
            $body::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        })*
    };
}

dispatched! {
    fn sum(values: &[f64]) -> f64 = plain_sum;
    fn triad(a: &mut [f64], b: &[f64], c: &[f64]) = plain_triad;
    fn exp2_sum_f64(values: &[f64]) -> f64 = plain_exp2_f64;
    fn exp2_sum_f32(values: &[f32]) -> f32 = plain_exp2_f32;
    fn fma(steps: usize) -> f64 = plain_fma;
}

/// The vectors in use.
pub(crate) fn name() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq");
        if wide && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512bw") {
            return "AVX-512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "AVX2";
        }
    }
    if cfg!(target_arch = "aarch64") { "NEON" } else { "plain" }
}

#[inline(always)]
fn plain_sum<const FUSED: bool>(values: &[f64]) -> f64 {
    let mut sums = [0.0; CHUNK];
    for chunk in values.as_chunks::<CHUNK>().0 {
        for k in 0..CHUNK {
            sums[k] += chunk[k];
        }
    }
    sums.iter().sum()
}

#[inline(always)]
fn plain_triad<const FUSED: bool>(a: &mut [f64], b: &[f64], c: &[f64]) {
    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
        *a = b + 0.5 * c;
    }
}

macro_rules! exp2 {
    ($name:ident, $real:ty, $rounder:ident, $powers:ident, $mantissa:literal) => {
        #[inline(always)]
        fn $name<const FUSED: bool>(values: &[$real]) -> $real {
            let mut sums = [0.0; CHUNK];
            for chunk in values.as_chunks::<CHUNK>().0 {
                for k in 0..CHUNK {
                    let x = chunk[k];
                    let rounded = x + $rounder;
                    let r = x - (rounded - $rounder);
                    let mut value = $powers[0];
                    for power in &$powers[1..] {
                        value = if FUSED { value.mul_add(r, *power) } else { value * r + power };
                    }
                    let bits = value.to_bits().wrapping_add(rounded.to_bits() << $mantissa);
                    sums[k] += <$real>::from_bits(bits);
                }
            }
            sums.iter().sum()
        }
    };
}
exp2!(plain_exp2_f64, f64, ROUNDER_F64, POWERS_F64, 52);
exp2!(plain_exp2_f32, f32, ROUNDER_F32, POWERS_F32, 23);

#[inline(always)]
fn plain_fma<const FUSED: bool>(steps: usize) -> f64 {
    let mut values = [1.0_f64; FMA_LANES];
    let (factor, addend) = (std::hint::black_box(0.999), std::hint::black_box(1e-3));
    for _ in 0..steps {
        for value in &mut values {
            *value = if FUSED { value.mul_add(factor, addend) } else { *value * factor + addend };
        }
    }
    values.iter().sum()
}

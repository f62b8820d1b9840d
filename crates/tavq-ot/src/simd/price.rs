//! The loops of the exact solvers over a row of costs, compiled for several instruction sets as in the module above. They are plain
//! loops over fixed lanes: minima and differences are the same on every set, to the bit.
#![allow(unsafe_code)]

use super::Kernel;

/// Costs that one entry of [`Kernel::lows`] covers.
pub(crate) const SPAN: usize = 32;
const LANES: usize = 16;

/// Minimum that takes `b` unless `a` is below it, which is one instruction; no NaN comes here.
#[inline(always)]
fn lower(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

#[inline(always)]
fn lowest(costs: &[f64], prices: &[f64]) -> f64 {
    let mut low = [f64::INFINITY; LANES];
    let ((costs, costs_left), (prices, prices_left)) = (costs.as_chunks::<LANES>(), prices.as_chunks::<LANES>());
    for (c, p) in costs.iter().zip(prices) {
        for k in 0..LANES {
            low[k] = lower(c[k] - p[k], low[k]);
        }
    }
    for (c, p) in costs_left.iter().zip(prices_left) {
        low[0] = lower(c - p, low[0]);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for k in 0..width {
            low[k] = lower(low[k], low[k + width]);
        }
        width /= 2;
    }
    low[0]
}

#[inline(always)]
fn lows(costs: &[f64], prices: &[f64], out: &mut [f64]) {
    for ((out, costs), prices) in out.iter_mut().zip(costs.chunks(SPAN)).zip(prices.chunks(SPAN)) {
        *out = lowest(costs, prices);
    }
}

#[inline(always)]
fn lower_all(lows: &mut [f64], costs: &[f64], shift: f64) {
    for (low, cost) in lows.iter_mut().zip(costs) {
        *low = lower(cost - shift, *low);
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! compiled {
    ($name:ident, $features:literal) => {
        mod $name {
            #[target_feature(enable = $features)]
            pub(super) fn lowest(costs: &[f64], prices: &[f64]) -> f64 {
                super::lowest(costs, prices)
            }

            #[target_feature(enable = $features)]
            pub(super) fn lows(costs: &[f64], prices: &[f64], out: &mut [f64]) {
                super::lows(costs, prices, out);
            }

            #[target_feature(enable = $features)]
            pub(super) fn lower_all(lows: &mut [f64], costs: &[f64], shift: f64) {
                super::lower_all(lows, costs, shift);
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled!(avx512, "avx512f");

/// Calls the copy for an instruction set.
macro_rules! call {
    ($kernel:expr, $function:ident($($argument:expr),*)) => {
        match $kernel {
            // SAFETY: `Kernel::available` found the features.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2::$function($($argument),*) },
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => unsafe { avx512::$function($($argument),*) },
            _ => $function($($argument),*),
        }
    };
}

impl Kernel {
    /// `min_j costs_j - prices_j`, +inf for none.
    pub(crate) fn lowest(self, costs: &[f64], prices: &[f64]) -> f64 {
        call!(self, lowest(costs, prices))
    }

    /// The same for each [`SPAN`] of columns, into one entry of `out` each.
    pub(crate) fn lows(self, costs: &[f64], prices: &[f64], out: &mut [f64]) {
        call!(self, lows(costs, prices, out));
    }

    /// `lows_j = min(lows_j, costs_j - shift)`.
    pub(crate) fn lower_all(self, lows: &mut [f64], costs: &[f64], shift: f64) {
        call!(self, lower_all(lows, costs, shift));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_finds_the_same_minima() {
        for length in [0, 1, 7, 16, 31, 32, 33, 100] {
            let costs: Vec<f64> =
                (0..length).map(|k| if k % 5 == 3 { f64::INFINITY } else { f64::from(k * 37 % 23) / 7.0 }).collect();
            let prices: Vec<f64> = (0..length).map(|k| f64::from(k * 11 % 13) / 3.0).collect();
            let expected: Vec<f64> = costs.iter().zip(&prices).map(|(c, p)| c - p).collect();
            let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
            for kernel in Kernel::available() {
                assert_eq!(kernel.lowest(&costs, &prices), least(&expected), "{kernel:?} {length}");
                let mut out = vec![f64::NAN; costs.len().div_ceil(SPAN)];
                kernel.lows(&costs, &prices, &mut out);
                assert!(out.iter().zip(expected.chunks(SPAN)).all(|(&low, part)| low == least(part)), "{kernel:?}");
                let mut lows = prices.clone();
                kernel.lower_all(&mut lows, &costs, 1.5);
                assert!(lows.iter().zip(&costs).zip(&prices).all(|((&l, c), p)| l == p.min(c - 1.5)), "{kernel:?}");
            }
        }
    }
}

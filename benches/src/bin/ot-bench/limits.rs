//! What the machine allows: how fast memory is read and written, how fast exponentials and multiply-adds are made. One
//! thread; the loops are what an iteration cannot do without.

use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};

use crate::simd;

/// Best of several runs, in seconds.
fn best(mut run: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let (begin, mut runs) = (Instant::now(), 0);
    // The first run meets memory that was never touched.
    while runs < 5 || begin.elapsed().as_secs_f64() < 0.5 {
        runs += 1;
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn consume(value: f64) {
    black_box(value);
}

pub(crate) fn measure() -> Value {
    // As many bytes as the f64 matrices of the two sizes of the benchmark.
    let read = |n: usize| {
        let values = vec![1.0_f64; n * n];
        (8 * n * n) as f64 / best(|| consume(simd::sum(black_box(&values))))
    };
    let triad = |n: usize| {
        let (b, c, mut a) = (vec![1.0_f64; n * n], vec![2.0_f64; n * n], vec![0.0_f64; n * n]);
        (24 * n * n) as f64 / best(|| simd::triad(black_box(&mut a), &b, &c))
    };
    // In the innermost cache.
    let count = 64 * 1024;
    let doubles: Vec<f64> = (0..2048).map(|k| -0.01 * f64::from(k)).collect();
    let singles: Vec<f32> = doubles.iter().map(|&x| x as f32).collect();
    let exp_f64 = best(|| {
        for _ in 0..count / doubles.len() {
            black_box(simd::exp2_sum_f64(black_box(&doubles)));
        }
    });
    let exp_f32 = best(|| {
        for _ in 0..count / singles.len() {
            black_box(simd::exp2_sum_f32(black_box(&singles)));
        }
    });
    let (steps, width) = (100_000, simd::FMA_LANES);
    let fma = best(|| consume(simd::fma(black_box(steps))));
    json!({
        "read_1024": read(1024),
        "read_4096": read(4096),
        "triad_4096": triad(4096),
        "exp_f64": exp_f64 / count as f64,
        "exp_f32": exp_f32 / count as f64,
        "flops": 2.0 * (steps * width) as f64 / fma,
        "vectors": simd::name(),
    })
}

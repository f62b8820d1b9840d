//! Agreement with the reference solver of `tavq-ot` on random ragged batches.

use ndarray::{Array1, Array2};
use tavq_align::{SinkhornConfig, Transport, TransportValue, transport_value};
use tavq_ot::{Coupling, Problem, Sinkhorn, Solver};
use tch::{Kind, Tensor};

use crate::common::Noise;

struct Batch {
    cost: Tensor,
    a: Tensor,
    b: Tensor,
    filled: Vec<(i64, i64)>,
}

/// Ragged problems with costs in `[0, 2]`, as the cosine's, and NaN in the padding.
fn ragged(seed: u64) -> Batch {
    let mut noise = Noise(seed);
    let (s, m) = (2 + noise.below(30), 2 + noise.below(30));
    let filled: Vec<_> = (0..5).map(|_| (1 + noise.below(s), 1 + noise.below(m))).collect();
    let (rows, columns): (Vec<_>, Vec<_>) = filled.iter().copied().unzip();
    let (a, b) = (noise.masses(s, &rows), noise.masses(m, &columns));
    let outside = a.eq(0.0).unsqueeze(-1).logical_or(&b.eq(0.0).unsqueeze(-2));
    let cost = (noise.uniform(&[5, s, m]) * 2.0).masked_fill(&outside, f64::NAN);
    Batch { cost, a, b, filled }
}

fn vector(t: &Tensor, n: i64) -> Array1<f64> {
    Array1::from_vec(Vec::try_from(t.narrow(0, 0, n).to_kind(Kind::Double)).unwrap())
}

fn matrix(t: &Tensor, n: i64, m: i64) -> Array2<f64> {
    let flat = t.narrow(0, 0, n).narrow(1, 0, m).to_kind(Kind::Double).contiguous().view(-1);
    Array2::from_shape_vec((n as usize, m as usize), Vec::try_from(flat).unwrap()).unwrap()
}

fn reference(batch: &Batch, p: usize, epsilon: f64) -> Coupling {
    let (n, m) = batch.filled[p];
    let [cost, a, b] = [&batch.cost, &batch.a, &batch.b].map(|t| t.get(p as i64));
    let (cost, a, b) = (matrix(&cost, n, m), vector(&a, n), vector(&b, m));
    let problem = Problem::new(cost.view(), a.view(), b.view()).unwrap();
    let solver = Sinkhorn::new(epsilon).unwrap().tolerance(1e-13).unwrap().max_iterations(200_000).unwrap();
    solver.solve(&problem).unwrap()
}

fn compare(epsilon: f64, kind: Kind, tolerance: f64, allowed: f64) {
    for seed in 50..54 {
        let batch = ragged(seed);
        let config = SinkhornConfig { epsilon, tolerance, max_iterations: 200_000 };
        let [cost, a, b] = [&batch.cost, &batch.a, &batch.b].map(|t| t.to_kind(kind));
        let at = |form| transport_value(&cost, &a, &b, &config, form).unwrap();
        let (sharp, transport) = at(TransportValue::Sharp);
        let (entropic, _) = at(TransportValue::Entropic);
        for p in 0..batch.filled.len() {
            let expected = reference(&batch, p, epsilon);
            let off = worst(&batch, p, &transport, &expected);
            let value = (sharp.double_value(&[p as i64]) - expected.value).abs();
            let regularized = (entropic.double_value(&[p as i64]) - expected.regularized_value).abs();
            for (what, off) in [("plan and duals", off), ("value", value), ("regularized value", regularized)] {
                assert!(off <= allowed, "seed {seed}, problem {p}, epsilon {epsilon}, {kind:?}: {what} {off:e} off");
            }
        }
    }
}

/// Largest difference of plans and of the sums f_i + g_j, which are free of the duals' common shift.
fn worst(batch: &Batch, p: usize, found: &Transport, expected: &Coupling) -> f64 {
    let (n, m) = batch.filled[p];
    let at = |t: &Tensor| t.get(p as i64);
    let plan = matrix(&at(&found.plan), n, m) - &expected.plan;
    let sums = matrix(&(at(&found.f).unsqueeze(-1) + at(&found.g).unsqueeze(-2)), n, m);
    let duals = sums - expected.f.view().insert_axis(ndarray::Axis(1)) - &expected.g;
    plan.iter().chain(&duals).fold(0.0, |w: f64, x| if x.is_nan() { f64::INFINITY } else { w.max(x.abs()) })
}

#[test]
fn f64_to_1e_10() {
    compare(0.1, Kind::Double, 1e-13, 1e-10);
    compare(0.05, Kind::Double, 1e-13, 1e-10);
}

#[test]
fn f32_to_1e_5() {
    compare(0.1, Kind::Float, 1e-6, 1e-5);
    compare(0.05, Kind::Float, 1e-6, 1e-5);
}

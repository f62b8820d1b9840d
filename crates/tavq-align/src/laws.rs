//! The laws of this crate's traits, as functions that a third party calls on its own type. `Err` names the broken law.
//!
//! [`sampler_laws`] seeds libtorch's generator, so nothing else in the process may draw from it meanwhile.

use tch::{Device, Kind, Tensor};

use crate::{CodeSampler, Cost, Sampled};

/// Outcome of a law.
pub type Law = Result<(), String>;

// Odd sizes, so that swapped axes show.
const B: i64 = 3;
const N: i64 = 35;
const D: i64 = 5;

/// Holds any sampler to [`CodeSampler`]: shapes, cells of the grid, one generator, determinism outside training, gradient.
pub fn sampler_laws(sampler: &dyn CodeSampler) -> Law {
    let codes = points(1, [B, N, D]);
    for train in [false, true] {
        let first = drawn(sampler, &codes, train)?;
        let s = first.codes.size().get(1).copied().unwrap_or(0);
        law(s >= 1 && first.codes.size() == [B, s, D], "codes are [B, S, D]", || format!("{:?}", first.codes.size()))?;
        law(first.positions.size() == [B, s], "positions are [B, S]", || format!("{:?}", first.positions.size()))?;
        law(first.positions.kind() == Kind::Int64, "positions are int64", || format!("{:?}", first.positions.kind()))?;
        let (low, high) = (first.positions.min().int64_value(&[]), first.positions.max().int64_value(&[]));
        law(low >= 0 && high < N, "positions are cells of the grid", || format!("{low}..={high} of {N}"))?;
        tch::manual_seed(7);
        let one = drawn(sampler, &codes, train)?;
        tch::manual_seed(if train { 7 } else { 8 });
        let two = drawn(sampler, &codes, train)?;
        let same = one.codes.equal(&two.codes) && one.positions.equal(&two.positions);
        let name = if train { "a seed repeats the draw" } else { "deterministic outside training" };
        law(same, name, || "two different draws".to_owned())?;
        let leaf = codes.copy().set_requires_grad(true);
        let gradient = gradient_of(&drawn(sampler, &leaf, train)?.codes, &leaf)?;
        let reached = gradient.ne(0.0).any().int64_value(&[]) == 1 && finite(&gradient);
        law(reached, "the gradient reaches the codes", || "zero or not finite".to_owned())?;
    }
    law(codes.equal(&points(1, [B, N, D])), "the codes are left alone", || "changed".to_owned())
}

/// [`sampler_laws`], and that the sampler selects: distinct cells of each image, in row-major order, their codes unchanged.
pub fn selection_laws(sampler: &dyn CodeSampler) -> Law {
    sampler_laws(sampler)?;
    let codes = points(2, [B, N, D]);
    for train in [false, true] {
        let Sampled { codes: picked, positions } = drawn(sampler, &codes, train)?;
        let s = positions.size()[1];
        let there = codes.gather(1, &positions.unsqueeze(-1).expand([B, s, D], false), false);
        law(picked.equal(&there), "a code is the one at its position", || "another".to_owned())?;
        let rising = (positions.narrow(1, 1, s - 1) - positions.narrow(1, 0, s - 1)).gt(0).all().int64_value(&[]) == 1;
        law(rising, "distinct cells in row-major order", || format!("train = {train}"))?;
    }
    Ok(())
}

/// Holds any cost to [`Cost`]: shape, kind, entries that depend on their two points only, right and finite gradients.
pub fn cost_laws(cost: &dyn Cost) -> Law {
    let (x, y) = (points(3, [B, 4, D]), points(4, [B, 6, D]));
    let c = matrix(cost, &x, &y)?;
    law(c.size() == [B, 4, 6], "costs are [B, S, M]", || format!("{:?}", c.size()))?;
    law(c.kind() == Kind::Double, "the points' kind is kept", || format!("{:?}", c.kind()))?;
    law(finite(&c), "costs are finite", || "NaN or infinity".to_owned())?;
    let part = matrix(cost, &x.narrow(0, 1, 1).narrow(1, 2, 2), &y.narrow(0, 1, 1).narrow(1, 3, 3))?;
    let gap = (part - c.narrow(0, 1, 1).narrow(1, 2, 2).narrow(2, 3, 3)).abs().max().double_value(&[]);
    law(gap < 1e-12, "an entry depends on its two points only", || format!("{gap:e} off among other points"))?;
    for (name, wrt) in [("x", 0), ("y", 1)] {
        cost_gradient(cost, [&x, &y], wrt).map_err(|e| format!("{e} in {name}"))?;
    }
    let zero = Tensor::zeros([1, 2, D], (Kind::Double, Device::Cpu)).set_requires_grad(true);
    let at_zero = matrix(cost, &zero, &y.narrow(0, 0, 1))?;
    law(finite(&at_zero), "a zero vector has a finite cost", || "NaN or infinity".to_owned())?;
    let gradient = gradient_of(&at_zero, &zero)?;
    law(finite(&gradient), "a zero vector has a finite gradient", || "NaN or infinity".to_owned())
}

/// Central differences of a weighted sum of costs against the gradient of libtorch, for every coordinate of one point.
fn cost_gradient(cost: &dyn Cost, points_of: [&Tensor; 2], wrt: usize) -> Law {
    let weights = points(5, [B, 4, 6]);
    let leaf = points_of[wrt].copy().set_requires_grad(true);
    let at = |t: &Tensor| if wrt == 0 { matrix(cost, t, points_of[1]) } else { matrix(cost, points_of[0], t) };
    let gradient = gradient_of(&(at(&leaf)? * &weights), &leaf)?;
    let h = 1e-5;
    for k in 0..D {
        let step = Tensor::zeros_like(points_of[wrt]);
        let _ = step.get(1).get(2).get(k).fill_(h);
        let sides = [at(&(points_of[wrt] + &step))?, at(&(points_of[wrt] - &step))?];
        let [up, down] = sides.map(|c| (c * &weights).sum(Kind::Double).double_value(&[]));
        let (expected, found) = ((up - down) / (2.0 * h), gradient.double_value(&[1, 2, k]));
        let close = (expected - found).abs() <= 1e-6 * expected.abs().max(1.0);
        law(close, "the gradient is right", || format!("central difference {expected:e}, gradient {found:e}"))?;
    }
    Ok(())
}

fn law(holds: bool, name: &str, found: impl FnOnce() -> String) -> Law {
    if holds { Ok(()) } else { Err(format!("{name}: {}", found())) }
}

fn drawn(sampler: &dyn CodeSampler, codes: &Tensor, train: bool) -> Result<Sampled, String> {
    sampler.sample(codes, train).map_err(|e| format!("sampling works: {e}"))
}

fn matrix(cost: &dyn Cost, x: &Tensor, y: &Tensor) -> Result<Tensor, String> {
    cost.matrix(x, y).map_err(|e| format!("the cost works: {e}"))
}

fn gradient_of(value: &Tensor, leaf: &Tensor) -> Result<Tensor, String> {
    if !value.requires_grad() {
        return Err("differentiable: the result carries no gradient".to_owned());
    }
    let sum = value.sum(value.kind());
    let gradient = Tensor::f_run_backward(&[sum], &[leaf], false, false).map_err(|e| format!("differentiable: {e}"))?;
    gradient.into_iter().next().ok_or_else(|| "differentiable: no gradient".to_owned())
}

fn finite(t: &Tensor) -> bool {
    t.isfinite().all().int64_value(&[]) == 1
}

/// Fixed f64 numbers in `[-1, 1]`, without libtorch's generator.
fn points(seed: u32, size: [i64; 3]) -> Tensor {
    let count: i64 = size.iter().product();
    // The fractional parts of multiples of an irrational number are spread evenly.
    let at = |i: i64| ((i as f64 + 1.0) * 0.754_877_666_246_692_7 * f64::from(seed + 1)).fract() * 2.0 - 1.0;
    Tensor::from_slice(&(0..count).map(at).collect::<Vec<_>>()).view(size)
}

use tavq_align::{SinkhornConfig, Status, Transport, sinkhorn};
use tch::{Kind, Tensor};

use crate::common::{Noise, gap};

fn options(epsilon: f64, tolerance: f64, max_iterations: i64) -> SinkhornConfig {
    SinkhornConfig { epsilon, tolerance, max_iterations }
}

/// A 2 x 2 problem with equal masses.
fn square(cost: [f64; 4], epsilon: f64) -> Transport {
    let half = Tensor::from_slice(&[0.5, 0.5]).view([1, 2]);
    sinkhorn(&Tensor::from_slice(&cost).view([1, 2, 2]), &half, &half, &options(epsilon, 1e-13, 10_000)).unwrap()
}

#[test]
fn two_by_two_in_closed_form() {
    let cases = [(1.0, 0.365_529_289_315_002_45), (0.1, 0.499_977_301_065_648_8), (0.01, 0.5), (1e-5, 0.5)];
    for (epsilon, expected) in cases {
        let found = square([0.0, 1.0, 1.0, 0.0], epsilon);
        assert!((found.plan.double_value(&[0, 0, 0]) - expected).abs() < 1e-12, "epsilon {epsilon}");
        assert_eq!(found.status, Status::Converged);
    }
}

#[test]
fn a_shift_and_a_common_scale_change_nothing() {
    let mut noise = Noise(2);
    let (cost, a, b) = (noise.uniform(&[3, 7, 5]), noise.masses(7, &[7; 3]), noise.masses(5, &[5; 3]));
    let plan = sinkhorn(&cost, &a, &b, &options(0.05, 1e-12, 5000)).unwrap().plan;
    let shifted = sinkhorn(&(&cost + 1000.0), &a, &b, &options(0.05, 1e-12, 5000)).unwrap().plan;
    let scaled = sinkhorn(&(&cost * 1e6), &a, &b, &options(0.05e6, 1e-12, 5000)).unwrap().plan;
    assert!(gap(&plan, &shifted) < 1e-9);
    assert!(gap(&plan, &scaled) < 1e-9);
}

#[test]
fn one_row_or_one_column_is_the_product() {
    let mut noise = Noise(3);
    for (s, m) in [(1, 6), (6, 1), (1, 1)] {
        let (a, b) = (noise.masses(s, &[s, s]), noise.masses(m, &[m, m]));
        let found = sinkhorn(&noise.uniform(&[2, s, m]), &a, &b, &options(0.01, 1e-12, 50)).unwrap();
        assert!(gap(&found.plan, &(a.unsqueeze(-1) * b.unsqueeze(-2))) < 1e-12);
        assert_eq!((found.status, found.iterations), (Status::Converged, 2));
    }
}

#[test]
fn potentials_make_the_plan() {
    let mut noise = Noise(4);
    let (cost, a, b) = (noise.uniform(&[2, 6, 9]), noise.masses(6, &[6, 4]), noise.masses(9, &[5, 9]));
    let found = sinkhorn(&cost, &a, &b, &options(0.02, 1e-12, 5000)).unwrap();
    let exponent = (found.f.unsqueeze(-1) + found.g.unsqueeze(-2) - &cost) / 0.02;
    let plan = exponent.exp() * a.unsqueeze(-1) * b.unsqueeze(-2);
    assert!(gap(&plan, &found.plan) < 1e-13);
    assert_eq!(found.f.get(1).narrow(0, 4, 2).abs().max().double_value(&[]), 0.0);
    assert!(found.error.max().double_value(&[]) < 1e-11);
}

#[test]
fn padding_is_never_read() {
    let mut noise = Noise(5);
    for kind in [Kind::Double, Kind::Float] {
        let (s, m) = (6, 9);
        let (filled_s, filled_m) = ([6, 3, 1], [9, 9, 2]);
        let cost = noise.uniform(&[3, s, m]).to_kind(kind);
        let (a, b) = (noise.masses(s, &filled_s).to_kind(kind), noise.masses(m, &filled_m).to_kind(kind));
        let outside = a.eq(0.0).unsqueeze(-1).logical_or(&b.eq(0.0).unsqueeze(-2));
        let config = options(0.05, if kind == Kind::Double { 1e-12 } else { 1e-5 }, 5000);
        let clean = sinkhorn(&cost, &a, &b, &config).unwrap();
        for content in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30, -1e30] {
            let dirty = sinkhorn(&cost.masked_fill(&outside, content), &a, &b, &config).unwrap();
            assert!(dirty.plan.equal(&clean.plan), "{kind:?} {content}");
            assert!(dirty.f.equal(&clean.f) && dirty.g.equal(&clean.g) && dirty.error.equal(&clean.error));
            assert_eq!(dirty.plan.masked_select(&outside).abs().max().double_value(&[]), 0.0);
        }
        for p in 0..3 {
            let (ns, nm) = (filled_s[p as usize], filled_m[p as usize]);
            let cut = |t: &Tensor, n: i64| t.narrow(0, p, 1).narrow(1, 0, n);
            let alone = sinkhorn(&cut(&cost, ns).narrow(2, 0, nm), &cut(&a, ns), &cut(&b, nm), &config).unwrap();
            let tight = if kind == Kind::Double { 1e-14 } else { 1e-6 };
            assert!(gap(&alone.plan.get(0), &clean.plan.get(p).narrow(0, 0, ns).narrow(1, 0, nm)) < tight);
        }
    }
}

#[test]
fn masses_of_zero_anywhere_and_everywhere() {
    let mut noise = Noise(6);
    let cost = noise.uniform(&[2, 4, 3]);
    let a = Tensor::from_slice(&[0.0, 0.4, 0.0, 0.6, 0.0, 0.0, 0.0, 0.0]).view([2, 4]);
    let b = Tensor::from_slice(&[0.7, 0.0, 0.3, 0.0, 0.0, 0.0]).view([2, 3]);
    let found = sinkhorn(&cost, &a, &b, &options(0.05, 1e-12, 5000)).unwrap();
    let rows = found.plan.sum_dim_intlist([-1i64].as_slice(), false, None::<Kind>);
    let columns = found.plan.sum_dim_intlist([-2i64].as_slice(), false, None::<Kind>);
    assert!(gap(&rows, &a) < 1e-11 && gap(&columns, &b) < 1e-11);
    assert_eq!(found.plan.get(1).abs().max().double_value(&[]), 0.0);
    assert_eq!(found.status, Status::Converged);
}

#[test]
fn a_batch_is_its_problems() {
    let mut noise = Noise(7);
    // From easy to hard, so that the problems end at different readings.
    let cost = noise.uniform(&[6, 8, 7]) * Tensor::from_slice(&[0.01, 0.1, 0.5, 1.0, 2.0, 4.0]).view([6, 1, 1]);
    let (a, b) = (noise.masses(8, &[8; 6]), noise.masses(7, &[7; 6]));
    let config = options(0.02, 1e-6, 20_000);
    let batch = sinkhorn(&cost, &a, &b, &config).unwrap();
    let mut most = 0;
    for p in 0..6 {
        let alone = sinkhorn(&cost.narrow(0, p, 1), &a.narrow(0, p, 1), &b.narrow(0, p, 1), &config).unwrap();
        assert!(gap(&alone.plan.get(0), &batch.plan.get(p)) < 1e-13, "problem {p}");
        most = most.max(alone.iterations);
    }
    assert_eq!(most, batch.iterations);
    assert!(most > 100, "the hardest problem took {most} iterations: the test has lost its point");
}

#[test]
fn small_epsilon_ends_with_a_status_and_never_nan() {
    let mut noise = Noise(8);
    let cost = noise.uniform(&[4, 20, 20]);
    let uniform = Tensor::full([4, 20], 0.05, (Kind::Double, tch::Device::Cpu));
    for epsilon in [1e-2, 1e-3, 1e-4, 1e-5] {
        for kind in [Kind::Double, Kind::Float] {
            let [c, u] = [&cost, &uniform].map(|t| t.to_kind(kind));
            let found = sinkhorn(&c, &u, &u, &options(epsilon, 1e-6, 1000)).unwrap();
            let error = found.error.max().double_value(&[]);
            assert!(found.plan.isfinite().all().int64_value(&[]) == 1, "{epsilon} {kind:?}");
            assert!(error.is_finite() && error < 1.0, "{epsilon} {kind:?}: {error}");
            if found.status == Status::Converged && kind == Kind::Double {
                assert!(error < 2e-6, "{epsilon}: {error}");
            }
        }
    }
}

#[test]
fn f32_below_its_floor_stalls() {
    let mut noise = Noise(9);
    let cost = noise.uniform(&[1, 32, 32]).to_kind(Kind::Float);
    let uniform = Tensor::full([1, 32], 1.0 / 32.0, (Kind::Float, tch::Device::Cpu));
    let found = sinkhorn(&cost, &uniform, &uniform, &options(0.05, 1e-12, 100_000)).unwrap();
    assert_eq!(found.status, Status::Stalled);
    assert!(found.iterations < 5000, "{}", found.iterations);
    assert!(found.error.max().double_value(&[]) < 1e-5);
}

#[test]
fn running_out_of_iterations_is_a_status() {
    let mut noise = Noise(10);
    let (cost, a, b) = (noise.uniform(&[2, 9, 9]), noise.masses(9, &[9; 2]), noise.masses(9, &[9; 2]));
    for limit in [1, 2, 3, 11] {
        let found = sinkhorn(&cost, &a, &b, &options(0.01, 1e-12, limit)).unwrap();
        assert_eq!((found.status, found.iterations), (Status::IterationLimit, limit));
        assert!(found.error.min().double_value(&[]) > 1e-12);
        let rows = found.plan.sum_dim_intlist([-1i64].as_slice(), false, None::<Kind>);
        let off = (rows - &a).abs().sum_dim_intlist([-1i64].as_slice(), false, None::<Kind>);
        assert!(gap(&off, &found.error) < 1e-12, "columns are exact, so the error is the rows'");
    }
}

#[test]
fn bad_input_is_one_typed_error() {
    let ones = |size: &[i64]| Tensor::ones(size, (Kind::Double, tch::Device::Cpu));
    let (cost, a, b) = (ones(&[1, 2, 2]), ones(&[1, 2]) * 0.5, ones(&[1, 2]) * 0.5);
    let config = SinkhornConfig::default();
    let refused = |cost: &Tensor, a: &Tensor, b: &Tensor, config: &SinkhornConfig, what: &str| {
        let found = sinkhorn(cost, a, b, config).unwrap_err().to_string();
        assert!(found.starts_with(what), "expected {what}, found {found}");
    };
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused(&(&cost * bad), &a, &b, &config, "cost: expected finite");
        refused(&cost, &(&a * bad), &b, &config, "source masses: expected finite");
    }
    refused(
        &cost,
        &a,
        &Tensor::from_slice(&[1.5, -0.5]).view([1, 2]),
        &config,
        "target masses: expected finite and >= 0",
    );
    refused(&cost, &a, &(&b * 2.0), &config, "target masses: expected the total");
    refused(&cost, &a, &(&b * 0.0), &config, "target masses: expected the total");
    refused(&cost.get(0), &a, &b, &config, "cost: expected shape");
    refused(&cost, &ones(&[1, 3]), &b, &config, "source masses: expected shape");
    refused(&cost, &a, &ones(&[2, 2]), &config, "target masses: expected shape");
    refused(&ones(&[1, 0, 2]), &ones(&[1, 0]), &b, &config, "cost: expected at least one");
    for epsilon in [0.0, -1.0, f64::NAN] {
        refused(&cost, &a, &b, &options(epsilon, 1e-3, 10), "sinkhorn.epsilon");
    }
    refused(&cost, &a, &b, &options(0.1, 0.0, 10), "sinkhorn.tolerance");
    refused(&cost, &a, &b, &options(0.1, 1e-3, 0), "sinkhorn.max_iterations");
}

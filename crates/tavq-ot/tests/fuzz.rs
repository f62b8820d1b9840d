//! Raw bytes read as problems, for every solver of the crate: nothing panics, whatever the numbers, and what is no error is
//! a sound coupling.
//!
//! 4,000 problems unless TAVQ_OT_FUZZ says another number:
//! `TAVQ_OT_FUZZ=1000000 cargo test --release -p tavq-ot --test fuzz -- --nocapture`

use ndarray::{Array1, Array2, Axis};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use tavq_ot::{
    Acceleration, Algorithm, Coupling, EntropicPartial, Exact, ExactPartial, Form, Gaussian, Line, Metric, Objective,
    OtError, Points, Potentials, Precision, Problem, Reference, Sinkhorn, Sliced, Solver, Status, Unbalanced,
};

/// The awkward numbers.
const SPECIAL: [f64; 16] = [
    0.0,
    -0.0,
    1.0,
    0.5,
    -1.0,
    2.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    1e150,
    -1e150,
    1e-150,
    5e-324,
    1e-310,
    1e15,
    1e-9,
];

/// Bytes read from the front; zeros after their end.
struct Bytes<'b> {
    left: &'b [u8],
    /// Whether numbers are any numbers; otherwise they are small and at least 0.
    wild: bool,
}

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.left.split_first() else { return 0 };
        self.left = rest;
        first
    }

    fn below(&mut self, bound: usize) -> usize {
        self.byte() as usize % bound
    }

    /// Any f64 at all, special ones and plain ones often.
    fn number(&mut self) -> f64 {
        if !self.wild {
            return f64::from(self.byte()) / 64.0;
        }
        match self.byte() {
            kind @ 0..=31 => SPECIAL[kind as usize % SPECIAL.len()],
            32..=63 => f64::from_le_bytes(std::array::from_fn(|_| self.byte())),
            _ => f64::from(self.byte()) / 64.0,
        }
    }

    fn numbers(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.number()).collect()
    }

    /// A cost, sometimes a forbidden one.
    fn cost(&mut self) -> f64 {
        if self.below(8) == 0 { f64::INFINITY } else { self.number() }
    }

    /// A parameter: mostly usable.
    fn parameter(&mut self) -> f64 {
        [0.1, 1e-9, 0.01, 0.5, 1.0, 1e9, [1e-150, 1e150][self.below(2)], self.number()][self.below(8)]
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Counts, so that a run says what it did.
#[derive(Default, Debug)]
struct Tally {
    refused: usize,
    converged: usize,
    stalled: usize,
    limited: usize,
    infeasible: usize,
}

fn solver(bytes: &mut Bytes<'_>) -> Result<Box<dyn Solver>, OtError> {
    let iterations = 1 + bytes.below(60);
    Ok(match bytes.below(7) {
        0 => {
            Box::new(Exact::new().algorithm(bytes.pick(&[Algorithm::Auto, Algorithm::Simplex, Algorithm::Assignment])))
        }
        1 => Box::new(
            Unbalanced::new(bytes.parameter(), bytes.parameter(), bytes.pick(&[f64::INFINITY, 1.0, 1e3]))?
                .reference(bytes.pick(&[Reference::Product, Reference::Counting]))
                .max_iterations(iterations)?,
        ),
        2 => Box::new(EntropicPartial::new(bytes.parameter(), bytes.parameter())?.max_iterations(iterations)?),
        3 => Box::new(ExactPartial::new(bytes.parameter())?),
        _ => Box::new(sinkhorn(bytes)?.max_iterations(iterations)?),
    })
}

fn sinkhorn(bytes: &mut Bytes<'_>) -> Result<Sinkhorn, OtError> {
    let epsilon = bytes.parameter();
    let sinkhorn = Sinkhorn::new(epsilon)?
        .form(bytes.pick(&[Form::Log, Form::Scaling]))
        .precision(bytes.pick(&[Precision::Double, Precision::Single]))
        .acceleration(bytes.pick(&[
            Acceleration::None,
            Acceleration::OverRelaxation,
            Acceleration::Anderson,
            Acceleration::Auto,
        ]))
        .tolerance(bytes.pick(&[0.0, 1e-9, 1e-3]))?
        .max_iterations(1 + bytes.below(60))?;
    if bytes.below(4) == 0 { sinkhorn.schedule(epsilon * 8.0, 0.5) } else { Ok(sinkhorn) }
}

/// Whether sums and products of such numbers stay far from the ends of f64.
fn tame(numbers: impl IntoIterator<Item = f64>) -> bool {
    numbers.into_iter().all(|v| v == 0.0 || !v.is_finite() || (1e-40..1e40).contains(&v.abs()))
}

fn one(bytes: &[u8], tally: &mut Tally) -> Result<(), TestCaseError> {
    let mut bytes = Bytes { left: bytes, wild: false };
    bytes.wild = bytes.below(4) == 0;
    let least = usize::from(!bytes.wild);
    let (n, m) = (least + bytes.below(6), least + bytes.below(6));
    match bytes.below(8) {
        0 | 1 => points(&mut bytes, n, m, tally),
        2 => closed_forms(&mut bytes, n, m, tally),
        _ => matrix(&mut bytes, n, m, tally),
    }
}

fn matrix(bytes: &mut Bytes<'_>, n: usize, m: usize, tally: &mut Tally) -> Result<(), TestCaseError> {
    let Ok(solver) = solver(bytes) else {
        tally.refused += 1;
        return Ok(());
    };
    let (source, target) = masses(bytes, n, m);
    let cost = Array2::from_shape_fn((n, m), |_| bytes.cost());
    let Ok(problem) = Problem::unbalanced(cost.view(), source.view(), target.view()) else {
        tally.refused += 1;
        return Ok(());
    };
    let tame = tame(cost.iter().chain(&source).chain(&target).copied());
    match solver.solve(&problem) {
        Err(OtError::Infeasible { .. }) => tally.infeasible += 1,
        Err(_) => tally.refused += 1,
        Ok(found) => {
            // A plan that no marginal bounds may leave f64, and says then that it did not converge.
            let bounded = !matches!(found.objective, Objective::Unbalanced { .. }) || found.status == Status::Converged;
            sound(&found, &problem, tame && bounded)?;
            let (Ok(_) | Err(OtError::NoGradient { .. })) = found.gradients(&problem) else {
                return Err(TestCaseError::fail("no gradients"));
            };
            // May be an error of any kind where epsilon is tiny.
            let _ = found.sharp_gradients(&problem);
            count(found.status, tally);
        }
    }
    Ok(())
}

/// Mostly with equal totals, or few would get past the check.
fn masses(bytes: &mut Bytes<'_>, n: usize, m: usize) -> (Array1<f64>, Array1<f64>) {
    let lengths = if bytes.wild && bytes.byte() == 0 { (m, n) } else { (n, m) };
    let (source, mut target) = (Array1::from(bytes.numbers(lengths.0)), Array1::from(bytes.numbers(lengths.1)));
    if bytes.below(4) > 0 && target.sum() > 0.0 {
        target *= source.sum() / target.sum();
    }
    (source, target)
}

fn points(bytes: &mut Bytes<'_>, n: usize, m: usize, tally: &mut Tally) -> Result<(), TestCaseError> {
    let d = usize::from(!bytes.wild) + bytes.below(3);
    let (source, target) = masses(bytes, n, m);
    let (x, y) = (Array2::from_shape_fn((n, d), |_| bytes.number()), Array2::from_shape_fn((m, d), |_| bytes.number()));
    let custom = |x: &[f64], y: &[f64]| x.iter().sum::<f64>() - y.iter().sum::<f64>();
    let metric = bytes.pick(&[Metric::SquaredEuclidean, Metric::Euclidean, Metric::Cosine, Metric::Custom(&custom)]);
    let (Ok(sinkhorn), Ok(cloud)) = (sinkhorn(bytes), Points::new(x.view(), y.view(), metric)) else {
        tally.refused += 1;
        return Ok(());
    };
    let costs = cloud.costs();
    prop_assert_eq!(costs.dim(), (n, m));
    match sinkhorn.solve_points(&cloud, source.view(), target.view()) {
        Err(_) => tally.refused += 1,
        Ok(found) => {
            let Potentials { f, g, .. } = &found;
            let numbers = f.iter().chain(g).chain([&found.value, &found.regularized_value, &found.marginal_error]);
            let calm = tame(x.iter().chain(&y).chain(&source).chain(&target).copied());
            prop_assert!(!calm || numbers.clone().all(|v| v.is_finite()), "{:?}", found);
            let _ = found.point_gradients(&cloud, source.view(), target.view());
            let _ = sinkhorn.divergence(&cloud, source.view(), target.view());
            count(found.status, tally);
        }
    }
    Ok(())
}

/// The line, slices and Gaussians.
fn closed_forms(bytes: &mut Bytes<'_>, n: usize, m: usize, tally: &mut Tally) -> Result<(), TestCaseError> {
    let (source, target) = masses(bytes, n, m);
    let (x, y) = (Array1::from(bytes.numbers(n)), Array1::from(bytes.numbers(m)));
    let tame = tame(x.iter().chain(&y).chain(&source).chain(&target).copied());
    let power = bytes.pick(&[1.0, 1.5, 2.0, f64::NAN]);
    match Line::new(x.view(), y.view(), source.view(), target.view(), power) {
        Err(_) => tally.refused += 1,
        Ok(line) => {
            let found = line.solve();
            prop_assert!(!tame || (found.value.is_finite() && found.plan.iter().all(|p| *p >= 0.0)), "{:?}", found);
            prop_assert!(!tame || (found.value - line.value()).abs() <= 1e-9 * (1.0 + line.value().abs()));
            count(found.status, tally);
        }
    }
    let (x, y) = (x.insert_axis(Axis(1)), y.insert_axis(Axis(1)));
    if let Ok(found) = Sliced::new(bytes.below(3), 7)
        .and_then(|sliced| sliced.power(power))
        .and_then(|sliced| sliced.solve(x.view(), y.view(), source.view(), target.view()))
    {
        prop_assert!(!tame || found.value.is_finite(), "{:?}", found);
    }
    let covariance = Array2::from_shape_fn((n, m), |_| bytes.number());
    let gaussian = Gaussian::new(source.view(), covariance.view());
    if let (Ok(one), Ok(other)) = (gaussian, Gaussian::diagonal(target.view(), x.column(0))) {
        let _ = (one.squared_distance(&other), one.map_to(&other));
    }
    Ok(())
}

fn count(status: Status, tally: &mut Tally) {
    match status {
        Status::Converged => tally.converged += 1,
        Status::Stalled => tally.stalled += 1,
        Status::IterationLimit => tally.limited += 1,
    }
}

fn sound(found: &Coupling, problem: &Problem<'_>, calm: bool) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.plan.dim(), problem.dim());
    prop_assert!(!found.plan.iter().any(|p| *p < 0.0), "{:?}", found);
    if calm {
        prop_assert!(found.plan.iter().chain(&found.f).chain(&found.g).all(|v| v.is_finite()), "{:?}", found);
        prop_assert!(found.value.is_finite() && found.regularized_value.is_finite(), "{:?}", found);
        // Duals far from a weak penalty's optimum owe, and bound, without limit.
        prop_assert!(!found.dual_value.is_nan() && !found.marginal_error.is_nan(), "{:?}", found);
    }
    if found.status == Status::Converged {
        let total = problem.source().sum().max(problem.target().sum());
        prop_assert!(found.marginal_error <= 1.1e-3 * total, "{:?}", found);
    }
    Ok(())
}

#[test]
fn no_bytes_make_anything_panic() {
    let cases = std::env::var("TAVQ_OT_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(4_000);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let tally = std::cell::RefCell::new(Tally::default());
    let outcome = runner.run(&prop::collection::vec(any::<u8>(), 0..200), |bytes| {
        one(&bytes, &mut tally.borrow_mut()).map_err(|e| TestCaseError::fail(format!("{e}; bytes {bytes:?}")))
    });
    println!("{cases} problems: {:?}", tally.borrow());
    outcome.unwrap();
    let tally = tally.into_inner();
    let solved = tally.converged + tally.stalled + tally.limited;
    assert!(solved > cases as usize / 10 && tally.infeasible > 0, "the problems are too wild to test much: {tally:?}");
}

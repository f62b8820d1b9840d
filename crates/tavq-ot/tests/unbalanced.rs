//! Unbalanced and partial transport against closed forms, plain iterations and the linear program.

use ndarray::{Array1, Array2, Axis, array};
use proptest::prelude::*;
use tavq_ot::{
    Coupling, EntropicPartial, Exact, MASS_SLACK, OtError, Problem, Reference, Side, Sinkhorn, Solver, Status,
    Unbalanced,
};

mod common;
use common::{Owned, distance};

fn solve(solver: &dyn Solver, owned: &Owned) -> Result<Coupling, OtError> {
    solver.solve(&Problem::unbalanced(owned.cost.view(), owned.source.view(), owned.target.view())?)
}

/// The fixed point u = (a / K v)^(rho / (rho + epsilon)), v likewise, by plain iteration.
fn textbook(owned: &Owned, kernel: &Array2<f64>, epsilon: f64, rho: [f64; 2]) -> Array2<f64> {
    let power = rho.map(|rho| if rho.is_infinite() { 1.0 } else { rho / (rho + epsilon) });
    let (mut u, mut v) = (Array1::<f64>::ones(owned.source.len()), Array1::<f64>::ones(owned.target.len()));
    for _ in 0..200_000 {
        u = (&owned.source / &kernel.dot(&v)).mapv(|x| x.powf(power[0]));
        v = (&owned.target / &kernel.t().dot(&u)).mapv(|x| x.powf(power[1]));
    }
    Array2::from_shape_fn(kernel.dim(), |(i, j)| u[i] * kernel[[i, j]] * v[j])
}

#[test]
fn the_fixed_point_is_the_textbook_one() {
    let mut owned = Owned::random(7, 5, 3);
    owned.target *= 1.7;
    for (epsilon, rho) in [(0.1, [1.0, 1.0]), (0.05, [0.3, 2.0]), (0.1, [f64::INFINITY, 0.5]), (0.5, [0.01, 0.02])] {
        let counting = owned.cost.mapv(|c| (-c / epsilon).exp());
        let product =
            Array2::from_shape_fn(counting.dim(), |(i, j)| owned.source[i] * owned.target[j] * counting[[i, j]]);
        for (reference, kernel) in [(Reference::Product, product), (Reference::Counting, counting)] {
            let solver = Unbalanced::new(epsilon, rho[0], rho[1]).unwrap().tolerance(1e-13).unwrap();
            let found = solve(&solver.reference(reference), &owned).unwrap().require_converged().unwrap();
            let expected = textbook(&owned, &kernel, epsilon, rho);
            assert!(distance(&found.plan, &expected) < 1e-11, "{epsilon} {rho:?} {reference:?}");
            assert!(found.gap().abs() < 1e-10 * (1.0 + found.regularized_value.abs()), "{}", found.gap());
        }
    }
}

#[test]
fn the_case_of_pot_711() {
    let owned = Owned { cost: array![[0.0, 1.0], [1.0, 0.0]], source: array![0.3, 0.7], target: array![0.7, 0.3] };
    let solver = Unbalanced::new(0.01, 100.0, 100.0).unwrap().reference(Reference::Counting);
    let plan = solve(&solver, &owned).unwrap().require_converged().unwrap().plan;
    // Two million plain iterations give these digits; 1000 of them, POT's limit, give 0.395003 and 0.301516.
    assert!((plan[[1, 0]] - 0.395_015_181_100).abs() < 1e-9, "{plan}");
    assert!(
        (plan[[0, 0]] - 0.301_525_902_034).abs() < 1e-9 && (plan[[1, 1]] - 0.301_525_902_034).abs() < 1e-9,
        "{plan}"
    );
}

#[test]
fn strong_penalties_prescribe_the_marginals() {
    let owned = Owned::random(12, 9, 5);
    let balanced = Sinkhorn::new(0.02).unwrap().tolerance(1e-12).unwrap().solve(&owned.problem()).unwrap();
    for rho in [1e6, f64::INFINITY] {
        let solver = Unbalanced::new(0.02, rho, rho).unwrap().tolerance(1e-12).unwrap();
        let found = solve(&solver, &owned).unwrap().require_converged().unwrap();
        assert!(found.iterations < 500, "{}", found.iterations);
        assert!(distance(&found.plan, &balanced.plan) < 1e-6, "{rho}");
    }
}

#[test]
fn weak_penalties_leave_the_plan_small() {
    let mut owned = Owned::random(6, 6, 8);
    owned.cost += 1.0;
    let solver = Unbalanced::new(0.05, 0.01, 0.01).unwrap();
    let found = solve(&solver, &owned).unwrap().require_converged().unwrap();
    assert!(found.plan.sum() < 1e-3 && found.plan.iter().all(|p| *p >= 0.0), "{}", found.plan.sum());
}

#[test]
fn unreachable_points_are_given_up_or_refused() {
    let inf = f64::INFINITY;
    let owned = Owned { cost: array![[0.5, inf], [inf, inf]], source: array![0.5, 0.5], target: array![0.4, 0.6] };
    let found = solve(&Unbalanced::new(0.1, 1.0, 1.0).unwrap(), &owned).unwrap().require_converged().unwrap();
    assert!(found.plan[[0, 0]] > 0.1 && found.plan.sum() == found.plan[[0, 0]]);
    assert!(found.gap().abs() < 1e-9, "{}", found.gap());
    let nothing = Owned { cost: array![[inf], [inf]], source: array![0.5, 0.5], target: array![1.0] };
    let found = solve(&Unbalanced::new(0.1, 2.0, 3.0).unwrap(), &nothing).unwrap().require_converged().unwrap();
    assert!(found.plan.sum() == 0.0 && (found.regularized_value - 5.1).abs() < 1e-12, "{found:?}");
    assert!(found.gap().abs() < 1e-12);
    let refused = solve(&Unbalanced::new(0.1, inf, 1.0).unwrap(), &owned).unwrap_err();
    assert_eq!(refused, OtError::Infeasible { stranded: 0.5, total: 1.0 });
    let refused = solve(&Unbalanced::new(0.1, 1.0, inf).unwrap(), &owned).unwrap_err();
    assert_eq!(refused, OtError::Infeasible { stranded: 0.6, total: 1.0 });
}

#[test]
fn parameters_outside_their_range_are_refused() {
    for (side, bad) in [(Side::Source, -1.0), (Side::Source, 0.0), (Side::Target, f64::NAN), (Side::Target, 1e15)] {
        let (a, b) = if side == Side::Source { (bad, 1.0) } else { (1.0, bad) };
        let found = Unbalanced::new(0.1, a, b).unwrap_err();
        assert!(matches!(found, OtError::Strength { side: s, value } if s == side && value.to_bits() == bad.to_bits()));
    }
    assert!(matches!(Unbalanced::new(0.0, 1.0, 1.0), Err(OtError::Epsilon { value: 0.0 })));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(EntropicPartial::new(bad, 0.1), Err(OtError::PartialMass { .. })), "{bad}");
    }
    let mut owned = Owned::random(3, 4, 1);
    owned.target *= 2.0;
    let refused = solve(&EntropicPartial::new(1.1, 0.1).unwrap(), &owned).unwrap_err();
    assert!(
        matches!(refused, OtError::PartialMassTooLarge { value: 1.1, available } if (available - 1.0).abs() < 1e-12)
    );
    let refused = solve(&Sinkhorn::new(0.1).unwrap(), &owned).unwrap_err();
    assert!(matches!(refused, OtError::MassesDiffer { .. }));
    let refused = solve(&Exact::new(), &owned).unwrap_err();
    assert!(matches!(refused, OtError::MassesDiffer { .. }), "{refused}");
}

#[test]
fn half_of_the_mass_moves_where_it_is_cheap() {
    let mut owned = Owned::random(15, 11, 4);
    owned.source *= 1.5;
    let solver = EntropicPartial::new(0.5, 0.02).unwrap().tolerance(1e-10).unwrap();
    let found = solve(&solver, &owned).unwrap().require_converged().unwrap();
    assert!((found.plan.sum() - 0.5).abs() < 1e-9);
    let within = |sums: Array1<f64>, masses: &Array1<f64>| sums.iter().zip(masses).all(|(s, m)| *s <= m + 1e-9);
    assert!(within(found.plan.sum_axis(Axis(1)), &owned.source) && within(found.plan.sum_axis(Axis(0)), &owned.target));
    assert!(found.gap().abs() < 1e-8, "{}", found.gap());
    assert!(found.g.iter().all(|g| *g <= 1e-12));
}

#[test]
fn all_of_the_mass_is_the_balanced_plan() {
    let owned = Owned::random(8, 10, 6);
    let full = solve(&EntropicPartial::new(1.0, 0.05).unwrap().tolerance(1e-8).unwrap(), &owned).unwrap();
    let balanced = Sinkhorn::new(0.05).unwrap().solve(&owned.problem()).unwrap();
    assert!(distance(&full.plan, &balanced.plan) < 1e-6, "{:?} {}", full.status, full.marginal_error);
}

#[test]
fn an_iteration_limit_is_said() {
    let owned = Owned::random(20, 20, 2);
    let found = solve(&EntropicPartial::new(0.9, 0.001).unwrap().max_iterations(2).unwrap(), &owned).unwrap();
    assert_eq!((found.status, found.iterations), (Status::IterationLimit, 2));
    let found = solve(&Unbalanced::new(0.001, 1.0, 1.0).unwrap().max_iterations(2).unwrap(), &owned).unwrap();
    assert_eq!((found.status, found.iterations), (Status::IterationLimit, 2));
    assert!(MASS_SLACK > 0.0 && found.marginal_error > 1e-9);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Strong duality certifies each answer by itself.
    #[test]
    fn no_gap_is_left(seed in 0_u64..1000, n in 1_usize..9, m in 1_usize..9, scale in 0.2_f64..5.0, share in 0.05_f64..0.95) {
        let mut owned = Owned::random(n, m, seed);
        owned.target *= scale;
        let unbalanced = Unbalanced::new(0.1, 2.0, 0.7).unwrap();
        let partial = EntropicPartial::new(share * scale.min(1.0), 0.1).unwrap();
        for solver in [&unbalanced as &dyn Solver, &partial] {
            let found = solve(solver, &owned).unwrap().require_converged().unwrap();
            let size = 1.0 + found.regularized_value.abs();
            prop_assert!(found.gap().abs() < 1e-7 * size, "{found:?}");
            prop_assert!(found.plan.iter().all(|p| *p >= 0.0));
        }
    }
}

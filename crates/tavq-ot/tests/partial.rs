//! Partial transport: its constraints, its certificate, and the balanced problem at its end.

use ndarray::{Array1, Array2, Axis, array};
use proptest::prelude::*;
use tavq_ot::laws::{Kind, instances};
use tavq_ot::{Coupling, Exact, ExactPartial, Objective, OtError, Problem, Solver, Status};

fn solve(cost: &Array2<f64>, a: &Array1<f64>, b: &Array1<f64>, mass: f64) -> Result<Coupling, OtError> {
    let problem = Problem::unbalanced(cost.view(), a.view(), b.view()).unwrap();
    let coupling = ExactPartial::new(mass)?.solve(&problem)?;
    let scale = 1.0 + cost.iter().filter(|c| c.is_finite()).fold(0.0, |s: f64, c| s.max(c.abs()));
    assert_eq!(coupling.status, Status::Converged);
    assert!(
        matches!(coupling.objective, Objective::Partial { mass: found } if (found - mass).abs() < 1e-15 * (1.0 + mass))
    );
    let (rows, columns) = (coupling.plan.sum_axis(Axis(1)), coupling.plan.sum_axis(Axis(0)));
    assert!(rows.iter().zip(a).all(|(p, a)| *p <= a + 1e-14) && columns.iter().zip(b).all(|(p, b)| *p <= b + 1e-14));
    assert!((coupling.plan.sum() - mass).abs() < 1e-14 * (1.0 + mass) && coupling.marginal_error < 1e-13);
    assert!(coupling.plan.iter().zip(cost).all(|(&p, c)| p >= 0.0 && (p == 0.0 || c.is_finite())));
    let lambda = coupling.f.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    assert!(coupling.g.iter().all(|&g| g <= 0.0));
    for ((i, j), c) in cost.indexed_iter() {
        assert!(coupling.f[i] + coupling.g[j] - c <= 1e-12 * scale, "({i}, {j})");
    }
    let dual = a.dot(&(&coupling.f - lambda)) + b.dot(&coupling.g) + lambda * mass;
    assert!((dual - coupling.dual_value).abs() < 1e-11 * scale);
    assert!(coupling.gap().abs() < 1e-11 * scale, "gap {:e}", coupling.gap());
    Ok(coupling)
}

#[test]
fn a_part_of_the_mass_moves_over_the_cheapest_arcs() {
    let cost = array![[1.0, 9.0, 4.0], [3.0, 2.0, 9.0]];
    let (a, b) = (array![0.6, 0.4], array![0.3, 0.3, 0.4]);
    let coupling = solve(&cost, &a, &b, 0.5).unwrap();
    assert!((coupling.value - (0.3 + 0.2 * 2.0)).abs() < 1e-14);
    // One more unit of mass would go over the arc of cost 2.
    let lambda = coupling.f.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    assert!((lambda - 2.0).abs() < 1e-12);
    // Negative costs do not make it move more.
    assert!((solve(&(&cost - 10.0), &a, &b, 0.5).unwrap().value - (coupling.value - 5.0)).abs() < 1e-14);
}

#[test]
fn all_of_the_smaller_side_may_move() {
    let cost = array![[1.0, 2.0], [5.0, 1.0], [0.0, 7.0]];
    let (a, b) = (array![1.0, 1.0, 1.0], array![0.5, 0.5]);
    for mass in [1.0, 1.0 + 5e-7] {
        let problem = Problem::unbalanced(cost.view(), a.view(), b.view()).unwrap();
        let coupling = ExactPartial::new(mass).unwrap().solve(&problem).unwrap();
        assert!((coupling.value - 0.5).abs() < 1e-15 && coupling.gap().abs() < 1e-14);
        assert_eq!(coupling.objective, Objective::Partial { mass: 1.0 });
    }
    assert!((solve(&cost.reversed_axes(), &b, &a, 1.0).unwrap().value - 0.5).abs() < 1e-15);
}

#[test]
fn little_may_move_beside_much() {
    let cost = array![[1.0, 2.0], [5.0, 1.0]];
    let (a, b) = (array![1e-6, 1e25], array![1e30, 2e-6]);
    let problem = Problem::unbalanced(cost.view(), a.view(), b.view()).unwrap();
    let coupling = ExactPartial::new(3e-6).unwrap().solve(&problem).unwrap();
    let expected = array![[1e-6, 0.0], [0.0, 2e-6]];
    assert!((&coupling.plan - &expected).iter().all(|off| off.abs() < 1e-20), "{}", coupling.plan);
    assert!(coupling.marginal_error < 1e-20);
}

#[test]
fn wrong_masses_have_their_own_errors() {
    for value in [0.0, -1.0, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(ExactPartial::new(value), Err(OtError::PartialMass { value }));
    }
    assert!(matches!(ExactPartial::new(f64::NAN), Err(OtError::PartialMass { value }) if value.is_nan()));
    let (a, b) = (array![1.0], array![0.25, 0.5]);
    let refused = solve(&array![[1.0, 2.0]], &a, &b, 0.8).unwrap_err();
    assert_eq!(refused, OtError::PartialMassTooLarge { value: 0.8, available: 0.75 });
    let unequal = array![[0.0, 0.0]];
    let problem = Problem::unbalanced(unequal.view(), a.view(), b.view()).unwrap();
    assert!(matches!(Exact::new().solve(&problem), Err(OtError::MassesDiffer { .. })));
}

#[test]
fn forbidden_arcs_limit_the_mass() {
    let inf = f64::INFINITY;
    let cost = array![[1.0, inf], [2.0, inf]];
    let half = array![0.5, 0.5];
    assert!((solve(&cost, &half, &half, 0.5).unwrap().value - 0.5).abs() < 1e-15);
    match solve(&cost, &half, &half, 0.75) {
        Err(OtError::Infeasible { stranded, total }) => assert!((stranded - 0.25).abs() < 1e-12 && total == 0.75),
        other => panic!("{other:?}"),
    }
    let none = Array2::from_elem((2, 2), inf);
    assert!(matches!(solve(&none, &half, &half, 1e-3), Err(OtError::Infeasible { .. })));
}

#[test]
fn points_of_zero_mass_take_no_part() {
    let cost = array![[0.0, 1.0, 0.0], [0.0, 3.0, 2.0]];
    let coupling = solve(&cost, &array![0.0, 1.0], &array![0.0, 1.0, 0.5], 0.75).unwrap();
    assert!((coupling.value - (0.5 * 2.0 + 0.25 * 3.0)).abs() < 1e-14);
    assert!(coupling.plan.row(0).iter().chain(coupling.plan.column(0)).all(|&p| p == 0.0));
}

fn kinds() -> impl Strategy<Value = tavq_ot::laws::Instance> {
    prop_oneof![
        instances(Kind::Random, 9, 1.0),
        instances(Kind::Degenerate, 9, 1.0),
        instances(Kind::ZeroMass, 9, 1.0),
        instances(Kind::Duplicated, 9, 1.0),
        instances(Kind::Forbidden, 9, 1.0),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// The certificate in `solve` proves each answer; the whole mass gives the balanced value, and the value is convex in
    /// the mass.
    #[test]
    fn partial_values_are_certified_and_convex(instance in kinds(), share in 1_u8..8) {
        let (cost, a, b) = (&instance.cost, &instance.source, &instance.target);
        let total = a.sum().min(b.sum());
        let value = |mass: f64| solve(cost, a, b, mass).map(|c| c.value);
        let best = Exact::new().solve(&instance.problem().unwrap()).unwrap();
        let whole = solve(cost, a, b, total).unwrap().value;
        prop_assert!((whole - best.value).abs() < 1e-12);
        let mass = f64::from(share) / 8.0 * total;
        let (low, mid, high) = (value(mass * 0.5).unwrap(), value(mass).unwrap(), whole);
        // Chord from mass/2 to the total at `mass`.
        let weight = (mass - 0.5 * mass) / (total - 0.5 * mass);
        prop_assert!(mid <= low + weight * (high - low) + 1e-12);
    }
}

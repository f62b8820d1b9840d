//! Gradients against central differences.

use ndarray::{Array1, Array2, Axis, array};
use tavq_ot::{
    Coupling, EntropicPartial, Exact, ExactPartial, Gradients, Metric, OtError, Points, Problem, Reference, Sinkhorn,
    Solver, Unbalanced,
};

mod common;
use common::{Owned, points};

/// Which value is differentiated.
#[derive(Clone, Copy, PartialEq)]
enum Value {
    Regularized,
    Sharp,
}
use Value::{Regularized, Sharp};

impl Value {
    fn of(self, coupling: &Coupling) -> f64 {
        if self == Sharp { coupling.value } else { coupling.regularized_value }
    }

    fn gradients(self, coupling: &Coupling, problem: &Problem<'_>) -> Gradients {
        if self == Sharp { coupling.sharp_gradients(problem) } else { coupling.gradients(problem) }.unwrap()
    }
}

fn solve(solver: &dyn Solver, owned: &Owned) -> Coupling {
    let problem = Problem::unbalanced(owned.cost.view(), owned.source.view(), owned.target.view()).unwrap();
    solver.solve(&problem).unwrap().require_converged().unwrap()
}

fn gradients(solver: &dyn Solver, owned: &Owned, value: Value) -> Gradients {
    let coupling = solve(solver, owned);
    let problem = Problem::unbalanced(owned.cost.view(), owned.source.view(), owned.target.view()).unwrap();
    value.gradients(&coupling, &problem)
}

/// The change of the value over a change of the problem, by central differences of two steps (Richardson).
fn difference(solver: &dyn Solver, owned: &Owned, value: Value, step: f64, change: impl Fn(&mut Owned, f64)) -> f64 {
    let at = |t: f64| {
        let mut moved = Owned { cost: owned.cost.clone(), source: owned.source.clone(), target: owned.target.clone() };
        change(&mut moved, t);
        value.of(&solve(solver, &moved))
    };
    let slope = |h: f64| (at(h) - at(-h)) / (2.0 * h);
    (4.0 * slope(0.5 * step) - slope(step)) / 3.0
}

fn near(found: f64, expected: f64, scale: f64, what: &str) {
    assert!((found - expected).abs() <= 1e-6 * scale, "{what}: expected {expected}, found {found}");
}

/// All costs, and all masses in pairs that keep the totals (or one by one, where the totals are free).
fn check(solver: &dyn Solver, owned: &Owned, value: Value, free: bool) {
    let found = gradients(solver, owned, value);
    let scale = found.cost.iter().fold(0.0_f64, |a, v| a.max(v.abs()));
    for (at, &by_cost) in found.cost.indexed_iter() {
        if owned.cost[at].is_infinite() {
            assert_eq!(by_cost, 0.0);
            continue;
        }
        let expected = difference(solver, owned, value, 3e-4, |o, t| o.cost[at] += t);
        near(by_cost, expected, scale, &format!("cost {at:?}"));
    }
    let scale = found.source.iter().chain(&found.target).fold(0.1_f64, |a, v| a.max(v.abs()));
    let step = 1e-4;
    for (side, by_mass) in [&found.source, &found.target].into_iter().enumerate() {
        let masses = |o: &mut Owned, k: usize, t: f64| [&mut o.source, &mut o.target][side][k] += t;
        let given = [&owned.source, &owned.target][side];
        for (k, &mass) in given.iter().enumerate().filter(|(_, mass)| **mass > step) {
            if free {
                let expected = difference(solver, owned, value, step, |o, t| masses(o, k, t));
                near(by_mass[k], expected, scale, &format!("side {side}, mass {k} = {mass}"));
                continue;
            }
            let other = (k + 1..given.len()).find(|&l| given[l] > step);
            let Some(other) = other else { continue };
            let expected = difference(solver, owned, value, step, |o, t| {
                masses(o, k, t);
                masses(o, other, -t);
            });
            near(by_mass[k] - by_mass[other], expected, scale, &format!("side {side}, masses {k} and {other}"));
        }
    }
    if !free {
        // Both totals together.
        let expected = difference(solver, owned, value, step, |o, t| {
            o.source *= 1.0 + t;
            o.target *= 1.0 + t;
        });
        let total = owned.source.dot(&found.source) + owned.target.dot(&found.target);
        near(total, expected, scale, "all masses");
        assert!((owned.source.dot(&found.source) - owned.target.dot(&found.target)).abs() < 1e-12);
    }
}

#[test]
fn entropic() {
    for epsilon in [0.5, 0.1] {
        let solver = Sinkhorn::new(epsilon).unwrap().tolerance(1e-14).unwrap();
        for value in [Regularized, Sharp] {
            check(&solver, &Owned::random(4, 5, 3), value, false);
            let mut heavy = Owned::random(3, 3, 4);
            heavy.source *= 7.0;
            heavy.target *= 7.0;
            check(&solver, &heavy, value, false);
            let mut forbidden = Owned::random(4, 4, 5);
            forbidden.cost[[1, 2]] = f64::INFINITY;
            check(&solver, &forbidden, value, false);
        }
    }
}

#[test]
fn unbalanced() {
    for rho in [[0.5, 2.0], [f64::INFINITY, 1.0], [3.0, f64::INFINITY]] {
        let solver = Unbalanced::new(0.2, rho[0], rho[1]).unwrap().tolerance(1e-13).unwrap();
        let mut owned = Owned::random(4, 3, 6);
        owned.source *= 1.5;
        for value in [Regularized, Sharp] {
            check(&solver, &owned, value, true);
        }
        check(&solver.reference(Reference::Counting), &owned, Regularized, true);
    }
}

#[test]
fn partial() {
    let solver = EntropicPartial::new(0.6, 0.2).unwrap().tolerance(1e-13).unwrap();
    check(&solver, &Owned::random(4, 3, 9), Regularized, true);
    check(&ExactPartial::new(0.6).unwrap(), &Owned::random(4, 3, 9), Regularized, true);
}

#[test]
fn exact_where_the_optimum_is_unique() {
    check(&Exact::new(), &Owned::random(4, 5, 12), Regularized, false);
    check(&Exact::new(), &Owned::random(4, 5, 12), Sharp, false);
}

/// At a mass of 0 only one side can be tried.
#[test]
fn masses_of_zero_have_their_one_sided_derivative() {
    let mut owned = Owned::random(5, 5, 2);
    (owned.source[1], owned.target[3]) = (0.0, 0.0);
    owned.source /= owned.source.sum();
    owned.target /= owned.target.sum();
    let entropic = Sinkhorn::new(0.2).unwrap().tolerance(1e-14).unwrap();
    let unbalanced = Unbalanced::new(0.2, 1.0, 0.5).unwrap().tolerance(1e-13).unwrap();
    let partial = EntropicPartial::new(0.5, 0.2).unwrap().tolerance(1e-13).unwrap();
    let cases: [(&dyn Solver, &[Value]); 3] =
        [(&entropic, &[Regularized, Sharp]), (&unbalanced, &[Regularized, Sharp]), (&partial, &[Regularized])];
    for (solver, values) in cases {
        for &value in values {
            let found = gradients(solver, &owned, value);
            let start = value.of(&solve(solver, &owned));
            let after = |t: f64| {
                let mut moved =
                    Owned { cost: owned.cost.clone(), source: owned.source.clone(), target: owned.target.clone() };
                moved.source[1] += t;
                moved.source[0] -= t;
                moved.target[3] += t;
                moved.target[0] -= t;
                value.of(&solve(solver, &moved))
            };
            let slope = |h: f64| (after(h) - start) / h;
            let expected = 2.0 * slope(5e-5) - slope(1e-4);
            let sum = found.source[1] - found.source[0] + found.target[3] - found.target[0];
            assert!((sum - expected).abs() < 1e-5, "expected {expected}, found {sum}");
        }
    }
}

fn point_difference(value: impl Fn(&Array2<f64>) -> f64, x: &Array2<f64>, at: (usize, usize)) -> f64 {
    let moved = |t: f64| {
        let mut x = x.clone();
        x[at] += t;
        value(&x)
    };
    let slope = |h: f64| (moved(h) - moved(-h)) / (2.0 * h);
    (4.0 * slope(5e-4) - slope(1e-3)) / 3.0
}

#[test]
fn points_of_each_metric() {
    let (x, y) = (points(4, 3, 1), points(5, 3, 2) + 0.2);
    let owned = Owned::random(4, 5, 8);
    let (a, b) = (owned.source.view(), owned.target.view());
    let sinkhorn = Sinkhorn::new(0.2).unwrap().tolerance(1e-14).unwrap();
    for metric in [Metric::SquaredEuclidean, Metric::Euclidean, Metric::Cosine] {
        for value in [Regularized, Sharp] {
            let at = |x: &Array2<f64>, y: &Array2<f64>| {
                let costs = Points::new(x.view(), y.view(), metric).unwrap().costs();
                sinkhorn.solve(&Problem::new(costs.view(), a, b).unwrap()).unwrap()
            };
            let cloud = Points::new(x.view(), y.view(), metric).unwrap();
            let costs = cloud.costs();
            let problem = Problem::new(costs.view(), a, b).unwrap();
            let coupling = at(&x, &y);
            let found = value.gradients(&coupling, &problem).points(&cloud).unwrap();
            for (k, &g) in found.x.indexed_iter() {
                near(g, point_difference(|x| value.of(&at(x, &y)), &x, k), 1.0, &format!("{metric:?} x{k:?}"));
            }
            for (k, &g) in found.y.indexed_iter() {
                near(g, point_difference(|y| value.of(&at(&x, y)), &y, k), 1.0, &format!("{metric:?} y{k:?}"));
            }
            if value == Regularized {
                let potentials = sinkhorn.solve_points(&cloud, a, b).unwrap();
                let lean = potentials.point_gradients(&cloud, a, b).unwrap();
                assert!(common::distance(&lean.x, &found.x) < 1e-10 && common::distance(&lean.y, &found.y) < 1e-10);
            }
        }
    }
}

#[test]
fn points_that_coincide_have_finite_gradients() {
    let x = array![[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]];
    let y = array![[0.0, 0.0], [1.0, 1e-200], [0.5, 0.0]];
    let third = Array1::from_elem(3, 1.0 / 3.0);
    for metric in [Metric::SquaredEuclidean, Metric::Euclidean] {
        let cloud = Points::new(x.view(), y.view(), metric).unwrap();
        let sinkhorn = Sinkhorn::new(0.1).unwrap();
        let found = sinkhorn.divergence(&cloud, third.view(), third.view()).unwrap();
        let gradient = found.point_gradients(&cloud, third.view(), third.view()).unwrap();
        assert!(gradient.x.iter().chain(&gradient.y).all(|g| g.is_finite()), "{gradient:?}");
    }
}

#[test]
fn divergence() {
    let (x, y) = (points(6, 2, 4), points(5, 2, 5) * 0.7);
    let owned = Owned::random(6, 5, 8);
    let (a, b) = (owned.source.view(), owned.target.view());
    let sinkhorn = Sinkhorn::new(0.1).unwrap().tolerance(1e-13).unwrap();
    for metric in [Metric::SquaredEuclidean, Metric::Euclidean] {
        let cloud = Points::new(x.view(), y.view(), metric).unwrap();
        let found = sinkhorn.divergence(&cloud, a, b).unwrap().require_converged().unwrap();
        let gradient = found.point_gradients(&cloud, a, b).unwrap();
        let at = |x: &Array2<f64>, y: &Array2<f64>, a: &Array1<f64>| {
            let cloud = Points::new(x.view(), y.view(), metric).unwrap();
            sinkhorn.divergence(&cloud, a.view(), b).unwrap().value
        };
        for (k, &g) in gradient.x.indexed_iter() {
            near(g, point_difference(|x| at(x, &y, &owned.source), &x, k), 1.0, &format!("x{k:?}"));
        }
        for (k, &g) in gradient.y.indexed_iter() {
            near(g, point_difference(|y| at(&x, y, &owned.source), &y, k), 1.0, &format!("y{k:?}"));
        }
        let moved = |t: f64| {
            let mut a = owned.source.clone();
            a[0] += t;
            a[3] -= t;
            at(&x, &y, &a)
        };
        near(found.source[0] - found.source[3], (moved(1e-4) - moved(-1e-4)) / 2e-4, 1.0, "masses");
        assert!(found.value > 0.0);
        // A cloud against itself: zero value, zero gradient.
        let same = Points::new(x.view(), x.view(), metric).unwrap();
        let own = sinkhorn.divergence(&same, a, a).unwrap();
        assert_eq!(own.value, 0.0);
        let still = own.point_gradients(&same, a, a).unwrap();
        assert!(still.x.iter().chain(&still.y).all(|g| g.abs() < 1e-9), "{still:?}");
    }
}

#[test]
fn what_has_no_gradient_is_an_error() {
    let owned = Owned::random(3, 4, 1);
    let coupling = solve(&EntropicPartial::new(0.5, 0.1).unwrap(), &owned);
    assert!(matches!(coupling.sharp_gradients(&owned.problem()), Err(OtError::NoGradient { .. })));
    let other = Owned::random(4, 4, 1);
    let refused = coupling.gradients(&other.problem()).unwrap_err();
    assert_eq!(refused, OtError::CouplingShape { expected: (4, 4), found: (3, 4) });
    let (x, y) = (points(3, 2, 1), points(4, 2, 2));
    let metric = |x: &[f64], y: &[f64]| (x[0] - y[0]).abs();
    let cloud = Points::new(x.view(), y.view(), Metric::Custom(&metric)).unwrap();
    let gradient = coupling.gradients(&owned.problem()).unwrap();
    assert_eq!(gradient.points(&cloud).unwrap_err(), OtError::CustomMetric);
    assert_eq!(gradient.cost.len_of(Axis(0)), 3);
}

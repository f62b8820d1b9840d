//! Agreement with POT and SciPy on the couplings of golden/make.py.

use ndarray::{Array1, Array2};
use tavq_ot::{Coupling, Exact, Problem, Sinkhorn, Solver, Status};

#[derive(serde::Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    source: Vec<f64>,
    target: Vec<f64>,
    cost: Vec<Vec<Option<f64>>>,
    exact: f64,
    assignment: Option<f64>,
    entropic: Vec<Entropic>,
}

#[derive(serde::Deserialize)]
struct Entropic {
    epsilon: f64,
    value: f64,
    regularized_value: f64,
    plan: Vec<Vec<f64>>,
}

fn cases() -> Vec<Case> {
    let file: File = serde_json::from_str(include_str!("../golden/couplings.json")).unwrap();
    assert_eq!(file.cases.len(), 9);
    file.cases
}

fn solve(case: &Case, solver: &dyn Solver) -> Coupling {
    let cost: Vec<f64> = case.cost.iter().flatten().map(|c| c.unwrap_or(f64::INFINITY)).collect();
    let cost = Array2::from_shape_vec((case.source.len(), case.target.len()), cost).unwrap();
    let (a, b) = (Array1::from_vec(case.source.clone()), Array1::from_vec(case.target.clone()));
    solver.solve(&Problem::new(cost.view(), a.view(), b.view()).unwrap()).unwrap()
}

#[test]
fn exact_values_are_those_of_pot_and_scipy() {
    for case in cases() {
        let coupling = solve(&case, &Exact::new());
        assert_eq!(coupling.status, Status::Converged);
        assert!((coupling.value - case.exact).abs() < 1e-12, "{}: {} not {}", case.name, coupling.value, case.exact);
        assert!(coupling.gap().abs() < 1e-12 && coupling.marginal_error < 1e-15, "{}: {coupling:?}", case.name);
        if let Some(assignment) = case.assignment {
            assert!((coupling.value - assignment).abs() < 1e-12, "{}", case.name);
        }
    }
}

#[test]
fn entropic_plans_and_values_are_those_of_pot() {
    for case in cases() {
        for expected in &case.entropic {
            let name = format!("{} at {}", case.name, expected.epsilon);
            let solver =
                Sinkhorn::new(expected.epsilon).unwrap().tolerance(1e-13).unwrap().max_iterations(200_000).unwrap();
            let coupling = solve(&case, &solver).require_converged().unwrap();
            assert!(
                (coupling.value - expected.value).abs() < 1e-9,
                "{name}: {} not {}",
                coupling.value,
                expected.value
            );
            let regularized = (coupling.regularized_value, expected.regularized_value);
            assert!((regularized.0 - regularized.1).abs() < 1e-10, "{name}: {regularized:?}");
            for (i, row) in expected.plan.iter().enumerate() {
                for (j, p) in row.iter().enumerate() {
                    assert!((coupling.plan[[i, j]] - p).abs() < 1e-9, "{name}: plan[{i}, {j}]");
                }
            }
        }
    }
}

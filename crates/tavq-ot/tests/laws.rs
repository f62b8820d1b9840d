//! The crate's own solvers obey the laws, and each law is broken by a solver made to break it.

use std::sync::atomic::{AtomicU64, Ordering};

use tavq_ot::laws::{self, Kind, Law, Laws, Violation};
use tavq_ot::{
    Algorithm, Coupling, EntropicPartial, Exact, ExactPartial, Objective, OtError, Problem, Reference, Sinkhorn,
    Solver, Status, Unbalanced,
};

fn sinkhorn() -> Sinkhorn {
    Sinkhorn::new(0.05).unwrap().max_iterations(3_000).unwrap()
}

fn entropic() -> Laws {
    Laws::balanced().entropic(0.05)
}

#[test]
fn the_exact_solver_obeys() {
    laws::check(&Exact::new(), Laws::balanced().exact().cases(150)).unwrap();
    laws::check(&Exact::new(), Laws::balanced().exact().max_points(30).cases(12)).unwrap();
    laws::check(&Exact::new().algorithm(Algorithm::Simplex), Laws::balanced().exact().cases(40)).unwrap();
}

#[test]
fn sinkhorn_obeys() {
    laws::check(&sinkhorn(), entropic().cases(40)).unwrap();
    for epsilon in [1e-7, 2.0, 1e5] {
        let solver = Sinkhorn::new(epsilon).unwrap();
        laws::check(&solver, Laws::balanced().entropic(epsilon).max_points(20).cases(4)).unwrap();
    }
}

#[test]
fn unbalanced_and_partial_solvers_obey() {
    for reference in [Reference::Product, Reference::Counting] {
        for strengths in [[0.5, 0.5], [0.1, 3.0], [f64::INFINITY, 1.0]] {
            let solver = Unbalanced::new(0.05, strengths[0], strengths[1]).unwrap().reference(reference);
            laws::check(&solver, Laws::unbalanced(0.05, strengths, reference)).unwrap();
        }
    }
    for mass in [0.1, 0.6] {
        let solver = EntropicPartial::new(mass, 0.05).unwrap();
        laws::check(&solver, Laws::partial(mass).entropic(0.05)).unwrap();
        let solver = ExactPartial::new(mass).unwrap();
        laws::check(&solver, Laws::partial(mass).exact().cases(60)).unwrap();
        laws::check(&solver, Laws::partial(mass).exact().max_points(25).cases(8)).unwrap();
    }
}

/// A solver with a fault put after it.
struct Faulty<S, F>(S, F);

impl<S: Solver, F: Fn(&Problem<'_>, &mut Coupling) + Send + Sync> Solver for Faulty<S, F> {
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError> {
        let mut coupling = self.0.solve(problem)?;
        (self.1)(problem, &mut coupling);
        Ok(coupling)
    }
}

/// A solver with a fault put before it.
struct Custom<F>(F);

impl<F: Fn(&Problem<'_>) -> Result<Coupling, OtError> + Send + Sync> Solver for Custom<F> {
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError> {
        (self.0)(problem)
    }
}

fn broken(solver: &dyn Solver, laws: Laws) -> Violation {
    *laws::check(solver, laws).expect_err("no law was broken")
}

fn after(fault: impl Fn(&Problem<'_>, &mut Coupling) + Send + Sync) -> Law {
    broken(&Faulty(sinkhorn(), fault), entropic()).law
}

fn after_exact(fault: impl Fn(&Problem<'_>, &mut Coupling) + Send + Sync) -> Law {
    broken(&Faulty(Exact::new(), fault), Laws::balanced().exact()).law
}

#[test]
fn answer() {
    assert_eq!(after(|_, c| c.g[0] = f64::NAN), Law::Answer);
    assert_eq!(after(|_, c| c.plan = c.plan.clone().reversed_axes()), Law::Answer);
    assert_eq!(after(|_, _| panic!("on purpose")), Law::Answer);
    assert_eq!(after(|_, c| c.objective = Objective::Linear), Law::Answer);
    assert_eq!(broken(&Custom(|_: &Problem<'_>| Err(OtError::MaxIterations)), entropic()).law, Law::Answer);
}

#[test]
fn convergence() {
    assert_eq!(after(|_, c| c.status = Status::Stalled), Law::Convergence);
    let violation = broken(&sinkhorn().max_iterations(2).unwrap(), entropic());
    assert_eq!(violation.law, Law::Convergence);
    let hasty = Exact::new().max_iterations(3).unwrap();
    assert_eq!(broken(&hasty, Laws::balanced().exact()).law, Law::Convergence);
}

#[test]
fn non_negativity() {
    assert_eq!(after(|_, c| c.plan[[0, 0]] = -1e-300), Law::NonNegativity);
}

#[test]
fn support() {
    let dust = |_: &Problem<'_>, c: &mut Coupling| c.plan.mapv_inplace(|p| p.max(1e-200));
    assert_eq!(after(dust), Law::Support);
    assert_eq!(after_exact(dust), Law::Support);
}

#[test]
fn reported_error() {
    assert_eq!(after(|_, c| c.marginal_error = 1e-3), Law::ReportedError);
    assert_eq!(after_exact(|_, c| c.plan *= 0.9), Law::ReportedError);
}

#[test]
fn marginals() {
    let loose = sinkhorn().tolerance(1e-3).unwrap();
    assert_eq!(broken(&loose, entropic()).law, Law::Marginals);
    let calm = Faulty(sinkhorn().max_iterations(3).unwrap(), |_: &Problem<'_>, c: &mut Coupling| {
        c.status = Status::Converged;
    });
    assert_eq!(broken(&calm, entropic()).law, Law::Marginals);
}

#[test]
fn values() {
    assert_eq!(after(|_, c| c.value = c.regularized_value), Law::Values);
    assert_eq!(after(|_, c| c.regularized_value = c.value), Law::Values);
    assert_eq!(after(|_, c| c.dual_value += 1e-4), Law::Values);
    assert_eq!(after_exact(|_, c| c.value += 1e-6), Law::Values);
}

/// Reports the dual value that its duals have.
fn with_duals(problem: &Problem<'_>, coupling: &mut Coupling) {
    let (a, b) = problem.balanced_masses();
    coupling.dual_value = a.dot(&coupling.f) + b.dot(&coupling.g);
}

#[test]
fn duals() {
    let moved = |_: &Problem<'_>, c: &mut Coupling| {
        let mean = c.f.sum() / c.f.len() as f64;
        c.f.mapv_inplace(|f| f + 0.01 * (f - mean) + 0.001);
    };
    let fault = |p: &Problem<'_>, c: &mut Coupling| {
        moved(p, c);
        with_duals(p, c);
    };
    assert_eq!(broken(&Faulty(sinkhorn(), fault), entropic().only(Law::Duals)).law, Law::Duals);
    assert_eq!(after_exact(fault), Law::Duals);
    // Feasible but not optimal.
    let low = |p: &Problem<'_>, c: &mut Coupling| {
        c.f -= 0.01;
        with_duals(p, c);
    };
    let violation = broken(&Faulty(Exact::new(), low), Laws::balanced().exact());
    assert!(violation.law == Law::Duals && violation.reason.contains("gap"), "{violation}");
}

/// The product plan with consistent values: right marginals, wrong objective.
fn product(problem: &Problem<'_>) -> Result<Coupling, OtError> {
    problem.check_feasible()?;
    let mut coupling = Sinkhorn::new(1e6)?.solve(problem)?;
    coupling.regularized_value = coupling.value;
    Ok(coupling)
}

#[test]
fn optimality() {
    let exact = Laws::balanced().exact();
    assert_eq!(broken(&Custom(product), exact.only(Law::Optimality)).law, Law::Optimality);
    let sharp = Sinkhorn::new(0.04).unwrap();
    assert!(broken(&sharp, entropic()).law != Law::Optimality, "other laws see another epsilon first");
    let blurred = Sinkhorn::new(5.0).unwrap();
    assert_eq!(broken(&blurred, entropic().only(Law::Optimality)).law, Law::Optimality);
}

/// A solver that is right about another problem: the one with `change` applied to the cost.
fn misread(change: impl Fn(usize, usize, f64, &Problem<'_>) -> f64 + Send + Sync) -> impl Solver {
    Custom(move |problem: &Problem<'_>| {
        let mut cost = problem.cost().to_owned();
        cost.indexed_iter_mut().for_each(|((i, j), c)| *c = change(i, j, *c, problem));
        let (a, b) = (problem.source(), problem.target());
        sinkhorn().solve(&Problem::new(cost.view(), a, b)?)
    })
}

#[test]
fn transposition() {
    let solver = misread(|i, j, c, _| if i > j { 2.0 * c } else { c });
    assert_eq!(broken(&solver, entropic().only(Law::Transposition)).law, Law::Transposition);
}

#[test]
fn permutation() {
    let solver = misread(|i, j, c, _| if i + j == 0 { c + 1.0 } else { c });
    assert_eq!(broken(&solver, entropic().only(Law::Permutation)).law, Law::Permutation);
    // Reads the memory of the view instead of the view.
    let solver = Custom(|problem: &Problem<'_>| {
        let mut cost = problem.cost();
        cost.invert_axis(ndarray::Axis(0));
        let memory = if cost.is_standard_layout() { cost } else { problem.cost() };
        sinkhorn().solve(&Problem::new(memory, problem.source(), problem.target())?)
    });
    assert_eq!(broken(&solver, entropic().only(Law::Permutation)).law, Law::Permutation);
}

#[test]
fn cost_shift() {
    let solver = misread(|_, _, c, _| if c == f64::INFINITY { c } else { c.min(4.0) });
    assert_eq!(broken(&solver, entropic().only(Law::CostShift)).law, Law::CostShift);
}

#[test]
fn cost_scale() {
    let capped = Custom(|problem: &Problem<'_>| {
        let cost = problem.cost().mapv(|c| if c == f64::INFINITY { c } else { c.min(100.0) });
        Exact::new().solve(&Problem::new(cost.view(), problem.source(), problem.target())?)
    });
    assert_eq!(broken(&capped, Laws::balanced().exact().only(Law::CostScale)).law, Law::CostScale);
}

#[test]
fn mass_scale() {
    // Puts the plan of unit mass out.
    let fault = |p: &Problem<'_>, c: &mut Coupling| c.plan /= p.total_mass();
    assert_eq!(broken(&Faulty(sinkhorn(), fault), entropic().only(Law::MassScale)).law, Law::MassScale);
    let fault = |p: &Problem<'_>, c: &mut Coupling| c.regularized_value /= p.total_mass();
    assert_eq!(broken(&Faulty(Exact::new(), fault), Laws::balanced().exact().only(Law::MassScale)).law, Law::MassScale);
}

#[test]
fn monotonicity() {
    // Ties epsilon to the scale of the costs, twice over.
    let eager = Custom(|problem: &Problem<'_>| {
        let largest = problem.cost().iter().filter(|c| c.is_finite()).fold(0.0_f64, |a, c| a.max(c.abs()));
        Sinkhorn::new(0.05 * (1.0 + largest * largest))?.solve(problem)
    });
    assert_eq!(broken(&eager, entropic().only(Law::Monotonicity)).law, Law::Monotonicity);
}

/// Laws beyond the balanced ones, each broken by a solver of its kind.
#[test]
fn laws_of_free_marginals() {
    let strengths = [0.5, 0.5];
    let unbalanced = Unbalanced::new(0.05, 0.5, 0.5).unwrap();
    let laws = Laws::unbalanced(0.05, strengths, Reference::Product);
    let by = |solver: &dyn Solver, law: Law| {
        let violation = broken(solver, laws.only(law));
        assert_eq!(violation.law, law, "{violation}");
    };
    let renamed = |epsilon, rho, objective: Objective| {
        let solver = Unbalanced::new(epsilon, rho, rho).unwrap();
        Faulty(solver, move |_: &Problem<'_>, c: &mut Coupling| c.objective = objective)
    };
    let objective = Objective::Unbalanced { reference: Reference::Product, epsilon: 0.05, strengths };
    by(&renamed(0.05, 0.7, objective), Law::ReportedError);
    by(&renamed(0.05, 0.7, objective), Law::Values);
    by(&renamed(0.07, 0.5, objective), Law::Duals);
    by(&unbalanced.tolerance(1e-2).unwrap(), Law::Marginals);
    by(&Faulty(unbalanced, |_: &Problem<'_>, c: &mut Coupling| c.dual_value -= 0.01), Law::Optimality);
    by(&Faulty(unbalanced, |_: &Problem<'_>, c: &mut Coupling| c.plan = c.plan.mapv(|p| p + 1e-9)), Law::Support);

    let partial = EntropicPartial::new(0.6, 0.05).unwrap();
    let laws = Laws::partial(0.6).entropic(0.05);
    let by = |fault: fn(&Problem<'_>, &mut Coupling), law: Law| {
        assert_eq!(broken(&Faulty(partial, fault), laws.only(law)).law, law);
    };
    by(|_, c| c.plan *= 0.99, Law::ReportedError);
    by(|_, c| c.g += 0.01, Law::Duals);
    by(|_, c| c.regularized_value += 0.01, Law::Optimality);
    let by_exact = |fault: fn(&Problem<'_>, &mut Coupling), law: Law| {
        let solver = Faulty(ExactPartial::new(0.6).unwrap(), fault);
        assert_eq!(broken(&solver, Laws::partial(0.6).exact().only(law)).law, law);
    };
    by_exact(|_, c| c.f += 0.01, Law::Duals);
    by_exact(|_, c| c.g += 0.01, Law::Duals);
    by_exact(|_, c| c.regularized_value += 0.01, Law::Values);
    by_exact(|_, c| c.regularized_value -= 0.01, Law::CostScale);
    let other = Faulty(EntropicPartial::new(0.5, 0.05).unwrap(), |_: &Problem<'_>, c: &mut Coupling| {
        c.objective = Objective::EntropicPartial { mass: 0.6, epsilon: 0.05 };
        c.marginal_error = 0.1;
    });
    assert_eq!(broken(&other, laws.only(Law::Marginals)).law, Law::Marginals);
}

#[test]
fn batch() {
    let calls = AtomicU64::new(0);
    let fault = |_: &Problem<'_>, c: &mut Coupling| {
        let call = calls.fetch_add(1, Ordering::Relaxed) as f64;
        c.value += f64::EPSILON * call;
    };
    assert_eq!(broken(&Faulty(sinkhorn(), fault), entropic()).law, Law::Batch);
}

#[test]
fn infeasibility() {
    let hopeful = Custom(|problem: &Problem<'_>| {
        let cost = problem.cost().mapv(|c| if c == f64::INFINITY { 1e9 } else { c });
        Exact::new().solve(&Problem::new(cost.view(), problem.source(), problem.target())?)
    });
    let violation = broken(&hopeful, Laws::balanced().exact());
    assert_eq!((violation.law, violation.instance.kind), (Law::Infeasibility, Kind::Infeasible));
}

#[test]
fn a_violation_names_the_law_and_is_small() {
    let violation = broken(&Faulty(sinkhorn(), |_: &Problem<'_>, c: &mut Coupling| c.plan *= 0.5), entropic());
    assert_eq!(violation.instance.cost.dim(), (1, 1));
    let message = violation.to_string();
    assert!(message.starts_with("law reported-error: marginal_error: expected 5e-1"), "{message}");
    assert!(message.contains("random problem: cost [[0.0]], source [1.0], target [1.0]") && !message.contains('\n'));
    // A fault that needs two targets keeps two.
    let fault = |_: &Problem<'_>, c: &mut Coupling| {
        if c.g.len() > 1 {
            c.plan[[0, 1]] = -1.0;
        }
    };
    let violation = broken(&Faulty(sinkhorn(), fault), entropic());
    assert_eq!((violation.law, violation.instance.cost.dim()), (Law::NonNegativity, (1, 2)));
}

#[test]
fn checks_are_repeatable() {
    let loose = sinkhorn().tolerance(1e-3).unwrap();
    assert_eq!(broken(&loose, entropic()), broken(&loose, entropic()));
}

//! Partial transport as a balanced problem with one dummy point a side (Caffarelli and McCann 2010, section 2; Chapel,
//! Alaya and Gasso 2020): the mass that stays goes to or comes from a dummy at no cost, and the arc between the two
//! dummies is forbidden, so that no large finite number stands for it.

use ndarray::{Array1, Array2, ArrayView1, s};

use crate::Solver;
use crate::coupling::{Coupling, Objective, Status};
use crate::error::OtError;
use crate::exact::support::{Support, UNITS};
use crate::exact::{finish, simplex};
use crate::measure::dot;
use crate::problem::{MASS_SLACK, Problem, sum};

/// Exact partial transport by the network simplex: the cheapest plan of total `mass` whose marginals are at most the masses
/// of the problem, `min <P, C>` over `P 1 <= a`, `P^T 1 <= b`, `sum P = mass`. Any costs, forbidden arcs, and totals that
/// differ ([`Problem::unbalanced`]).
///
/// In the [`Coupling`]:
///
/// * the duals have `f_i + g_j <= C_ij`, `f_i <= lambda` and `g_j <= 0`, where `lambda` is the largest `f_i`. A source that
///   keeps some of its mass has `f_i = lambda`, a target with room has `g_j = 0`; the price of one more unit of mass is
///   `lambda`;
/// * `dual_value` is `<a, f - lambda> + <b, g> + lambda mass`, so that the gap is rounding alone;
/// * `marginal_error` is the excess of the plan over the masses of a side (the larger of the two, in L1) or the distance of
///   its total from `mass`, whichever is larger.
///
/// Masses are those given; a problem whose totals nearly agree is not rescaled.
///
/// ```
/// use ndarray::array;
/// use tavq_ot::{ExactPartial, Problem, Solver};
///
/// let cost = array![[1.0, 5.0], [4.0, 2.0]];
/// let (source, target) = (array![1.0, 1.0], array![0.5, 2.0]);
/// let problem = Problem::unbalanced(cost.view(), source.view(), target.view())?;
/// let coupling = ExactPartial::new(0.75)?.solve(&problem)?;
/// assert!((&coupling.plan - array![[0.5, 0.0], [0.0, 0.25]]).iter().all(|off| off.abs() < 1e-15));
/// assert!((coupling.value - 1.0).abs() < 1e-15 && coupling.gap().abs() < 1e-12);
/// # Ok::<(), tavq_ot::OtError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExactPartial {
    mass: f64,
    max_iterations: usize,
}

impl ExactPartial {
    /// The solver that moves `mass`, a finite number > 0 in the unit of the problem's masses
    /// ([`OtError::PartialMass`]). Solving refuses more than the smaller total
    /// ([`OtError::PartialMassTooLarge`]) beyond a relative [`MASS_SLACK`], and takes it as that total within.
    pub fn new(mass: f64) -> Result<Self, OtError> {
        if mass > 0.0 && mass < f64::INFINITY {
            Ok(Self { mass, max_iterations: usize::MAX })
        } else {
            Err(OtError::PartialMass { value: mass })
        }
    }

    /// Ends after this many pivots with [`Status::IterationLimit`] and the plan reached, whose total may then fall short.
    /// At least 1.
    pub fn max_iterations(self, max_iterations: usize) -> Result<Self, OtError> {
        if max_iterations == 0 { Err(OtError::MaxIterations) } else { Ok(Self { max_iterations, ..self }) }
    }
}

impl Solver for ExactPartial {
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError> {
        let extended = Extended::new(problem, self.mass)?;
        let run = extended.run(self.max_iterations, problem.cost().into_owned())?;
        let ((n, m), mut flows) = (problem.dim(), Vec::new());
        run.run.tree.for_each_arc(|i, j, flow| {
            let (i, j) = (extended.support.rows[i], extended.support.columns[j]);
            if flow > 0 && i < n && j < m {
                flows.push((i, j, flow as f64 / UNITS * extended.total));
            }
        });
        let columns = extended.support.spread(&run.potentials, m + 1);
        Ok(extended.coupling(problem, &flows, &columns, (run.run.pivots, run.run.optimal)))
    }
}

/// Whether the finite costs can carry `mass`, which is at most the smaller total: the same simplex over costs of 0.
pub(crate) fn check(problem: &Problem<'_>, mass: f64) -> Result<(), OtError> {
    let cost = problem.cost().mapv(|c| if c == f64::INFINITY { c } else { 0.0 });
    Extended::new(problem, mass)?.run(usize::MAX, cost).map(|_| ())
}

/// The balanced problem: point n of the sources and point m of the targets are the dummies.
struct Extended {
    support: Support,
    mass: f64,
    /// Mass of a side, the dummy's included.
    total: f64,
}

struct Run {
    run: simplex::Run,
    /// Of the columns of the support.
    potentials: Vec<f64>,
}

impl Extended {
    fn new(problem: &Problem<'_>, mass: f64) -> Result<Self, OtError> {
        let (a, b) = (problem.source(), problem.target());
        let totals = [sum(a.iter().copied()), sum(b.iter().copied())];
        let available = totals[0].min(totals[1]);
        if mass > available * (1.0 + MASS_SLACK) {
            return Err(OtError::PartialMassTooLarge { value: mass, available });
        }
        let mass = mass.min(available);
        // No point can use more than `mass`. Twice that never binds, and keeps the units of the masses near those of the plan.
        let (a, b) = (a.mapv(|a| a.min(2.0 * mass)), b.mapv(|b| b.min(2.0 * mass)));
        let totals = [&a, &b].map(|masses| sum(masses.iter().copied()));
        let with = |masses: &Array1<f64>, dummy: f64| masses.iter().copied().chain([dummy]).collect::<Array1<f64>>();
        let (source, target) = (with(&a, totals[1] - mass), with(&b, totals[0] - mass));
        let total = totals[0] + (totals[1] - mass);
        Ok(Self { support: Support::new(source.view(), target.view(), total), mass, total })
    }

    fn run(&self, max_iterations: usize, cost: Array2<f64>) -> Result<Run, OtError> {
        let (n, m) = cost.dim();
        let mut extended = Array2::zeros((n + 1, m + 1));
        extended.slice_mut(s![..n, ..m]).assign(&cost);
        extended[[n, m]] = f64::INFINITY;
        drop(cost);
        let costs = self.support.costs(extended.view());
        let run = simplex::run(&self.support.source, &self.support.target, costs.view(), max_iterations, None);
        if run.optimal {
            // The slack is a share of the mass that moves, however little that is beside the dummies'.
            let stranded = run.tree.stranded() as f64 / UNITS * self.total;
            if stranded > MASS_SLACK * self.mass {
                return Err(OtError::Infeasible { stranded, total: self.mass });
            }
        }
        let potentials = finish::potentials(&run.tree, costs.view());
        Ok(Run { run, potentials })
    }

    fn coupling(
        &self,
        problem: &Problem<'_>,
        flows: &[(usize, usize, f64)],
        columns: &Array1<f64>,
        (iterations, optimal): (usize, bool),
    ) -> Coupling {
        let (a, b, cost) = (problem.source(), problem.target(), problem.cost());
        let (f, g) = self.duals(problem, columns);
        let lambda = f.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let value = sum(flows.iter().map(|&(i, j, mass)| mass * cost[[i, j]]));
        let (rows, sums) = finish::marginals(problem.dim(), flows);
        let excess =
            |sums: &Array1<f64>, masses: ArrayView1<'_, f64>| (sums - &masses).mapv(|over| over.max(0.0)).sum();
        let short = (sum(flows.iter().map(|flow| flow.2)) - self.mass).abs();
        Coupling {
            plan: finish::plan(problem.dim(), flows),
            value,
            regularized_value: value,
            dual_value: dot(a, f.mapv(|f| f - lambda).view()) + dot(b, g.view()) + lambda * self.mass,
            marginal_error: excess(&rows, a).max(excess(&sums, b)).max(short),
            iterations,
            status: if optimal { Status::Converged } else { Status::IterationLimit },
            objective: Objective::Partial { mass: self.mass },
            f,
            g,
        }
    }

    /// The duals of the real points, moved so that the dummy source has 0.
    fn duals(&self, problem: &Problem<'_>, columns: &Array1<f64>) -> (Array1<f64>, Array1<f64>) {
        let m = problem.dim().1;
        let known = columns.slice(s![..m]);
        // The dummy source's c-transform: its arcs to the real targets cost nothing.
        let top = known.iter().copied().filter(|g| !g.is_nan()).fold(f64::NEG_INFINITY, f64::max);
        let (mut f, mut g) = finish::duals(problem.cost(), &(&known - top));
        // A target of no mass takes 0 where its arcs allow more; a source takes the dummy target's price.
        g.mapv_inplace(|g| g.min(0.0));
        if !columns[m].is_nan() {
            let lambda = top - columns[m];
            f.mapv_inplace(|f| f.min(lambda));
        }
        (f, g)
    }
}

//! A solver written outside the crate, held to its laws.
//!
//! Greenkhorn (Altschuler, Weed, Rigollet 2017) repairs the one row or column whose marginal is worst, instead of
//! all of them. Run: `cargo run -p tavq-ot --example own_solver --features laws`

use ndarray::{Array1, Array2, ArrayView1, Axis};
use tavq_ot::laws::{self, Laws};
use tavq_ot::{Coupling, Objective, OtError, Problem, Solver, Status};

struct Greenkhorn {
    epsilon: f64,
    tolerance: f64,
    max_iterations: usize,
}

/// Potentials over epsilon with the masses inside, `plan = exp(phi + gamma - cost / epsilon)`, and the plan's sums.
struct State {
    exponents: Array2<f64>,
    masses: [Array1<f64>; 2],
    potentials: [Array1<f64>; 2],
    plan: Array2<f64>,
    sums: [Array1<f64>; 2],
}

impl State {
    fn new(problem: &Problem<'_>, epsilon: f64) -> Self {
        let (a, b) = problem.balanced_masses();
        let masses = [a / problem.total_mass(), b / problem.total_mass()];
        let potentials = [masses[0].mapv(f64::ln), masses[1].mapv(f64::ln)];
        let mut state = Self {
            exponents: problem.cost().mapv(|c| -c / epsilon),
            plan: Array2::zeros(problem.dim()),
            sums: [Array1::zeros(masses[0].len()), Array1::zeros(masses[1].len())],
            masses,
            potentials,
        };
        state.recompute();
        state
    }

    /// Plan and sums from the potentials.
    fn recompute(&mut self) {
        for ((i, j), p) in self.plan.indexed_iter_mut() {
            *p = (self.potentials[0][i] + self.potentials[1][j] + self.exponents[[i, j]]).exp();
        }
        self.sums = [self.plan.sum_axis(Axis(1)), self.plan.sum_axis(Axis(0))];
    }

    /// The side and the place of the worst marginal.
    fn worst(&self) -> (usize, usize) {
        let mut worst = (0, 0, -1.0);
        for side in 0..2 {
            for (k, (&mass, &sum)) in self.masses[side].iter().zip(&self.sums[side]).enumerate() {
                let distance = (sum - mass).abs();
                if distance > worst.2 {
                    worst = (side, k, distance);
                }
            }
        }
        (worst.0, worst.1)
    }

    /// Makes marginal `k` of `side` exact.
    fn repair(&mut self, side: usize, k: usize) {
        let line = self.exponents.index_axis(Axis(side), k);
        let logs = &line + &self.potentials[1 - side];
        self.potentials[side][k] = self.masses[side][k].ln() - log_sum_exp(logs.view());
        let updated = logs.mapv(|x| (x + self.potentials[side][k]).exp());
        let mut line = self.plan.index_axis_mut(Axis(side), k);
        self.sums[1 - side] += &(&updated - &line);
        self.sums[side][k] = updated.sum();
        line.assign(&updated);
    }

    fn error(&self) -> f64 {
        let distance = |side: usize| (&self.sums[side] - &self.masses[side]).mapv(f64::abs).sum();
        distance(0).max(distance(1))
    }

    /// The dual of point `k` without its mass; a point of no mass gets the soft c-transform of the other side.
    fn dual(&self, side: usize, k: usize) -> f64 {
        if self.masses[side][k] > 0.0 {
            return self.potentials[side][k] - self.masses[side][k].ln();
        }
        let logs = &self.exponents.index_axis(Axis(side), k) + &self.potentials[1 - side];
        let sum = log_sum_exp(logs.view());
        if sum.is_finite() { -sum } else { 0.0 }
    }
}

fn log_sum_exp(values: ArrayView1<'_, f64>) -> f64 {
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY { max } else { max + values.iter().map(|v| (v - max).exp()).sum::<f64>().ln() }
}

impl Solver for Greenkhorn {
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError> {
        problem.check_feasible()?;
        let mut state = State::new(problem, self.epsilon);
        let mut iterations = 0;
        while iterations < self.max_iterations && state.error() > self.tolerance {
            let (side, k) = state.worst();
            state.repair(side, k);
            iterations += 1;
            // The running sums drift; the plan itself decides.
            if iterations % 1000 == 0 || state.error() <= self.tolerance {
                state.recompute();
            }
        }
        state.recompute();
        let error = state.error();
        let [f, g] = [0, 1].map(|side| {
            (0..state.masses[side].len()).map(|k| self.epsilon * state.dual(side, k)).collect::<Array1<f64>>()
        });
        let total = problem.total_mass();
        let excess = self.epsilon * (state.plan.sum() - 1.0);
        let value =
            state.plan.indexed_iter().filter(|(_, p)| **p > 0.0).map(|(at, p)| p * problem.cost()[at]).sum::<f64>();
        Ok(Coupling {
            value: value * total,
            regularized_value: (state.sums[0].dot(&f) + state.sums[1].dot(&g) - excess) * total,
            dual_value: (state.masses[0].dot(&f) + state.masses[1].dot(&g) - excess) * total,
            marginal_error: error * total,
            iterations,
            status: if error <= self.tolerance { Status::Converged } else { Status::IterationLimit },
            objective: Objective::Entropic { epsilon: self.epsilon },
            plan: state.plan * total,
            f,
            g,
        })
    }
}

fn main() -> Result<(), Box<laws::Violation>> {
    let solver = Greenkhorn { epsilon: 0.05, tolerance: 1e-9, max_iterations: 20_000 };
    laws::check(&solver, Laws::balanced().entropic(0.05))?;
    println!("Greenkhorn obeys every law of balanced entropic transport at epsilon 0.05");
    Ok(())
}

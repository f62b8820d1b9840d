//! What is said of a solved problem: one JSON object, or a few lines for a reader.

use serde::Serialize;
use tavq_ot::{Coupling, OtError, Potentials, Status};

use crate::failure::{Failure, Outcome};
use crate::output::say;

/// The numbers of one solution, in the order in which JSON has them.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    method: String,
    value: f64,
    regularized_value: f64,
    marginal_error: f64,
    iterations: usize,
    status: String,
    gap: f64,
    dual_value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon: Option<f64>,
    shape: [usize; 2],
    /// Total of the plan, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    mass: Option<f64>,
    /// Of the solver alone; a batch has no such time for each problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seconds: Option<f64>,
    /// Of the sparse plan that was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entries: Option<usize>,
    #[serde(skip)]
    ending: Status,
}

impl Report {
    pub(super) fn of_coupling(method: &str, epsilon: Option<f64>, c: &Coupling) -> Self {
        let (n, m) = c.plan.dim();
        Self {
            method: method.to_owned(),
            value: c.value,
            regularized_value: c.regularized_value,
            marginal_error: c.marginal_error,
            iterations: c.iterations,
            status: c.status.to_string(),
            gap: c.gap(),
            dual_value: c.dual_value,
            epsilon,
            shape: [n, m],
            mass: Some(c.plan.sum()),
            seconds: None,
            entries: None,
            ending: c.status,
        }
    }

    pub(super) fn of_potentials(method: &str, epsilon: Option<f64>, p: &Potentials) -> Self {
        Self {
            method: method.to_owned(),
            value: p.value,
            regularized_value: p.regularized_value,
            marginal_error: p.marginal_error,
            iterations: p.iterations,
            status: p.status.to_string(),
            gap: p.gap(),
            dual_value: p.dual_value,
            epsilon,
            shape: [p.f.len(), p.g.len()],
            mass: None,
            seconds: None,
            entries: None,
            ending: p.status,
        }
    }

    pub(super) fn converged(&self) -> bool {
        self.ending == Status::Converged
    }

    /// The failure of a run that had to converge and did not.
    pub(super) fn require_converged(&self) -> Outcome {
        if self.converged() {
            return Ok(());
        }
        let Self { ending: status, iterations, marginal_error, .. } = *self;
        Err(Failure::work(OtError::NotConverged { status, iterations, marginal_error }))
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> Outcome {
        say!("{}", serde_json::to_string(self).map_err(Failure::work)?);
        Ok(())
    }

    /// Lines for a reader; one on standard error when the tolerance was not reached.
    pub(super) fn summary(&self) -> Outcome {
        let [n, m] = self.shape;
        let epsilon = self.epsilon.map_or_else(String::new, |epsilon| format!(", epsilon {epsilon}"));
        let seconds = self.seconds.map_or_else(String::new, |seconds| format!(", {seconds:.3} s"));
        say!("{} {n} x {m}{epsilon}: {} after {} iterations{seconds}", self.method, self.status, self.iterations);
        say!("value {:.12e}, regularized {:.12e}", self.value, self.regularized_value);
        say!("marginal error {:.3e}, gap {:.3e}", self.marginal_error, self.gap);
        if let Some(entries) = self.entries {
            say!("{entries} entries of the plan written");
        }
        if !self.converged() {
            eprintln!(
                "warning: {} after {} iterations at marginal error {:.3e}, above the tolerance",
                self.status, self.iterations, self.marginal_error
            );
        }
        Ok(())
    }
}

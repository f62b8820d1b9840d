//! The iterations of the batched solver.
//!
//! They run in scaling form on a kernel that already holds the potentials,
//! `K = exp(phi_i + gamma_j - C_ij / epsilon)`, so that one iteration is two thin matrix products and no
//! exponential. When the scalings drift far from 1 they are absorbed into the potentials and the kernel is
//! built anew (stabilised scaling: Schmitzer 2019, section 3.2), which makes it as robust as the log
//! domain at any epsilon. The kernel starts from the row and column minima of the cost, so that every row
//! and column holds a 1 and none underflows.
//!
//! Reading errors back costs a device synchronisation: it happens after 2, 4, 8, 16, 24, ... iterations.
//! Each problem stops at the first reading at which it is solved, whatever the others in the batch do.

use tch::{Kind, Tensor};

use crate::sinkhorn::{SinkhornConfig, Status, sum_last};
use crate::{AlignError, Result};

// Scalings beyond exp(+-20) are absorbed: what the kernel lost below exp(-87) then stays below exp(-47) of a mass.
const DRIFT: f64 = 20.0;
// Readings without a new lowest error after which the rest has stalled.
const PATIENCE: usize = 10;

// Potential of a cell without mass: its kernel entries are 0 whatever its costs, and a sum with it stays finite.
const GONE: f64 = -1e30;

/// Potentials over epsilon, -1e30 where a mass is 0.
pub(crate) struct Solved {
    /// `[P, S]`.
    pub(crate) phi: Tensor,
    /// `[P, M]`.
    pub(crate) gamma: Tensor,
    pub(crate) iterations: i64,
    pub(crate) status: Status,
}

/// `exp(logits_ij + phi_i + gamma_j)`.
pub(crate) fn kernel(logits: &Tensor, phi: &Tensor, gamma: &Tensor) -> Tensor {
    let mut k = logits + phi.unsqueeze(-1);
    let _ = k.g_add_(&gamma.unsqueeze(-2));
    k.exp_()
}

/// Iterates from the minima of the cost; `logits` is `-C / epsilon`, finite.
pub(crate) fn solve(logits: &Tensor, a: &Tensor, b: &Tensor, config: &SinkhornConfig) -> Result<Solved> {
    let (mut phi, mut gamma) = (Tensor::zeros_like(a), Tensor::zeros_like(b));
    let mut active = Active::new(logits, a, b);
    let (mut iterations, mut best, mut waited) = (0, f64::INFINITY, 0);
    loop {
        let block = iterations.clamp(2, 8).min(config.max_iterations - iterations);
        for _ in 0..block {
            active.step();
        }
        iterations += block;
        let readings = active.read()?;
        let (mut solved, rest): (Vec<_>, Vec<_>) =
            readings.iter().partition(|r| r.error <= config.tolerance && r.drift <= DRIFT);
        let worst = rest.iter().fold(0.0, |w: f64, r| w.max(r.error));
        waited = if worst < best { 0 } else { waited + 1 };
        best = best.min(worst);
        let end = match () {
            () if rest.is_empty() => Some(Status::Converged),
            () if iterations >= config.max_iterations => Some(Status::IterationLimit),
            () if waited >= PATIENCE => Some(Status::Stalled),
            () => None,
        };
        if end.is_some() {
            solved.clone_from(&readings.iter().collect());
        }
        active.write(&solved, &mut phi, &mut gamma);
        if let Some(status) = end {
            return Ok(Solved { phi, gamma, iterations, status });
        }
        if !solved.is_empty() {
            active.keep(&rest);
        }
        if rest.iter().any(|r| r.drift > DRIFT) {
            active.absorb(logits);
        }
    }
}

/// The state of one problem, read back to the host.
struct Reading {
    /// Place in the active set.
    place: i64,
    /// L1 error of the row marginals; those of the columns are exact.
    error: f64,
    /// Largest |ln| of a scaling since the last absorption.
    drift: f64,
}

/// The problems still being solved, of A.
struct Active {
    /// `[A]`: their places in the batch.
    index: Tensor,
    /// `[A, S]` and `[A, M]`.
    a: Tensor,
    b: Tensor,
    /// Absorbed potentials over epsilon.
    phi: Tensor,
    gamma: Tensor,
    /// `[A, S, M]`.
    kernel: Tensor,
    /// The scaling of the columns times their masses, `[A, M]`.
    v: Tensor,
    /// Inverse scalings of the last row and column update, `[A, S]` and `[A, M]`.
    row_den: Tensor,
    col_den: Tensor,
    /// `K v` with the newest v, `[A, S]`: the denominator of the next row update.
    rows: Tensor,
    /// Floor of a denominator: cells without mass have 0 / 0.
    tiny: f64,
}

impl Active {
    fn new(logits: &Tensor, a: &Tensor, b: &Tensor) -> Self {
        let gone = b.zeros_like().masked_fill_(&b.eq(0.0), GONE);
        let phi = (logits + gone.unsqueeze(-2)).amax([-1i64].as_slice(), false).neg().masked_fill_(&a.eq(0.0), GONE);
        let gamma = (logits + phi.unsqueeze(-1)).amax([-2i64].as_slice(), false).neg().masked_fill_(&b.eq(0.0), GONE);
        let kernel = kernel(logits, &phi, &gamma);
        let mut active = Self {
            index: Tensor::arange(a.size()[0], (Kind::Int64, a.device())),
            a: a.shallow_clone(),
            b: b.shallow_clone(),
            phi,
            gamma,
            kernel,
            v: b.shallow_clone(),
            row_den: a.ones_like(),
            col_den: b.ones_like(),
            rows: a.ones_like(),
            tiny: if a.kind() == Kind::Double { 1e-300 } else { 1e-37 },
        };
        active.rows = active.kernel_rows();
        active
    }

    fn kernel_rows(&self) -> Tensor {
        // A row vector from the left: several times the speed of K times a column vector on the CPU.
        self.v.unsqueeze(1).bmm(&self.kernel.transpose(1, 2)).squeeze_dim(1)
    }

    fn step(&mut self) {
        self.row_den = self.rows.clamp_min(self.tiny);
        let u = &self.a / &self.row_den;
        self.col_den = u.unsqueeze(1).bmm(&self.kernel).squeeze_dim(1).clamp_min(self.tiny);
        self.v = &self.b / &self.col_den;
        self.rows = self.kernel_rows();
    }

    fn read(&self) -> Result<Vec<Reading>> {
        let error = sum_last(&(&self.a * (&self.rows / &self.row_den - 1.0)).abs());
        let drift = |den: &Tensor, mass: &Tensor| {
            den.log().abs().masked_fill_(&mass.eq(0.0), 0.0).amax([-1i64].as_slice(), false)
        };
        let drift = drift(&self.row_den, &self.a).maximum(&drift(&self.col_den, &self.b));
        let count = error.size()[0];
        let read = Vec::<f64>::try_from(Tensor::cat(&[error, drift], 0).to_kind(Kind::Double))?;
        if read.iter().any(|x| !x.is_finite()) {
            return Err(AlignError::Values {
                what: "cost",
                expected: "finite wherever both masses are above 0",
                found: "NaN or infinity".to_owned(),
            });
        }
        let (errors, drifts) = read.split_at(count as usize);
        let pairs = errors.iter().zip(drifts);
        Ok((0..count).zip(pairs).map(|(place, (&error, &drift))| Reading { place, error, drift }).collect())
    }

    fn potentials(&self) -> (Tensor, Tensor) {
        let phi = (&self.phi - self.row_den.log()).masked_fill_(&self.a.eq(0.0), GONE);
        let gamma = (&self.gamma - self.col_den.log()).masked_fill_(&self.b.eq(0.0), GONE);
        (phi, gamma)
    }

    /// Puts the potentials of `problems` into their places of the batch.
    fn write(&self, problems: &[&Reading], phi: &mut Tensor, gamma: &mut Tensor) {
        if problems.is_empty() {
            return;
        }
        let places = self.places(problems);
        let index = self.index.index_select(0, &places);
        let (now_phi, now_gamma) = self.potentials();
        let _ = phi.index_copy_(0, &index, &now_phi.index_select(0, &places));
        let _ = gamma.index_copy_(0, &index, &now_gamma.index_select(0, &places));
    }

    /// Drops every problem but `problems`.
    fn keep(&mut self, problems: &[&Reading]) {
        let places = self.places(problems);
        for t in [
            &mut self.index, &mut self.a, &mut self.b, &mut self.phi, &mut self.gamma, &mut self.kernel, &mut self.v,
            &mut self.row_den, &mut self.col_den, &mut self.rows,
        ] {
            *t = t.index_select(0, &places);
        }
    }

    /// Moves the scalings into the potentials and builds the kernel anew.
    fn absorb(&mut self, logits: &Tensor) {
        (self.phi, self.gamma) = self.potentials();
        self.kernel = kernel(&logits.index_select(0, &self.index), &self.phi, &self.gamma);
        self.v = self.b.shallow_clone();
        self.rows = self.kernel_rows();
    }

    fn places(&self, problems: &[&Reading]) -> Tensor {
        let places: Vec<i64> = problems.iter().map(|r| r.place).collect();
        Tensor::from_slice(&places).to_device(self.index.device())
    }
}

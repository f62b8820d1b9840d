//! The loop around the passes: when to stop.

use super::accelerate::{Acceleration, Accelerator};
use super::sweep::Engine;
use crate::coupling::Status;

/// When the loop ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) tolerance: f64,
    pub(crate) max_iterations: usize,
    /// Largest magnitude of a cost over epsilon, to the base 2.
    pub(crate) largest_exponent: f64,
    /// Whether a constant added to g changes no plan.
    pub(crate) free: bool,
}

/// Iterations without a new lowest error before rounding is suspected.
const PATIENCE: usize = 50;

/// Watches for an error that rounding keeps from falling.
pub(crate) struct Stall {
    lowest: f64,
    since: usize,
    /// What errors are compared with: the mass.
    mass: f64,
}

impl Stall {
    pub(crate) fn new(mass: f64) -> Self {
        Self { lowest: f64::INFINITY, since: 0, mass }
    }

    /// Whether this error is the best that rounding allows.
    pub(crate) fn seen(&mut self, error: f64, engine: &mut dyn Engine, limits: &Limits) -> bool {
        if error < self.lowest {
            (self.lowest, self.since) = (error, 0);
            return false;
        }
        self.since += 1;
        // The error can also rest for many passes while the potentials still move; then it is above this.
        self.since >= PATIENCE && error <= 8.0 * self.mass * engine.rounding(limits.largest_exponent)
    }
}

/// Iterates to one of the endings: the updates made, and the status should the finished plan miss the tolerance.
///
/// `weights` are the target masses.
pub(crate) fn iterate(
    engine: &mut dyn Engine,
    limits: &Limits,
    acceleration: Acceleration,
    weights: &[f64],
) -> (usize, Status) {
    let mut stall = Stall::new(weights.iter().sum());
    let mut accelerator = Accelerator::new(acceleration, weights, limits);
    for iteration in 1..=limits.max_iterations {
        let relaxation = accelerator.relaxation();
        engine.pass(relaxation);
        let plain = relaxation == 1.0;
        let error = engine.column_error() + if plain { 0.0 } else { engine.row_error() };
        if error <= limits.tolerance {
            if plain {
                // This pass found the potentials of the one before to be the answer.
                return ((iteration - 1).max(1), Status::Stalled);
            }
            accelerator.settle();
        }
        if stall.seen(error, engine, limits) {
            return (iteration, Status::Stalled);
        }
        if iteration == limits.max_iterations {
            engine.accept();
        } else {
            accelerator.step(engine, error);
        }
    }
    (limits.max_iterations, Status::IterationLimit)
}

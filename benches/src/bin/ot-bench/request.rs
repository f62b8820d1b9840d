//! What is asked for in one line.

use serde_json::Value;
use tavq_ot::{Acceleration, Form, Precision, Sinkhorn};

use crate::Outcome;

/// One problem, one solver, one measurement.
pub(crate) struct Request {
    pub(crate) input: String,
    pub(crate) solver: String,
    pub(crate) epsilon: f64,
    /// Make exactly this many.
    pub(crate) iterations: Option<usize>,
    pub(crate) tolerance: f64,
    /// Repeat for this long, at least once and at most `repeats` times.
    pub(crate) seconds: f64,
    pub(crate) repeats: usize,
}

impl Request {
    pub(crate) fn parse(line: &str) -> Outcome<Self> {
        let value: Value = serde_json::from_str(line)?;
        let word = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str, default: f64| value[key].as_f64().unwrap_or(default);
        Ok(Self {
            input: word("input"),
            solver: word("solver"),
            epsilon: number("epsilon", 0.05),
            iterations: value["iterations"].as_u64().map(|count| count as usize),
            tolerance: number("tolerance", 1e-6),
            seconds: number("seconds", 0.0),
            repeats: value["repeats"].as_u64().unwrap_or(1).max(1) as usize,
        })
    }

    /// The entropic solver of a name such as `log+f32+anderson`: parts in any order, each with a default.
    pub(crate) fn sinkhorn(&self, name: &str) -> Outcome<Sinkhorn> {
        let mut solver = Sinkhorn::new(self.epsilon)?.tolerance(self.tolerance)?.max_iterations(100_000)?;
        if let Some(iterations) = self.iterations {
            solver = solver.tolerance(0.0)?.max_iterations(iterations)?;
        }
        for part in name.split('+') {
            solver = match part {
                "log" => solver.form(Form::Log),
                "scaling" => solver.form(Form::Scaling),
                "f64" => solver.precision(Precision::Double),
                "f32" => solver.precision(Precision::Single),
                "auto" => solver.acceleration(Acceleration::Auto),
                "none" => solver.acceleration(Acceleration::None),
                "relaxed" => solver.acceleration(Acceleration::OverRelaxation),
                "anderson" => solver.acceleration(Acceleration::Anderson),
                _ => return Err(format!("no part of a solver is called {part}").into()),
            };
        }
        Ok(solver)
    }
}

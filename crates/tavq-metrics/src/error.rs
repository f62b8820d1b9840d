//! What can go wrong in a measurement.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum MetricError {
    /// A tensor has another shape than the contract says.
    #[error(transparent)]
    Shape(#[from] tavq_torch::ShapeError),
    /// A value breaks the contract.
    #[error("{what}: expected {expected}, found {found}")]
    Values {
        /// The argument's name in the contract.
        what: &'static str,
        /// The allowed values.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

//! What can go wrong in the alignment.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum AlignError {
    /// A tensor has another shape than the contract says.
    #[error(transparent)]
    Shape(#[from] tavq_torch::ShapeError),
    /// A configuration value is out of its range.
    #[error("{field}: expected {expected}, found {found}")]
    Config {
        /// Path of the field.
        field: String,
        /// The allowed values.
        expected: String,
        /// The value given.
        found: String,
    },
    /// The values of a tensor break the contract.
    #[error("{what}: expected {expected}, found {found}")]
    Values {
        /// The tensor's name in the contract.
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

//! What can go wrong in a quantizer or backbone.

/// Errors of the seams in this crate, which backbones share.
#[derive(Debug, thiserror::Error)]
pub enum QuantError {
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
    /// Code indices outside the codebook.
    #[error("{what}: expected int64 indices in 0..{codes}, found {found}")]
    Index {
        /// The tensor's name in the contract.
        what: String,
        /// Number of codes K.
        codes: i64,
        /// What was found.
        found: String,
    },
    /// Batch statistics that no `collect` of the same quantizer made.
    #[error("statistics: expected {expected} tensors, found {found}")]
    Statistics {
        /// Number of tensors that `collect` gives.
        expected: usize,
        /// Number of tensors given.
        found: usize,
    },
    /// A backbone that did not hand each of its levels to the quantizer once and in order.
    #[error("backbone: expected {expected}, found {found}")]
    Levels {
        /// What was due.
        expected: String,
        /// What came.
        found: String,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

impl QuantError {
    /// A configuration value out of its range.
    pub fn config(field: &str, expected: &str, found: impl std::fmt::Display) -> Self {
        Self::Config { field: field.to_owned(), expected: expected.to_owned(), found: found.to_string() }
    }
}

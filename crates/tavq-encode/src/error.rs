//! What can go wrong while encoding text.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A tensor has another shape than the contract says.
    #[error(transparent)]
    Shape(#[from] tavq_torch::ShapeError),
    /// A named-tensor file could not be used.
    #[error(transparent)]
    File(#[from] tavq_torch::FileError),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

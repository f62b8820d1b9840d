//! What can go wrong while setting up or running a training.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A configuration key or value was refused.
    #[error("{origin}: {path}: {message}")]
    Config {
        /// The file, `--set`, or `defaults`.
        origin: String,
        /// Dotted path of the key.
        path: String,
        /// What was expected and found.
        message: String,
    },
    /// A name that the registry does not know.
    #[error("{field} = \"{found}\": expected one of {known}")]
    Unknown {
        /// Path of the key.
        field: String,
        /// The name given.
        found: String,
        /// The names there are.
        known: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A checkpoint could not be used.
    #[error("{path}: {message}")]
    Checkpoint {
        /// The checkpoint or one of its files.
        path: PathBuf,
        /// What was expected and found.
        message: String,
    },
    /// The loss or its gradient is no longer a number; the step was not taken.
    #[error(
        "step {step}: the {what} is {found}; the last checkpoint is kept (a lower optimizer.learning_rate or optimizer.clip_norm may help)"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// The loss or the gradient norm.
        what: &'static str,
        /// Its value.
        found: f64,
    },
    /// Training was stopped by a signal; the state was saved first.
    #[error("stopped by a signal after step {step}; go on with --resume auto")]
    Interrupted {
        /// Steps done.
        step: u64,
    },
    /// Data.
    #[error(transparent)]
    Data(#[from] tavq_data::DataError),
    /// Quantizer or backbone.
    #[error(transparent)]
    Quant(#[from] tavq_quant::QuantError),
    /// Text encoder or index.
    #[error(transparent)]
    Encode(#[from] tavq_encode::EncodeError),
    /// Alignment.
    #[error(transparent)]
    Align(#[from] tavq_align::AlignError),
    /// Metrics.
    #[error(transparent)]
    Metric(#[from] tavq_metrics::MetricError),
    /// A named-tensor file.
    #[error(transparent)]
    File(#[from] tavq_torch::FileError),
    /// A tensor of the wrong shape.
    #[error(transparent)]
    Shape(#[from] tavq_torch::ShapeError),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// A picture could not be written.
    #[error("{path}: {source}")]
    Picture {
        /// The file.
        path: PathBuf,
        /// Why.
        source: image::ImageError,
    },
}

impl TrainError {
    /// Whether the caller's input is at fault (exit code 2) rather than the work (exit code 1).
    pub fn is_input(&self) -> bool {
        use std::io::ErrorKind::*;
        match self {
            // A path that the caller named may be wrong; a full disk or a broken one is not in his hands.
            Self::Io { source, .. } => {
                matches!(
                    source.kind(),
                    NotFound
                        | AlreadyExists
                        | NotADirectory
                        | IsADirectory
                        | PermissionDenied
                        | ReadOnlyFilesystem
                        | InvalidData
                        | InvalidInput
                )
            }
            Self::Diverged { .. } | Self::Interrupted { .. } | Self::Torch(_) | Self::Picture { .. } => false,
            _ => true,
        }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, TrainError>;

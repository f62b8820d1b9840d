//! What can go wrong while encoding text.

use std::io;
use std::path::PathBuf;

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
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A model file says something that this crate cannot run.
    #[error("{path}: {field}: expected {expected}, found {found}")]
    Model {
        /// The file.
        path: PathBuf,
        /// The field in it.
        field: String,
        /// What would do.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The tokenizer failed on a text.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A text tree breaks the laws of its splitter.
    #[error("text tree: {what}: expected {expected}, found {found}")]
    Tree {
        /// The unit.
        what: String,
        /// What the laws ask for.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A file of the text index is damaged or of another version.
    #[error("{path}: damaged text index: expected {expected}, found {found}")]
    Index {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An argument is out of range.
    #[error("{what}: expected {expected}, found {found}")]
    Argument {
        /// The argument.
        what: &'static str,
        /// Its range.
        expected: String,
        /// Its value.
        found: String,
    },
}

impl EncodeError {
    pub(crate) fn io(path: &std::path::Path, source: io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), source }
    }
}

//! What can be wrong with data. Every variant names the file, and the line where there is one.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a bad row does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// Ends the work with an error.
    #[default]
    Fail,
    /// Is left out and counted.
    Skip,
}

/// Bad data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of a manifest.
    #[error("{manifest}:{line}: {problem}")]
    Line {
        /// The manifest.
        manifest: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong.
        problem: LineProblem,
    },
    /// The image that a line names.
    #[error("{manifest}:{line}: {image}: {problem}")]
    RowImage {
        /// The manifest.
        manifest: PathBuf,
        /// From 1.
        line: u64,
        /// The image.
        image: PathBuf,
        /// What is wrong.
        problem: ImageProblem,
    },
    /// An image that no manifest names.
    #[error("{image}: {problem}")]
    Image {
        /// The image.
        image: PathBuf,
        /// What is wrong.
        problem: ImageProblem,
    },
    /// A manifest without usable rows.
    #[error("{manifest}: expected at least one usable row, found none ({skipped} skipped{})", first.as_ref().map(|f| format!(", the first because: {f}")).unwrap_or_default())]
    Empty {
        /// The manifest.
        manifest: PathBuf,
        /// Rows skipped.
        skipped: u64,
        /// Why the first one was.
        first: Option<String>,
    },
    /// A split that no row has.
    #[error("{manifest}: expected one of the splits {known}, found \"{wanted}\"")]
    Split {
        /// The manifest.
        manifest: PathBuf,
        /// The split asked for.
        wanted: String,
        /// The splits there are.
        known: String,
    },
    /// An option out of its range.
    #[error("{field}: expected {expected}, found {found}")]
    Config {
        /// Name of the option.
        field: &'static str,
        /// The allowed values.
        expected: &'static str,
        /// The value given.
        found: String,
    },
    /// A cursor that does not fit the stream.
    #[error("cursor: expected a position below {len}, found {position}; the data set is not the one it was saved on")]
    Cursor {
        /// Samples of an epoch.
        len: u64,
        /// The position asked for.
        position: u64,
    },
    /// An epoch holds fewer samples than a batch.
    #[error("batch_size: expected at most the {samples} samples of an epoch, found {batch_size}")]
    SmallEpoch {
        /// Samples that an epoch gave.
        samples: usize,
        /// Samples of a batch.
        batch_size: usize,
    },
    /// The background thread ended without a word.
    #[error("the loader's thread panicked")]
    Thread,
}

/// What is wrong with a line of a manifest.
#[derive(Debug, thiserror::Error)]
pub enum LineProblem {
    /// Too long to be read.
    #[error("expected at most {limit} bytes, found more")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
    },
    /// Not UTF-8.
    #[error("expected UTF-8, found an invalid byte at column {column}")]
    NotUtf8 {
        /// From 1.
        column: usize,
    },
    /// Not an object with the fields of a row.
    #[error("expected a JSON object with the strings \"image\", \"text\" and \"key\", found {found}")]
    NotRow {
        /// What the parser said.
        found: String,
    },
    /// A field without content.
    #[error("\"{field}\": expected a text, found an empty one")]
    EmptyField {
        /// Name of the field.
        field: &'static str,
    },
    /// A text over the limit.
    #[error("\"text\": expected at most {limit} bytes, found {found}")]
    LongText {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// A path that leaves the manifest's folder.
    #[error("\"image\": expected a path below the manifest's folder, found {found}")]
    Outside {
        /// The path.
        found: String,
    },
    /// A key that stood before.
    #[error("\"key\": expected a new key, found \"{key}\" of line {first} again")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Its first line.
        first: u64,
    },
}

/// What is wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageProblem {
    /// Could not be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Zero bytes.
    #[error("expected an image, found an empty file")]
    Empty,
    /// Larger than allowed, by its own header.
    #[error("expected at most {limit} pixels, found {width} x {height}")]
    TooLarge {
        /// Pixels allowed.
        limit: u64,
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// The file ends before the image does.
    #[error("expected a whole image, found one cut short")]
    Truncated,
    /// Not a PNG, JPEG or WebP image.
    #[error("expected a PNG, JPEG or WebP image, found {0}")]
    Undecodable(String),
}

//! Why a file was refused.

use std::io;
use std::path::PathBuf;

/// A file that was refused, or could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct PickleError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The system refused to read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Neither of PyTorch's two formats.
    #[error("expected a file of torch.save (a zip archive with data.pkl, or the format before PyTorch 1.6), found {0}")]
    Format(String),
    /// A name that stands for code. Its parts are printed with every unusual character escaped.
    #[error("expected tensors and plain containers only, found the global {0}; nothing was executed")]
    Global(String),
    /// The file ends inside an object.
    #[error("cut short: expected {expected} at offset {at} of {part}, found the end")]
    Cut {
        /// What should be there.
        expected: &'static str,
        /// Offset in the part.
        at: u64,
        /// `data.pkl`, or the file itself.
        part: &'static str,
    },
    /// An instruction that has no place in such a file, or stands where it makes no sense.
    #[error("offset {at} of {part}: expected {expected}, found {found}")]
    Instruction {
        /// Offset behind the instruction.
        at: u64,
        /// `data.pkl`, or the file itself.
        part: &'static str,
        /// What would have been right.
        expected: &'static str,
        /// What was there.
        found: String,
    },
    /// More of something than is read.
    #[error("expected at most {most} {what}, found more")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: u64,
    },
    /// A tensor that its storage cannot hold.
    #[error("storage {storage}: expected {expected}, found {found}")]
    Storage {
        /// The storage's name in the file.
        storage: String,
        /// What would have been right.
        expected: String,
        /// What was there.
        found: String,
    },
    /// Something is not where it was looked for.
    #[error("{place}: expected {expected}, found {found}")]
    Content {
        /// The place, keys joined by dots.
        place: String,
        /// What was looked for.
        expected: String,
        /// What was there.
        found: String,
    },
}

/// Result of the parts that do not know the file's name.
pub(crate) type Result<T> = std::result::Result<T, Problem>;

/// Text of a file as it may be shown: short, and without characters that could play tricks on a terminal.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let mut out: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().count() > MOST {
        out.push_str("...");
    }
    out
}

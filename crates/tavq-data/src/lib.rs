//! Samples of an image and its long text: manifests, decoding, augmentation, a seeded shuffle, a cursor that resumes.

mod sample;

pub use sample::{Cursor, DataError, Sample};

/// A stream of samples that can be resumed at any of them. The end of an epoch is not the end of the
/// stream; `None` means that there will never be another sample.
pub trait Source: Send {
    /// The next sample and the cursor that resumes *after* it.
    fn pull(&mut self) -> Result<Option<(Sample, Cursor)>, DataError>;
    /// Goes on from `to`.
    fn seek(&mut self, to: &Cursor) -> Result<(), DataError>;
}

//! Samples of an image and its long text: manifests, decoding, augmentation, a seeded shuffle, a cursor that resumes.
//!
//! A [`Source`] gives samples one by one, each with the cursor that goes on after it; a [`Loader`] turns a
//! source into batches on a background thread. The cursor travels with the batch, so that what was
//! prefetched but not yet used is never lost or repeated on a resume.

mod error;
mod image_file;
pub mod laws;
mod loader;
mod manifest;
mod sample;
mod source;
mod transform;

pub use error::{DataError, ImageProblem, LineProblem, OnError};
pub use image_file::load_image;
pub use loader::{Batch, Loader, LoaderOptions};
pub use manifest::{Manifest, ManifestOptions, Row};
pub use sample::{Cursor, Sample};
pub use source::{ManifestSource, Order, SourceOptions};
pub use transform::{Crop, Transform};

/// A stream of samples that can be resumed at any of them. The end of an epoch is not the end of the
/// stream; `None` means that there will never be another sample.
pub trait Source: Send {
    /// The next sample and the cursor that resumes *after* it.
    fn pull(&mut self) -> Result<Option<(Sample, Cursor)>, DataError>;
    /// Goes on from `to`.
    fn seek(&mut self, to: &Cursor) -> Result<(), DataError>;
}

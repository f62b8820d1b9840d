//! One sample, and the place in the stream after it.

use ndarray::Array3;
use serde::{Deserialize, Serialize};

/// An image with its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Row of the manifest, from 0: the text's row in a text index of the same manifest.
    pub row: usize,
    /// The epoch it belongs to, from 0.
    pub epoch: u64,
    /// The manifest's key.
    pub key: String,
    /// The long text.
    pub text: String,
    /// `[3, H, W]` in [-1, 1] (x / 127.5 - 1).
    pub image: Array3<f32>,
}

/// Where a stream stands: enough to go on exactly there. After the last sample of an epoch it is the next epoch's beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Places of this epoch already passed, skipped samples included.
    pub position: u64,
    /// Samples skipped over so far (`on_error = "skip"`).
    pub skipped: u64,
}

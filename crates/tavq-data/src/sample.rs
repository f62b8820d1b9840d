//! One sample, the place in the stream after it, and what can go wrong.

use ndarray::Array3;
use serde::{Deserialize, Serialize};

/// An image with its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Row of the manifest, from 0: the text's row in a text index of the same manifest.
    pub row: usize,
    /// The manifest's key.
    pub key: String,
    /// The long text.
    pub text: String,
    /// [3, H, W] in [-1, 1] (x / 127.5 - 1).
    pub image: Array3<f32>,
}

/// Where a stream stands: enough to go on exactly there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Samples of this epoch already given.
    pub position: u64,
    /// Samples skipped over so far (`on_error = "skip"`).
    pub skipped: u64,
}

/// Bad data, with the file and line.
#[derive(Debug, thiserror::Error)]
pub enum DataError {}

//! The text side of a step: unit vectors of the batch's rows, out of the index.

use tavq_align::TextBatch;
use tavq_encode::{Granularity, TextIndex};
use tch::Device;

use crate::Result;

/// A text index with the limits of a run.
pub struct TextSide {
    index: TextIndex,
    max_units: [usize; 3],
}

impl TextSide {
    /// Wraps an index; `max_units` of words, phrases and sentences take part in a step.
    pub fn new(index: TextIndex, max_units: [usize; 3]) -> Self {
        Self { index, max_units }
    }

    /// Width of the vectors.
    pub fn dim(&self) -> i64 {
        self.index.dim()
    }

    /// The units of `rows`, padded to the longest.
    pub fn batch(&self, rows: &[usize], granularity: Granularity, device: Device) -> Result<TextBatch> {
        let limit = self.max_units[granularity as usize];
        let units = self.index.batch(rows, granularity, limit)?;
        Ok(TextBatch {
            vectors: units.vectors.to_device(device),
            mask: units.mask.to_device(device),
            counts: units.counts.to_device(device),
        })
    }
}

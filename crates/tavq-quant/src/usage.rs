//! How a codebook is used, from a histogram of indices over any number of batches.
//!
//! Perplexity of one batch depends on the batch's size; an epoch's histogram does not
//! (bshall/VectorQuantizedVAE, issue 3), so only accumulated counts are reported.

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::codebook::check_between;
use crate::{QuantError, Result};

/// A histogram of code indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    counts: Vec<u64>,
}

/// What a histogram says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UsageReport {
    /// Number of codes K.
    pub codes: u64,
    /// Indices counted.
    pub vectors: u64,
    /// Codes that occurred.
    pub used: u64,
    /// Codes that did not.
    pub dead: u64,
    /// `used / codes`, 0 to 1.
    pub used_share: f64,
    /// Entropy of the shares in bits, 0 to log2 K.
    pub entropy_bits: f64,
    /// 2 to the entropy, 1 to K; 0 when nothing was counted.
    pub perplexity: f64,
}

impl Usage {
    /// An empty histogram of `codes` codes.
    pub fn new(codes: i64) -> Self {
        Self { counts: vec![0; usize::try_from(codes).unwrap_or(0)] }
    }

    /// A histogram from saved counts, one per code.
    pub fn from_counts(counts: Vec<u64>) -> Self {
        Self { counts }
    }

    /// Occurrences of each code.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Number of codes K.
    pub fn codes(&self) -> i64 {
        // A vector's length fits an i64.
        self.counts.len() as i64
    }

    /// Counts the indices of a tensor of any shape (int64, in `0..K`, all stages alike), without those that a training step
    /// left out (-1).
    pub fn add(&mut self, indices: &Tensor) -> Result<()> {
        // With every index moved on by one, what was left out has a place of its own.
        check_between("indices", indices, -1, self.codes())?;
        let counts = indices.f_add_scalar(1)?.f_reshape([-1])?.f_bincount::<Tensor>(None, self.codes() + 1)?;
        let counts: Vec<i64> = Vec::try_from(&counts.f_to_device(Device::Cpu)?)?;
        for (total, count) in self.counts.iter_mut().zip(counts.into_iter().skip(1)) {
            // Counts of occurrences are never negative.
            *total += count as u64;
        }
        Ok(())
    }

    /// Adds another histogram of as many codes, for example another process's.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.counts.len() != other.counts.len() {
            let expected = format!("{} codes", self.counts.len());
            return Err(QuantError::config("usage", &expected, other.counts.len()));
        }
        for (total, count) in self.counts.iter_mut().zip(&other.counts) {
            *total += count;
        }
        Ok(())
    }

    /// Codes and their occurrences, most first; codes of equal count in order.
    pub fn ranked(&self) -> Vec<(i64, u64)> {
        let mut ranked: Vec<(i64, u64)> = (0i64..).zip(self.counts.iter().copied()).collect();
        ranked.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        ranked
    }

    /// The codes that never occurred, in order.
    pub fn dead(&self) -> Vec<i64> {
        (0i64..).zip(&self.counts).filter(|(_, c)| **c == 0).map(|(k, _)| k).collect()
    }

    /// The figures.
    pub fn report(&self) -> UsageReport {
        let codes = self.counts.len() as u64;
        let vectors: u64 = self.counts.iter().sum();
        let used = self.counts.iter().filter(|c| **c > 0).count() as u64;
        let share = |count: u64| count as f64 / vectors as f64;
        let entropy_bits: f64 = self.counts.iter().filter(|c| **c > 0).map(|c| -share(*c) * share(*c).log2()).sum();
        // A sum of negative zeros stays a zero without a sign.
        let entropy_bits = entropy_bits.max(0.0);
        UsageReport {
            codes,
            vectors,
            used,
            dead: codes - used,
            used_share: if codes == 0 { 0.0 } else { used as f64 / codes as f64 },
            entropy_bits,
            perplexity: if vectors == 0 { 0.0 } else { entropy_bits.exp2() },
        }
    }
}

//! The pool of past vectors that the online clustered codebook draws its random anchors from.
//!
//! The authors' pool lies outside the state dict, fails when a batch has more vectors than it has free places but no more than it
//! has places, and offers its random start where no vector came yet. Here it is a buffer, whose changes leave and enter as sums.

use tch::{Kind, Tensor, nn};

use crate::Result;
use crate::candidates::{Candidates, TENSORS, winners};
use crate::codebook::Codebook;

/// Variables: `features` `[K, D]` and `filled` `[1]`, how many of them are vectors; the first ones.
#[derive(Debug)]
pub(crate) struct Pool {
    features: Tensor,
    filled: Tensor,
}

impl Pool {
    pub(crate) fn new(path: &nn::Path<'_>, places: i64, dim: i64) -> Self {
        Self { features: path.zeros_no_train("features", &[places, dim]), filled: path.zeros_no_train("filled", &[1]) }
    }

    fn places(&self) -> i64 {
        self.features.size()[0]
    }

    /// At most 2^24, which f32 counts exactly.
    fn filled(&self) -> Result<i64> {
        Ok(self.filled.f_double_value(&[0])? as i64)
    }

    /// What the vectors `[N, D]` of a batch put where, as a lottery of places: no two at one place.
    pub(crate) fn collect(&self, rows: &Tensor, book: &Codebook) -> Result<[Tensor; TENSORS]> {
        let on = (Kind::Int64, rows.device());
        let (places, filled) = (self.places(), self.filled()?);
        let count = rows.size()[0].min(places);
        if count == 0 {
            return Candidates::none(book);
        }
        let picked = Tensor::f_randperm(rows.size()[0], on)?.f_narrow(0, 0, count)?;
        let free = Tensor::f_arange_start(filled, places, on)?;
        let taken = Tensor::f_randperm(filled, on)?;
        let to = Tensor::f_cat(&[free, taken], 0)?.f_narrow(0, 0, count)?;
        Candidates::each(&rows.f_index_select(0, &picked)?, &to)?.enter(book)
    }

    /// Puts the winners in and gives an anchor for each code, `[K, D]`: the vector at its place, or while that is free one at a
    /// place that is not. While all are, `codes` themselves.
    pub(crate) fn apply(&mut self, weights: &Tensor, weighted: &Tensor, codes: &Tensor) -> Result<Tensor> {
        let features = winners(weights, weighted, &self.features)?;
        self.features.f_copy_(&features)?;
        let entered = weights.f_gt(0.0)?.f_nonzero()?;
        let filled = match entered.size()[0] {
            0 => self.filled()?,
            _ => self.filled()?.max(entered.f_max()?.f_int64_value(&[])? + 1),
        };
        let _ = self.filled.f_fill_(filled as f64)?;
        if filled == 0 {
            return Ok(codes.shallow_clone());
        }
        let places = Tensor::f_arange(self.places(), (Kind::Int64, codes.device()))?;
        Ok(features.f_index_select(0, &places.f_remainder(filled)?)?)
    }
}

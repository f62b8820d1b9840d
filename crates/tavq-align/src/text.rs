//! The texts of a batch, padded to one number of units.

use tavq_torch::check_shape;
use tch::{Device, Kind, Tensor};

use crate::{AlignError, Result, TargetMasses};

/// The units of one granularity of `T` texts, padded to `M` units. What stands in the padding is never read.
#[derive(Debug)]
pub struct TextBatch {
    /// `[T, M, Dt]`: the frozen text vectors.
    pub vectors: Tensor,
    /// `[T, M]`, any kind: non-zero = a unit, 0 = padding.
    pub mask: Tensor,
    /// `[T, M]`: how often each unit occurs, >= 0; read with [`TargetMasses::Counts`] only.
    pub counts: Tensor,
}

/// A text batch ready for the solver.
pub(crate) struct Targets {
    /// `[T, M, Dt]`, no gradient, 0 in the padding.
    pub(crate) vectors: Tensor,
    /// `[T, M]`: sums to 1 per text, or to 0 for a text without units.
    pub(crate) masses: Tensor,
    /// `[T]` bool: texts without units at this level.
    pub(crate) empty: Tensor,
}

impl TextBatch {
    /// A copy on `device`.
    pub fn to_device(&self, device: Device) -> Self {
        Self {
            vectors: self.vectors.to_device(device),
            mask: self.mask.to_device(device),
            counts: self.counts.to_device(device),
        }
    }

    /// Number of texts T (0 where `vectors` has no axes).
    pub fn texts(&self) -> i64 {
        self.vectors.size().first().copied().unwrap_or(0)
    }

    /// Texts `from..from + len`, as views.
    pub(crate) fn narrow(&self, from: i64, len: i64) -> Self {
        Self {
            vectors: self.vectors.narrow(0, from, len),
            mask: self.mask.narrow(0, from, len),
            counts: self.counts.narrow(0, from, len),
        }
    }

    pub(crate) fn check(&self, text_dim: i64) -> Result<()> {
        check_shape("text vectors", &self.vectors, &[-1, -1, text_dim])?;
        let (t, m, _) = self.vectors.size3()?;
        check_shape("text mask", &self.mask, &[t, m])?;
        check_shape("text counts", &self.counts, &[t, m])?;
        if t == 0 || m == 0 {
            return Err(AlignError::Values {
                what: "text vectors",
                expected: "at least one text and one unit slot",
                found: format!("{t} texts of {m} slots"),
            });
        }
        Ok(())
    }

    pub(crate) fn targets(&self, masses: TargetMasses, kind: Kind) -> Result<Targets> {
        let padding = self.mask.eq(0.0);
        let vectors = self.vectors.detach().to_kind(kind).masked_fill(&padding.unsqueeze(-1), 0.0);
        let weights = match masses {
            TargetMasses::Uniform => padding.logical_not().to_kind(kind),
            TargetMasses::Counts => {
                let counts = self.counts.detach().to_kind(kind).masked_fill(&padding, 0.0);
                let valid = counts.ge(0.0).logical_and(&counts.isfinite()).all();
                if valid.int64_value(&[]) == 0 {
                    return Err(AlignError::Values {
                        what: "text counts",
                        expected: "finite and >= 0 for every unit",
                        found: "a negative count, infinity or NaN".to_owned(),
                    });
                }
                counts
            }
        };
        let total = weights.sum_dim_intlist([-1i64].as_slice(), true, None::<Kind>);
        let empty = total.squeeze_dim(-1).le(0.0);
        let masses = &weights / total.masked_fill(&empty.unsqueeze(-1), 1.0);
        Ok(Targets { vectors, masses, empty })
    }
}

//! What several tests need.

use tch::{Kind, Tensor};

/// Largest absolute difference of two tensors of one shape; infinite where one is not a number.
pub(crate) fn gap(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let gap = (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[]);
    if gap.is_nan() { f64::INFINITY } else { gap }
}

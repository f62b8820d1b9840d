//! One shape check, one error.

use std::fmt::Write as _;

use tch::Tensor;

/// A tensor whose shape breaks a contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: expected shape {expected}, found {found:?}")]
pub struct ShapeError {
    /// The tensor's name in the contract.
    pub what: String,
    /// The shape asked for, `?` where any size will do.
    pub expected: String,
    /// The shape found.
    pub found: Vec<i64>,
}

/// Checks the rank and sizes of a tensor; `-1` accepts any size.
pub fn check_shape(what: &str, tensor: &Tensor, expected: &[i64]) -> Result<(), ShapeError> {
    let found = tensor.size();
    let fits = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| *e < 0 || f == e);
    if fits {
        return Ok(());
    }
    let mut text = String::from("[");
    for (i, e) in expected.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = if *e < 0 { write!(text, "{comma}?") } else { write!(text, "{comma}{e}") };
    }
    text.push(']');
    Err(ShapeError { what: what.to_owned(), expected: text, found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn names_what_was_expected_and_found() {
        let t = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        assert!(check_shape("latent", &t, &[-1, 3]).is_ok());
        let e = check_shape("latent", &t, &[-1, 4]).unwrap_err();
        assert_eq!(e.to_string(), "latent: expected shape [?, 4], found [2, 3]");
        assert!(check_shape("latent", &t, &[2]).is_err());
    }
}

//! How a gradient passes the quantizer, where there is none: the choice of the nearest code has no derivative.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::Result;

/// What the encoder's latent receives from the gradient of the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gradient {
    /// That gradient as it is (Bengio et al. 2013).
    #[default]
    StraightThrough,
    /// That gradient turned and scaled by what turns and scales each latent vector into its code: angles between it and the
    /// code stay those between what the encoder receives and its vector (Fifty et al. 2024, "Restructuring vector quantization
    /// with the rotation trick").
    Rotation,
}

impl Gradient {
    /// The values of `codes`, bit for bit, with a path to `latent`; both `[B, D, h, w]`, f32.
    pub(crate) fn pass(self, latent: &Tensor, codes: &Tensor) -> Result<Tensor> {
        let codes = codes.detach();
        if !latent.requires_grad() {
            return Ok(codes);
        }
        let path = match self {
            Self::StraightThrough => latent.shallow_clone(),
            Self::Rotation => rotated(latent, &codes)?,
        };
        // The difference is an exact zero, so the sum does not round the codes.
        Ok(codes + (&path - path.detach()))
    }

    /// The same of codes that no graph needs: `write` puts them into a tensor like the latent, which becomes the result.
    pub(crate) fn pass_written(self, latent: &Tensor, write: impl FnOnce(&Tensor) -> Result<()>) -> Result<Tensor> {
        let mut codes = latent.detach().f_empty_like()?;
        if self == Self::StraightThrough && latent.requires_grad() {
            // Hands its gradient on and keeps nothing for it, so its values may then change behind autograd's back.
            codes.f_copy_(latent)?;
            write(&codes.detach())?;
            return Ok(codes);
        }
        write(&codes)?;
        self.pass(latent, &codes)
    }
}

/// Norms below this count as it, as in the authors' code: a zero vector has no direction.
const LEAST_NORM: f64 = 1e-6;

/// `(e - 2 w (w.e) + 2 t (u.e)) |q| / |e|` for each vector e and its code q, with the directions u of e, t of q, w of u + t and
/// the ratio held constant: it has the value of q, and its gradient is a rotation times a scale.
fn rotated(latent: &Tensor, codes: &Tensor) -> Result<Tensor> {
    let norm = |x: &Tensor| -> Result<Tensor> {
        Ok(x.f_linalg_norm(2, [1i64].as_slice(), true, Kind::Float)?.f_clamp_min(LEAST_NORM)?)
    };
    let (u, t, w, ratio) = tch::no_grad(|| -> Result<_> {
        let fixed = latent.detach();
        let (from, to) = (norm(&fixed)?, norm(codes)?);
        let (u, t) = (fixed.f_div(&from)?, codes.f_div(&to)?);
        let sum = u.f_add(&t)?;
        let w = sum.f_div(&norm(&sum)?)?;
        Ok((u, t, w, to.f_div(&from)?))
    })?;
    let along = |direction: &Tensor| -> Result<Tensor> {
        Ok(latent.f_mul(direction)?.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?)
    };
    let turned = latent.f_sub(&w.f_mul(&along(&w)?)?.f_mul_scalar(2.0)?)?;
    let turned = turned.f_add(&t.f_mul(&along(&u)?)?.f_mul_scalar(2.0)?)?;
    Ok(turned.f_mul(&ratio)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tavq_torch::TensorFile;

    use super::*;

    fn golden(name: &str) -> Tensor {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/lucidrains.safetensors");
        // One vector a row there, one a cell here.
        TensorFile::open(&path).unwrap().get(&format!("rotation.{name}")).unwrap().view([64, 7, 1, 1])
    }

    fn gradient(how: Gradient, latent: &Tensor) -> (Tensor, Tensor) {
        let z = latent.copy().set_requires_grad(true);
        let out = how.pass(&z, &golden("codes")).unwrap();
        (&out * golden("direction")).sum(Kind::Float).backward();
        (out.detach(), z.grad())
    }

    #[test]
    fn a_rotation_agrees_with_vector_quantize_pytorch() {
        let (value, grad) = gradient(Gradient::Rotation, &golden("src"));
        assert_eq!(value, golden("codes"));
        let gap = (grad - golden("grad")).abs().max().double_value(&[]);
        assert!(gap < 1e-5, "{gap:e}");
    }

    #[test]
    fn straight_through_is_the_gradient_itself() {
        let (value, grad) = gradient(Gradient::StraightThrough, &golden("src"));
        assert_eq!((value, grad), (golden("codes"), golden("direction")));
    }

    #[test]
    fn vectors_without_a_direction_have_finite_gradients() {
        for latent in [Tensor::zeros_like(&golden("src")), -golden("codes")] {
            let (value, grad) = gradient(Gradient::Rotation, &latent);
            assert_eq!(value, golden("codes"));
            assert_eq!(grad.isfinite().all().int64_value(&[]), 1);
        }
    }
}

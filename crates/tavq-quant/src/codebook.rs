//! The table of codes that the standard quantizers share: its variable, assignment, look-up, and the
//! terms of the loss.

use serde::{Deserialize, Serialize};
use tavq_torch::check_shape;
use tch::{Device, Kind, Reduction, Tensor, nn};

use crate::candidates::normalised;
use crate::estimator::Gradient;
use crate::nearest::{Distance, nearest, tile_budget};
use crate::{QuantError, Result};

/// Which term of the loss carries beta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The commitment term, as in the VQ-VAE paper (van den Oord et al. 2017, equation 3).
    #[default]
    Standard,
    /// The codebook term, as in every published taming-transformers result (`legacy=True`).
    Legacy,
}

/// K codes of width D in the variable `embedding.weight`.
#[derive(Debug)]
pub(crate) struct Codebook {
    weight: Tensor,
    distance: Distance,
    /// Whether vectors and codes have length 1 wherever they meet.
    unit: bool,
}

/// A latent with its nearest codes.
pub(crate) struct Assigned {
    /// `[B, D, h, w]`, f32, of length 1 where the codes are.
    pub(crate) latent: Tensor,
    /// `[B, h, w]`.
    pub(crate) indices: Tensor,
    /// `[B, D, h, w]`: the codes, differentiable in the codebook.
    pub(crate) codes: Tensor,
}

impl Codebook {
    pub(crate) fn new(path: &nn::Path<'_>, codes: i64, dim: i64, distance: Distance, trainable: bool) -> Result<Self> {
        let bound = 1.0 / codes as f64;
        let start = Tensor::f_empty([codes, dim], (Kind::Float, path.device()))?.f_uniform_(-bound, bound)?;
        let weight = path.sub("embedding").add("weight", start, trainable);
        Ok(Self { weight, distance, unit: false })
    }

    /// With vectors and codes of length 1, which makes both distances order alike.
    pub(crate) fn normalised(mut self, unit: bool) -> Result<Self> {
        if unit {
            (self.unit, self.distance) = (true, Distance::Cosine);
            let codes = normalised(&self.weight.detach())?;
            self.set(&codes)?;
        }
        Ok(self)
    }

    /// The variable.
    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    pub(crate) fn codes(&self) -> i64 {
        self.weight.size()[0]
    }

    pub(crate) fn dim(&self) -> i64 {
        self.weight.size()[1]
    }

    pub(crate) fn distance(&self) -> Distance {
        self.distance
    }

    /// Overwrites the codes, behind autograd's back.
    pub(crate) fn set(&mut self, codes: &Tensor) -> Result<()> {
        tch::no_grad(|| Ok(self.weight.f_copy_(&self.scaled(codes)?)?))
    }

    /// Vectors along dimension 1, of the length that this codebook compares.
    fn scaled(&self, vectors: &Tensor) -> Result<Tensor> {
        if self.unit { normalised(vectors) } else { Ok(vectors.shallow_clone()) }
    }

    /// A latent `[B, D, h, w]` as this codebook compares it, one vector a row, `[B h w, D]`, f32, cut from the graph.
    pub(crate) fn rows(&self, latent: &Tensor) -> Result<Tensor> {
        check_shape("latent", latent, &[-1, self.dim(), -1, -1])?;
        self.scaled(&rows(&latent.detach().f_to_kind(Kind::Float)?)?)
    }

    /// Nearest codes of `[B, D, h, w]`.
    pub(crate) fn assign(&self, latent: &Tensor) -> Result<Assigned> {
        check_shape("latent", latent, &[-1, self.dim(), -1, -1])?;
        let latent = self.scaled(&latent.f_to_kind(Kind::Float)?)?;
        let size = latent.size();
        let found = nearest(&rows(&latent)?, &self.weight, self.distance, tile_budget(latent.device()))?;
        let indices = found.indices.f_view([size[0], size[2], size[3]])?;
        let codes = self.gather(&indices)?.f_permute([0, 3, 1, 2])?;
        Ok(Assigned { latent, indices, codes })
    }

    /// Codes of indices `[...]`, `[..., D]`.
    pub(crate) fn lookup(&self, indices: &Tensor) -> Result<Tensor> {
        check_indices("indices", indices, self.codes())?;
        self.gather(indices)
    }

    fn gather(&self, indices: &Tensor) -> Result<Tensor> {
        let codes = Tensor::f_embedding(&self.weight, indices, -1, false, false)?;
        if !self.unit {
            return Ok(codes);
        }
        let size = codes.size();
        Ok(normalised(&codes.f_reshape([-1, self.dim()])?)?.f_view(size.as_slice())?)
    }
}

impl Assigned {
    /// The codes' values, bit for bit, with a path of gradients to the latent, in the type of `like`.
    pub(crate) fn pass(&self, gradient: Gradient, like: &Tensor) -> Result<Tensor> {
        Ok(gradient.pass(&self.latent, &self.codes)?.f_to_kind(like.kind())?)
    }

    /// Commitment and codebook term, one of them with the weight `beta`.
    pub(crate) fn loss(&self, form: Form, beta: f64) -> Result<Tensor> {
        let (commitment, codebook) = (self.commitment()?, self.codebook_term()?);
        Ok(match form {
            Form::Standard => commitment * beta + codebook,
            Form::Legacy => commitment + codebook * beta,
        })
    }

    /// Mean squared distance that moves the encoder only.
    pub(crate) fn commitment(&self) -> Result<Tensor> {
        mean_square(&self.latent, &self.codes.detach())
    }

    /// Mean squared distance that moves the codes only.
    pub(crate) fn codebook_term(&self) -> Result<Tensor> {
        mean_square(&self.codes, &self.latent.detach())
    }
}

/// Mean squared difference; 0 of nothing.
pub(crate) fn mean_square(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let reduction = if a.numel() == 0 { Reduction::Sum } else { Reduction::Mean };
    Ok(a.f_mse_loss(b, reduction)?)
}

/// `[B, D, h, w]` as one vector a row, `[B h w, D]`; free of a copy where the memory format is channels-last.
pub(crate) fn rows(latent: &Tensor) -> Result<Tensor> {
    let dim = latent.size()[1];
    Ok(latent.f_permute([0, 2, 3, 1])?.f_reshape([-1, dim])?)
}

/// Occurrences of each of `codes` indices, `[K]`, int64, after a check of their range.
pub(crate) fn histogram(indices: &Tensor, codes: i64) -> Result<Tensor> {
    check_indices("indices", indices, codes)?;
    Ok(indices.f_reshape([-1])?.f_bincount::<Tensor>(None, codes)?)
}

pub(crate) fn check_indices(what: &str, indices: &Tensor, codes: i64) -> Result<()> {
    check_between(what, indices, 0, codes)
}

/// Refuses indices outside `least..codes`.
pub(crate) fn check_between(what: &str, indices: &Tensor, least: i64, codes: i64) -> Result<()> {
    let bad = |found: String| QuantError::Index { what: what.to_owned(), codes, found };
    if indices.kind() != Kind::Int64 {
        return Err(bad(format!("{:?}", indices.kind())));
    }
    if indices.numel() == 0 {
        return Ok(());
    }
    // One transfer for both bounds.
    let (low, high) = indices.f_aminmax(None, false)?;
    let bounds = Tensor::f_stack(&[low, high], 0)?.f_to_device(Device::Cpu)?;
    let (low, high) = (bounds.f_int64_value(&[0])?, bounds.f_int64_value(&[1])?);
    if low < least || high >= codes {
        return Err(bad(format!("{low}..={high}")));
    }
    Ok(())
}

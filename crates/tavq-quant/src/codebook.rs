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

/// A latent with the indices of its nearest codes, which were not gathered.
pub(crate) struct Found {
    /// `[B, D, h, w]`, f32, of length 1 where the codes are.
    pub(crate) latent: Tensor,
    /// `[B, h, w]`.
    pub(crate) indices: Tensor,
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
    pub(crate) fn find(&self, latent: &Tensor) -> Result<Found> {
        check_shape("latent", latent, &[-1, self.dim(), -1, -1])?;
        let latent = self.scaled(&latent.f_to_kind(Kind::Float)?)?;
        let size = latent.size();
        let search = |part: Part| {
            let rows = part.rows(&latent.detach())?;
            Ok(nearest(&rows, &self.weight, self.distance, tile_budget(latent.device()))?.indices)
        };
        let indices = Part::of(&latent).map(search).collect::<Result<Vec<_>>>()?;
        let indices = match indices.as_slice() {
            [] => Tensor::f_zeros([0], (Kind::Int64, latent.device()))?,
            all => Tensor::f_cat(all, 0)?,
        };
        let indices = indices.f_view([size[0], size[2], size[3]])?;
        Ok(Found { latent, indices })
    }

    /// The same with the codes, for losses that move them.
    pub(crate) fn assign(&self, latent: &Tensor) -> Result<Assigned> {
        let Found { latent, indices } = self.find(latent)?;
        let codes = self.gather(&indices)?.f_permute([0, 3, 1, 2])?;
        Ok(Assigned { latent, indices, codes })
    }

    /// The codes of what was found, as values alone, with a path of gradients to its latent, and the mean squared distance
    /// that moves that latent. The codes are written where they stay, a part at a time, and the distance refers to them there,
    /// so the graph holds one copy of them.
    pub(crate) fn settle(&self, found: &Found, gradient: Gradient) -> Result<(Tensor, Tensor)> {
        let Found { latent, indices } = found;
        let write = |place: &Tensor| {
            tch::no_grad(|| -> Result<()> {
                Part::of(place).try_for_each(|part| part.write(place, &self.gather(&part.cells(indices)?)?))
            })
        };
        let passed = gradient.pass_written(latent, write)?;
        let commitment = mean_square(latent, &passed.detach())?;
        Ok((passed, commitment))
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
    // Twice a Huber loss that never turns linear: the scalar of libtorch's `mse_loss` keeps a block of memory of the size of its
    // inputs (its output is laid out for them before it is reduced).
    Ok(a.f_huber_loss(b, reduction, f64::from(f32::MAX))?.f_mul_scalar(2.0)?)
}

/// `[B, D, h, w]` as one vector a row, `[B h w, D]`; free of a copy where the memory format is channels-last.
pub(crate) fn rows(latent: &Tensor) -> Result<Tensor> {
    let dim = latent.size()[1];
    Ok(latent.f_permute([0, 2, 3, 1])?.f_reshape([-1, dim])?)
}

/// Lines of cells of a latent `[B, D, h, w]`: all of several images, or some of one. Work on one vector a row goes through the
/// latent by such parts, so that it is never copied as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    image: i64,
    images: i64,
    line: i64,
    lines: i64,
}

/// Vectors of a part for each thread of a CPU, if a line has no more: laying out the codes anew for each part then costs a
/// hundredth of searching them.
const PART: i64 = 4096;

impl Part {
    /// The parts in order; elsewhere than on a CPU a latent is one.
    pub(crate) fn of(latent: &Tensor) -> impl Iterator<Item = Self> + use<> {
        let size = latent.size();
        let (batch, height, width) = (size[0], size[2], size[3]);
        let most =
            if latent.device() == Device::Cpu { PART * i64::from(tch::get_num_threads().max(1)) } else { i64::MAX };
        let lines = (most / width.max(1)).clamp(1, height.max(1));
        let images = (most / (lines * width).max(1)).clamp(1, batch.max(1));
        (0..batch).step_by(images as usize).flat_map(move |image| {
            let images = images.min(batch - image);
            let part = move |line| Self { image, images, line, lines: lines.min(height - line) };
            (0..height).step_by(lines as usize).map(part)
        })
    }

    /// Its vectors where they lie, `[images, lines, w, D]`.
    pub(crate) fn vectors(self, latent: &Tensor) -> Result<Tensor> {
        let part = latent.f_narrow(0, self.image, self.images)?.f_narrow(2, self.line, self.lines)?;
        Ok(part.f_permute([0, 2, 3, 1])?)
    }

    /// Its vectors `[n, D]`.
    pub(crate) fn rows(self, latent: &Tensor) -> Result<Tensor> {
        Ok(self.vectors(latent)?.f_reshape([-1, latent.size()[1]])?)
    }

    /// Overwrites its vectors by `[images, lines, w, D]`.
    fn write(self, latent: &Tensor, vectors: &Tensor) -> Result<()> {
        self.vectors(latent)?.f_copy_(vectors)?;
        Ok(())
    }

    /// The same cells of a map `[B, h, w]`, `[images, lines, w]`.
    pub(crate) fn cells(self, map: &Tensor) -> Result<Tensor> {
        Ok(map.f_narrow(0, self.image, self.images)?.f_narrow(1, self.line, self.lines)?)
    }
}

/// Of cells of a latent `[B, D, h, w]`, counted in the order of its rows, the vectors, `[n, D]`.
pub(crate) fn vectors_at(latent: &Tensor, cells: &Tensor) -> Result<Tensor> {
    let flat = latent.f_flatten(2, -1)?;
    let each = flat.size()[2];
    let (image, cell) = (cells.f_floor_divide_scalar(each)?, cells.f_remainder(each)?);
    Ok(flat.f_index(&[Some(image), None, Some(cell)])?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_every_cell_once_and_in_order() {
        for size in [[3, 2, 2, 3], [1, 3, 100, 97], [2, 2, 70, 90], [300, 1, 5, 7], [0, 2, 4, 4], [2, 2, 0, 4]] {
            let count = size[0] * size[2] * size[3];
            let map = Tensor::arange(count, (Kind::Int64, Device::Cpu)).view([size[0], size[2], size[3]]);
            let latent = Tensor::arange(count * size[1], (Kind::Float, Device::Cpu)).view(size);
            let parts: Vec<Part> = Part::of(&latent).collect();
            let join = |parts: Vec<Tensor>, empty: &[i64]| {
                if parts.is_empty() { Tensor::zeros(empty, (Kind::Float, Device::Cpu)) } else { Tensor::cat(&parts, 0) }
            };
            let found = join(parts.iter().map(|p| p.rows(&latent).unwrap()).collect(), &[0, size[1]]);
            assert_eq!(found, rows(&latent).unwrap(), "{size:?}");
            let cells = join(parts.iter().map(|p| p.cells(&map).unwrap().reshape([-1])).collect(), &[0]);
            assert_eq!(cells.to_kind(Kind::Int64), map.view([-1]), "{size:?}");
            let most = PART * i64::from(tch::get_num_threads());
            assert!(parts.iter().all(|p| p.images * p.lines * size[3] <= most), "{size:?}");
            let (old, new) = (latent.permute([0, 1, 3, 2]).copy(), latent.zeros_like().permute([0, 1, 3, 2]));
            for part in Part::of(&old) {
                part.write(&new, &part.vectors(&old).unwrap()).unwrap();
            }
            assert_eq!(new, old, "{size:?}");
            let some = map.view([-1]).flip([0]);
            if count > 0 {
                assert_eq!(vectors_at(&latent, &some).unwrap(), rows(&latent).unwrap().flip([0]), "{size:?}");
            }
        }
    }
}

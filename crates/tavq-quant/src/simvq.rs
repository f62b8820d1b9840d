//! Frozen codes behind a trained linear map (Zhu et al. 2024, "Addressing representation collapse in vector quantized
//! models with one linear layer"): every step of the map moves all codes, so none is left behind.

use serde::{Deserialize, Serialize};
use tavq_torch::check_shape;
use tch::{Kind, Tensor, nn};

use crate::codebook::{Assigned, Form, check_indices, rows};
use crate::config::{check_codes, check_range};
use crate::estimator::Gradient;
use crate::nearest::{Distance, nearest, tile_budget};
use crate::{Quantized, Quantizer, Result};

/// `kind = "simvq"`: frozen codes behind a linear map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimVqConfig {
    /// Number of codes K.
    pub codes: i64,
    /// Weight of the term that `form` names; the other term has weight 1.
    pub beta: f64,
    /// Which term carries beta.
    pub form: Form,
    /// How the nearest projected code is found.
    pub distance: Distance,
    /// What the encoder receives from the gradient of the codes.
    pub gradient: Gradient,
}

impl Default for SimVqConfig {
    fn default() -> Self {
        Self {
            codes: 1024,
            beta: 0.25,
            form: Form::Standard,
            distance: Distance::SquaredL2,
            gradient: Gradient::StraightThrough,
        }
    }
}

impl SimVqConfig {
    /// Checks ranges.
    pub fn check(&self) -> Result<()> {
        check_codes(self.codes)?;
        check_range("beta", self.beta, 0.0, f64::MAX)
    }
}

/// Frozen codes behind a linear map. Variables, named as in the authors' code: `embedding.weight` `[K, D]` (normal with
/// deviation `D^-1/2`, not trainable), `embedding_proj.weight` `[D, D]` and `embedding_proj.bias` `[D]`.
#[derive(Debug)]
pub struct SimVq {
    codes: Tensor,
    map: nn::Linear,
    config: SimVqConfig,
}

impl SimVq {
    /// A codebook for vectors of width `dim`.
    pub fn new(path: &nn::Path<'_>, config: &SimVqConfig, dim: i64) -> Result<Self> {
        config.check()?;
        let start = Tensor::f_empty([config.codes, dim], (Kind::Float, path.device()))?;
        let start = start.f_normal_functional(0.0, (dim as f64).powf(-0.5))?;
        let codes = path.sub("embedding").add("weight", start, false);
        let map = nn::linear(path / "embedding_proj", dim, dim, nn::LinearConfig::default());
        Ok(Self { codes, map, config: config.clone() })
    }

    fn dim(&self) -> i64 {
        self.codes.size()[1]
    }

    /// Codes of indices `[...]` as the decoder sees them, `[..., D]`, differentiable in the map.
    fn projected(&self, indices: &Tensor) -> Result<Tensor> {
        let raw = Tensor::f_embedding(&self.codes, indices, -1, false, false)?;
        self.project(&raw)
    }

    fn project(&self, raw: &Tensor) -> Result<Tensor> {
        // Under autocast the product would be taken in half precision.
        tch::autocast(false, || Ok(raw.f_linear(&self.map.ws, self.map.bs.as_ref())?))
    }
}

impl Quantizer for SimVq {
    fn codes(&self) -> i64 {
        self.codes.size()[0]
    }

    fn quantize(&self, latent: &Tensor, _train: bool) -> Result<Quantized> {
        check_shape("latent", latent, &[-1, self.dim(), -1, -1])?;
        let z = latent.f_to_kind(Kind::Float)?;
        let size = z.size();
        // The whole table serves the search alone; gradients run through the chosen rows.
        let table = tch::no_grad(|| self.project(&self.codes))?;
        let found = nearest(&rows(&z)?, &table, self.config.distance, tile_budget(latent.device()))?;
        let indices = found.indices.f_view([size[0], size[2], size[3]])?;
        let codes = self.projected(&indices)?.f_permute([0, 3, 1, 2])?;
        let found = Assigned { latent: z, indices, codes };
        let loss = found.loss(self.config.form, self.config.beta)?;
        Ok(Quantized { latent: found.pass(self.config.gradient, latent)?, indices: found.indices, loss })
    }

    fn lookup(&self, indices: &Tensor) -> Result<Tensor> {
        check_indices("indices", indices, self.codes())?;
        self.projected(indices)
    }
}

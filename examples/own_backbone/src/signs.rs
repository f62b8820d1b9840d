//! A quantizer without a table: a code is the signs of its vector, its index their bits.

use tavq_quant::{QuantError, Quantized, Quantizer, Result};
use tch::{Kind, Reduction, Tensor, nn};

/// What `model.quantizer` may say beside `kind`.
#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Keys {
    /// Weight of the commitment term.
    beta: f64,
}

impl Default for Keys {
    fn default() -> Self {
        Self { beta: 0.25 }
    }
}

/// The powers of two below K, one a component of a vector.
pub(crate) struct Signs {
    powers: Tensor,
    beta: f64,
}

impl Signs {
    pub(crate) fn new(path: &nn::Path<'_>, keys: Keys, dim: i64) -> Result<Self> {
        if !(1..=24).contains(&dim) {
            return Err(QuantError::config("quantizer", "vectors of width 1 to 24", dim));
        }
        let powers: Vec<i64> = (0..dim).map(|bit| 1 << bit).collect();
        Ok(Self { powers: Tensor::from_slice(&powers).to_device(path.device()), beta: keys.beta })
    }
}

impl Quantizer for Signs {
    fn codes(&self) -> i64 {
        1 << self.powers.size()[0]
    }
    fn quantize(&self, latent: &Tensor, _train: bool) -> Result<Quantized> {
        let set = latent.ge(0.0);
        let codes = set.to_kind(latent.kind()) * 2.0 - 1.0;
        let indices = (set * self.powers.view([-1, 1, 1])).f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?;
        let loss = latent.f_mse_loss(&codes, Reduction::Mean)? * self.beta;
        // The codes' values with the latent's gradient, straight through.
        Ok(Quantized { latent: codes + (latent - latent.detach()), indices, loss })
    }
    fn lookup(&self, indices: &Tensor) -> Result<Tensor> {
        if bool::try_from(indices.lt(0).logical_or(&indices.ge(self.codes())).any())? {
            return Err(QuantError::Index { what: "indices".into(), codes: self.codes(), found: "others".into() });
        }
        Ok(indices.unsqueeze(-1).f_bitwise_and_tensor(&self.powers)?.ne(0).to_kind(Kind::Float) * 2.0 - 1.0)
    }
}

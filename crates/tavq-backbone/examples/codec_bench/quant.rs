//! One training step of the online clustered codebook, and one nearest-code search.

use serde_json::Value;
use tavq_quant::{Anchor, Cvq, CvqConfig, Distance, Nearest, Quantizer, nearest, tile_budget};
use tavq_torch::TensorFile;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::{Outcome, Setting, Tensors, Work, number};

/// The first `count` rows of the vectors of a file.
fn vectors(setting: &Setting, what: &str, count: i64, dim: i64) -> Outcome<Tensor> {
    let file = TensorFile::open(&setting.folder.join("vectors.safetensors"))?;
    let all = file.get(&format!("{what}.{dim}"))?;
    if all.size()[0] < count {
        // More than any peer is given.
        return Ok(Tensor::f_randn([count, dim], (Kind::Float, setting.device))?);
    }
    Ok(all.f_narrow(0, 0, count)?.f_to_device(setting.device)?.copy())
}

pub(crate) struct CvqStep {
    store: VarStore,
    cvq: Cvq,
    codes: Tensor,
    latent: Tensor,
    compared: bool,
    loss: Option<Tensor>,
}

impl CvqStep {
    pub(crate) fn new(setting: &Setting, work: &Value) -> Outcome<Self> {
        let (n, k, dim) = (number(work, "vectors")?, number(work, "codes")?, number(work, "dim")?);
        let anchor: Anchor = serde_json::from_value(work["anchor"].clone())?;
        let store = VarStore::new(setting.device);
        let config = CvqConfig { codes: k, anchor, ..CvqConfig::default() };
        let cvq = Cvq::new(&store.root(), &config, dim)?;
        // Maps of 16 x 16, channels first, as an encoder makes them.
        let latent = vectors(setting, "points", n, dim)?.f_view([-1, 16, 16, dim])?.f_permute([0, 3, 1, 2])?;
        let latent = latent.f_contiguous()?.set_requires_grad(true);
        let codes = vectors(setting, "codes", k, dim)?;
        Ok(Self { store, cvq, codes, latent, compared: anchor == Anchor::Closest, loss: None })
    }

    fn variable(&self, name: &str) -> Outcome<Tensor> {
        let variables = self.store.variables();
        Ok(variables.get(name).ok_or("the codebook lacks a variable")?.shallow_clone())
    }
}

impl Work for CvqStep {
    /// Back to the first step, in which every code is in need of an anchor: the slowest one.
    fn reset(&mut self) -> Outcome<()> {
        let (mut codes, mut used) = (self.variable("embedding.weight")?, self.variable("embed_prob")?);
        tch::no_grad(|| -> Outcome<()> {
            codes.f_copy_(&self.codes)?;
            let _ = used.f_zero_()?;
            Ok(())
        })?;
        self.latent.zero_grad();
        codes.zero_grad();
        Ok(())
    }

    fn run(&mut self) -> Outcome<()> {
        let quantized = self.cvq.quantize(&self.latent, true)?;
        quantized.loss.f_backward()?;
        let update = self.cvq.batch_update().ok_or("the codebook takes no statistics")?;
        let statistics = update.collect(&self.latent, &quantized)?;
        update.apply(&statistics, 0)?;
        self.loss = Some(quantized.loss.detach());
        Ok(())
    }

    fn result(&self) -> Outcome<Tensors> {
        let loss = self.loss.as_ref().ok_or("nothing was run")?.f_view([1])?;
        let mut out = vec![
            ("loss".into(), loss),
            ("use".into(), self.variable("embed_prob")?),
            ("gradient.latent".into(), self.latent.grad()),
        ];
        if self.compared {
            // Anchors that are drawn differ.
            out.push(("codebook".into(), self.variable("embedding.weight")?));
        }
        Ok(out)
    }

    /// The batch against the codes, to quantize it and to find the anchors.
    fn flops(&self) -> f64 {
        4.0 * self.latent.numel() as f64 * self.codes.size()[0] as f64
    }
}

pub(crate) struct Search {
    points: Tensor,
    codes: Tensor,
    device: Device,
    found: Option<Nearest>,
}

impl Search {
    pub(crate) fn new(setting: &Setting, work: &Value) -> Outcome<Self> {
        let dim = number(work, "dim")?;
        let points = vectors(setting, "points", number(work, "vectors")?, dim)?;
        let codes = vectors(setting, "codes", number(work, "codes")?, dim)?;
        Ok(Self { points, codes, device: setting.device, found: None })
    }

    /// Largest difference between the distances of two choices of codes, as a share of the squares that a distance is made
    /// of; in f64.
    pub(crate) fn apart(&self, one: &Tensor, other: &Tensor) -> Outcome<f64> {
        let points = self.points.f_to_kind(Kind::Double)?;
        let square = |t: &Tensor| (t * t).f_sum_dim_intlist([1].as_slice(), false, Kind::Double);
        let codes = |at: &Tensor| self.codes.f_index_select(0, at)?.f_to_kind(Kind::Double);
        let (one, other) = (codes(one)?, codes(other)?);
        let terms = square(&points)? + square(&other)?;
        let gap = (square(&(&points - one))? - square(&(&points - other))?) / terms;
        Ok(gap.f_abs()?.f_max()?.f_double_value(&[])?)
    }
}

impl Work for Search {
    fn run(&mut self) -> Outcome<()> {
        self.found = Some(nearest(&self.points, &self.codes, Distance::SquaredL2, tile_budget(self.device))?);
        Ok(())
    }

    fn result(&self) -> Outcome<Tensors> {
        let found = self.found.as_ref().ok_or("nothing was run")?;
        Ok(vec![("indices".into(), found.indices.copy()), ("distances".into(), found.distances.copy())])
    }

    fn flops(&self) -> f64 {
        2.0 * self.points.numel() as f64 * self.codes.size()[0] as f64
    }
}

//! The whole model: encode, quantize, decode; and the way back from the loss.

use std::collections::HashMap;

use serde_json::Value;
use tavq_backbone::{Vqgan, VqganConfig};
use tavq_quant::{Backbone, Quantizer, Vq};
use tavq_torch::{TensorFile, load_variables};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use crate::inputs::{codebook, config};
use crate::{Outcome, Setting, Tensors, Work, number};

/// Gradients that are compared: both ends of the way back, and the codes.
const GRADIENTS: [&str; 3] = ["encoder.conv_in.weight", "decoder.conv_in.weight", "quantize.embedding.weight"];

pub(crate) struct Codec {
    variables: HashMap<String, Tensor>,
    model: Vqgan,
    book: Vq,
    images: Tensor,
    train: bool,
    kind: Kind,
    /// Reconstruction and loss.
    found: Option<(Tensor, Tensor)>,
}

impl Codec {
    pub(crate) fn new(setting: &Setting, work: &Value) -> Outcome<Self> {
        let mut store = VarStore::new(setting.device);
        let model = Vqgan::new(&store.root(), &config())?;
        // In f32, whatever the precision of the model.
        let book_store = VarStore::new(setting.device);
        let book = Vq::new(&(book_store.root() / "quantize"), &codebook(), config().embed_dim)?;
        for (store, name) in [(&store, "model.safetensors"), (&book_store, "codebook.safetensors")] {
            load_variables(store, &TensorFile::open(&setting.folder.join(name))?, "")?;
        }
        if setting.kind == Kind::BFloat16 {
            store.bfloat16();
        }
        let images = TensorFile::open(&setting.folder.join("images.safetensors"))?.get("images")?;
        let images = images.f_narrow(0, 0, number(work, "batch")?)?.f_to_device(setting.device)?;
        let images = images.f_to_kind(setting.kind)?.f_contiguous()?;
        let train = match work["pass"].as_str() {
            Some("forward") => false,
            Some("train") => true,
            other => return Err(format!("work.pass: expected forward or train, found {other:?}").into()),
        };
        let mut variables = store.variables();
        variables.extend(book_store.variables());
        Ok(Self { variables, model, book, images, train, kind: setting.kind, found: None })
    }

    /// Reconstruction and the sum of the L1 distance and the codebook's loss.
    fn forward(&self) -> Outcome<(Tensor, Tensor)> {
        let levels = self.model.encode(&self.images, self.train)?;
        let latent = levels.last().ok_or("the model has no level")?;
        let found = self.book.quantize(latent, self.train)?;
        let back = self.model.decode(&found.latent.f_to_kind(self.kind)?, self.train)?;
        let loss = (&self.images - &back).f_abs()?.f_mean(Kind::Float)? + found.loss;
        Ok((back, loss))
    }
}

impl Work for Codec {
    fn run(&mut self) -> Outcome<()> {
        self.found = None;
        let found = if self.train {
            for variable in self.variables.values() {
                let mut gradient = variable.grad();
                if gradient.defined() {
                    let _ = gradient.f_zero_()?;
                }
            }
            let (back, loss) = self.forward()?;
            loss.f_backward()?;
            (back.detach(), loss.detach())
        } else {
            tch::no_grad(|| self.forward())?
        };
        self.found = Some(found);
        Ok(())
    }

    fn result(&self) -> Outcome<Tensors> {
        let Some((back, loss)) = &self.found else { return Err("nothing was run".into()) };
        let mut out: Tensors = vec![("reconstruction".into(), back.copy()), ("loss".into(), loss.f_view([1])?)];
        if self.train {
            for name in GRADIENTS {
                let variable = self.variables.get(name).ok_or("the model lacks a variable that is compared")?;
                out.push((format!("gradient.{name}"), variable.grad()));
            }
        }
        Ok(out)
    }

    /// A way back takes twice the products of the way there.
    fn flops(&self) -> f64 {
        let size = self.images.size();
        let passes = if self.train { 3.0 } else { 1.0 };
        passes * size[0] as f64 * flops(&config(), size[2])
    }
}

/// Operations of the products of one pass of one image, every doubling followed by a plain 3x3 convolution.
fn flops(config: &VqganConfig, size: i64) -> f64 {
    let conv = |from: i64, to: i64, kernel: i64, at: i64| 2.0 * (from * to * kernel * kernel * at * at) as f64;
    let block = |from: i64, to: i64, at: i64| {
        let shortcut = if from == to { 0.0 } else { conv(from, to, 1, at) };
        conv(from, to, 3, at) + conv(to, to, 3, at) + shortcut
    };
    let attention = |width: i64, at: i64| 4.0 * conv(width, width, 1, at) + 4.0 * (width * at.pow(4)) as f64;
    let width = |stage: usize| config.ch * config.ch_mult[stage];
    let last = config.ch_mult.len() - 1;
    let (deep, small) = (width(last), size >> last);
    let middle = 2.0 * block(deep, deep, small) + attention(deep, small);
    let (mut sum, mut from) = (conv(config.in_channels, config.ch, 3, size), config.ch);
    let stage = |stage: usize, from: i64, count: i64| {
        let (to, at) = (width(stage), size >> stage);
        let attends = config.attn_resolutions.contains(&(config.resolution >> stage));
        let each = block(to, to, at) + if attends { attention(to, at) } else { 0.0 };
        block(from, to, at) - block(to, to, at) + count as f64 * each
    };
    for i in 0..=last {
        sum += stage(i, from, config.num_res_blocks);
        from = width(i);
        if i < last {
            sum += conv(from, from, 3, size >> (i + 1));
        }
    }
    sum += middle + conv(deep, config.z_channels, 3, small) + 2.0 * conv(config.z_channels, config.embed_dim, 1, small);
    sum += conv(config.z_channels, deep, 3, small) + middle;
    for i in (0..=last).rev() {
        sum += stage(i, from, config.num_res_blocks + 1);
        from = width(i);
        if i > 0 {
            sum += conv(from, from, 3, size >> (i - 1));
        }
    }
    sum + conv(config.ch_mult[0] * config.ch, config.out_ch, 3, size)
}

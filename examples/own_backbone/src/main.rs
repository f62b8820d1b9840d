//! A backbone and a quantizer of one's own, under the whole command line; docs/own-backbone.md walks through it.

mod signs;

use tavq_quant::{Backbone, LevelShape, Result};
use tch::Tensor;
use tch::nn::{self, Module};

/// What `model.backbone` may say beside `kind`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    width: i64,
    bits: i64,
}

/// Three halvings, each of them a level, and three doublings.
struct Pyramid {
    down: [nn::Conv2D; 3],
    heads: [nn::Conv2D; 3],
    up: [nn::ConvTranspose2D; 3],
    levels: [LevelShape; 3],
}

impl Pyramid {
    fn new(path: &nn::Path<'_>, Keys { width, bits }: Keys) -> Self {
        let half = nn::ConvConfig { stride: 2, padding: 1, ..Default::default() };
        let double = nn::ConvTransposeConfig { stride: 2, padding: 1, ..Default::default() };
        let widths = |from, to| [(0, from, width), (1, width, width), (2, width, to)];
        Self {
            down: widths(3, width).map(|(i, from, to)| nn::conv2d(path / "down" / i, from, to, 4, half)),
            heads: [0, 1, 2].map(|i| nn::conv2d(path / "heads" / i, width, bits, 1, Default::default())),
            up: widths(bits, 3).map(|(i, from, to)| nn::conv_transpose2d(path / "up" / i, from, to, 4, double)),
            levels: [2, 4, 8].map(|stride| LevelShape { channels: bits, stride }),
        }
    }
}

impl Backbone for Pyramid {
    fn levels(&self) -> &[LevelShape] {
        &self.levels
    }
    fn encode(&self, images: &Tensor, _train: bool) -> Result<Vec<Tensor>> {
        let mut h = images.shallow_clone();
        let level = |(down, head): (&nn::Conv2D, &nn::Conv2D)| {
            h = down.forward(&h).gelu("none");
            head.forward(&h)
        };
        Ok(self.down.iter().zip(&self.heads).map(level).collect())
    }
    fn decode(&self, latent: &Tensor, _train: bool) -> Result<Tensor> {
        let [first, rest @ ..] = &self.up;
        Ok(rest.iter().fold(first.forward(latent), |h, up| up.forward(&h.gelu("none"))))
    }
}

fn main() -> std::process::ExitCode {
    let registry = tavq_cli::standard_registry()
        .backbone("pyramid", |path, table| {
            Ok(Box::new(Pyramid::new(path, tavq_train::parse_table("model.backbone", table)?)))
        })
        .quantizer("signs", |path, table, dim| {
            Ok(Box::new(signs::Signs::new(path, tavq_train::parse_table("model.quantizer", table)?, dim)?))
        });
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if arguments.len() == 1 {
        arguments.extend(["train", "--config", "examples/own_backbone/own.toml"].map(Into::into));
    }
    tavq_cli::run_with(&registry, arguments)
}

#[cfg(test)]
mod tests;

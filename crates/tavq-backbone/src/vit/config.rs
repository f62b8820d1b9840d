//! Shape of a ViT encoder and decoder, and its side levels.

use serde::{Deserialize, Serialize};
use tavq_quant::{LevelShape, QuantError, Result};

use crate::taps::Wiring;

/// What follows the last block of encoder and decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// Two layers with a tanh between, the inner one as wide as in a block (ViT-VQGAN).
    #[default]
    Tanh,
    /// One layer.
    Linear,
}

/// `kind = "vit"`. Defaults are ViT-VQGAN Small of Yu et al. 2022 (8x8 patches, 8 blocks of width 512 with 8 heads and an
/// inner width of 2048 on either side, codes of width 32). Its Base has 12 blocks of width 768, 12 heads and 3072.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitConfig {
    /// Channels of the images.
    pub in_channels: i64,
    /// Side of a patch, pixels: the stride of every level.
    pub patch: i64,
    /// Width of the tokens, a multiple of 4 and of `heads`.
    pub width: i64,
    /// Blocks of the encoder, and as many of the decoder.
    pub depth: i64,
    /// Heads of an attention.
    pub heads: i64,
    /// Inner width of a block's two layers.
    pub mlp: i64,
    /// What follows the last block.
    pub head: Head,
    /// Width of the codes.
    pub embed_dim: i64,
    /// 1: the latent alone; 3: with two side levels.
    pub levels: usize,
    /// After how many blocks of the encoder the two side levels read; empty: a third and two thirds, rounded up.
    pub tap_blocks: Vec<i64>,
    /// How the side levels are wired into the encoder.
    pub wiring: Wiring,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            patch: 8,
            width: 512,
            depth: 8,
            heads: 8,
            mlp: 2048,
            head: Head::Tanh,
            embed_dim: 32,
            levels: 3,
            tap_blocks: Vec::new(),
            wiring: Wiring::Taps,
        }
    }
}

impl VitConfig {
    /// Checks ranges; the error names the field.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("in_channels", self.in_channels, 1 << 16),
            ("patch", self.patch, 1 << 10),
            ("width", self.width, 1 << 16),
            ("depth", self.depth, 1 << 10),
            ("heads", self.heads, 1 << 16),
            ("mlp", self.mlp, 1 << 20),
            ("embed_dim", self.embed_dim, 1 << 16),
        ];
        for (field, value, most) in sizes {
            if !(1..=most).contains(&value) {
                return Err(bad(field, &format!("1 to {most}"), value));
            }
        }
        if self.width % 4 != 0 {
            return Err(bad("width", "a multiple of 4, for sine and cosine of row and column", self.width));
        }
        if self.width % self.heads != 0 {
            return Err(bad("heads", &format!("a divisor of width = {}", self.width), self.heads));
        }
        self.wiring.check(self.levels)?;
        self.tapped_blocks().map(|_| ())
    }

    /// After how many blocks each side level reads.
    pub(crate) fn tapped_blocks(&self) -> Result<Vec<usize>> {
        match (self.levels, self.tap_blocks.as_slice()) {
            (1, []) => Ok(Vec::new()),
            (1, blocks) => Err(bad("tap_blocks", "none with levels = 1", format!("{blocks:?}"))),
            (3, []) => Ok([1, 2].map(|part| (part * self.depth as usize).div_ceil(3)).to_vec()),
            (3, &[first, second]) if 1 <= first && first <= second && second <= self.depth => {
                Ok(vec![first as usize, second as usize])
            }
            (3, blocks) => {
                let expected = format!("two numbers from 1 to depth = {}, not falling", self.depth);
                Err(bad("tap_blocks", &expected, format!("{blocks:?}")))
            }
            (other, _) => Err(bad("levels", "1 or 3", other)),
        }
    }

    /// The levels that a model of this shape has.
    pub(crate) fn level_shapes(&self) -> Vec<LevelShape> {
        vec![LevelShape { channels: self.embed_dim, stride: self.patch }; self.levels]
    }
}

fn bad(field: &str, expected: &str, found: impl std::fmt::Display) -> QuantError {
    QuantError::config(&format!("backbone.{field}"), expected, found)
}

//! What the families share: the sizes of a transformer, its layers, attention.

use tch::Tensor;

use super::fields::Fields;
use super::reader::{Linear, Norm, Reader};
use crate::Result;

/// Sizes of a transformer, under the field names of the Hugging Face `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sizes {
    /// Rows of the token embedding.
    pub(super) vocab_size: i64,
    /// Width D of the states.
    pub(super) hidden_size: i64,
    pub(super) num_hidden_layers: i64,
    /// Divides `hidden_size`.
    pub(super) num_attention_heads: i64,
    /// Inner width of the feed-forward blocks.
    pub(super) intermediate_size: i64,
    /// Rows of the position embedding: the longest input, special tokens included.
    pub(super) max_position_embeddings: i64,
    pub(super) layer_norm_eps: f64,
}

impl Sizes {
    /// Reads and checks the fields. What the file leaves out is that of `defaults`, if there are any; `epsilon` that of the
    /// norms.
    pub(super) fn read(fields: &Fields, defaults: Option<[i64; 6]>, epsilon: f64) -> Result<Self> {
        let size = |at: usize, name: &str, least: i64| fields.size(name, least, defaults.map(|sizes| sizes[at]));
        let sizes = Self {
            vocab_size: size(0, "vocab_size", 1)?,
            hidden_size: size(1, "hidden_size", 1)?,
            num_hidden_layers: size(2, "num_hidden_layers", 1)?,
            num_attention_heads: size(3, "num_attention_heads", 1)?,
            intermediate_size: size(4, "intermediate_size", 1)?,
            // Room for the two special tokens and at least two of the text, so that windows advance.
            max_position_embeddings: size(5, "max_position_embeddings", 4)?,
            layer_norm_eps: fields.epsilon("layer_norm_eps", epsilon)?,
        };
        fields.check_heads(sizes.hidden_size, sizes.num_attention_heads)?;
        Ok(sizes)
    }
}

/// One transformer layer. Query, key and value are one matrix: one large product instead of three.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) qkv: Linear,
    pub(super) attention_out: Linear,
    pub(super) attention_norm: Norm,
    pub(super) inner: Linear,
    pub(super) outer: Linear,
    pub(super) outer_norm: Norm,
}

/// What a family calls the parts of a layer.
pub(super) struct Names {
    pub(super) qkv: [&'static str; 3],
    pub(super) attention_out: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) inner: &'static str,
    pub(super) outer: &'static str,
    pub(super) outer_norm: &'static str,
}

impl Layer {
    /// All layers; the names of number i have `prefix` and `i.` in front.
    pub(super) fn load_all(reader: &mut Reader, prefix: &str, names: &Names, sizes: &Sizes) -> Result<Vec<Self>> {
        let (d, inner) = (sizes.hidden_size, sizes.intermediate_size);
        let layer = |i: i64| {
            let at = |name: &str| format!("{prefix}{i}.{name}");
            Ok(Self {
                qkv: reader.joined(&names.qkv.map(at), d, d)?,
                attention_out: reader.linear(&at(names.attention_out), d, d)?,
                attention_norm: reader.norm(&at(names.attention_norm), d)?,
                inner: reader.linear(&at(names.inner), inner, d)?,
                outer: reader.linear(&at(names.outer), d, inner)?,
                outer_norm: reader.norm(&at(names.outer_norm), d)?,
            })
        };
        (0..sizes.num_hidden_layers).map(layer).collect()
    }
}

/// `[B, T, 3D]` to `[B, T, D]` by libtorch's fused attention. `mask` is false where no state may be seen; `causal` lets each
/// see those before it alone.
pub(super) fn attention(qkv: &Tensor, heads: i64, mask: Option<&Tensor>, causal: bool) -> Result<Tensor> {
    let (b, t, d3) = qkv.size3()?;
    let d = d3 / 3;
    let parts = qkv.f_view([b, t, 3, heads, d / heads])?.f_permute([2, 0, 3, 1, 4])?;
    let (q, k, v) = (parts.f_select(0, 0)?, parts.f_select(0, 1)?, parts.f_select(0, 2)?);
    let out = Tensor::f_scaled_dot_product_attention(&q, &k, &v, mask, 0.0, causal, None, false)?;
    Ok(out.f_transpose(1, 2)?.f_reshape([b, t, d])?)
}

//! What several tests need.

#![allow(dead_code, reason = "each test program takes what it needs")]

use tavq_backbone::layouts::Published;
use tavq_backbone::{Vqgan, VqganConfig};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// Largest absolute difference of two tensors of one shape; infinite where one is not a number.
pub(crate) fn gap(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let gap = (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[]);
    if gap.is_nan() { f64::INFINITY } else { gap }
}

/// Values that follow from a name: `noise` of `golden/formula.py`, each through `then`.
fn by_name(name: &str, shape: &[i64], then: impl Fn(f64) -> f64) -> Tensor {
    let start = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let uniform = |i: u64| {
        let x = start.wrapping_add(i);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let x = x ^ (x >> 31);
        (x >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let count = shape.iter().product::<i64>() as u64;
    let values: Vec<f32> = (0..count).map(|i| then(uniform(i)) as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

/// Inputs by `golden/formula.py`, in [-1, 1).
pub(crate) fn noise(name: &str, shape: &[i64]) -> Tensor {
    by_name(name, shape, |x| x)
}

/// A weight by `golden/formula.py`.
pub(crate) fn formula(name: &str, shape: &[i64]) -> Tensor {
    let fan = shape[1..].iter().product::<i64>() as f64;
    match shape.len() {
        1 => by_name(name, shape, |x| x * 0.2 + if name.ends_with("weight") { 1.0 } else { 0.0 }),
        _ if name.contains("embedding") => by_name(name, shape, |x| x),
        _ => by_name(name, shape, |x| x * (2.0 / fan.sqrt())),
    }
}

/// Gives every trainable variable its weight by the formula.
pub(crate) fn set_by_formula(store: &VarStore) {
    for (name, mut variable) in store.variables() {
        if variable.requires_grad() {
            tch::no_grad(|| variable.copy_(&formula(&name, &variable.size())));
        }
    }
}

/// A small network of another codebase; `attn` are the sizes at which it attends, of 16 down.
pub(crate) fn small(ch_mult: &[i64], attn: &[i64]) -> Published {
    let backbone = VqganConfig {
        ch: 32,
        ch_mult: ch_mult.to_vec(),
        num_res_blocks: 1,
        attn_resolutions: attn.to_vec(),
        resolution: 16,
        z_channels: 12,
        embed_dim: 8,
        levels: 1,
        ..VqganConfig::default()
    };
    Published { backbone, codes: 48, beta: 0.25, legacy: true, normalize: false }
}

/// Names and shapes of its tensors, in order.
pub(crate) fn variables(published: &Published) -> Vec<(String, Vec<i64>)> {
    let store = VarStore::new(Device::Cpu);
    Vqgan::new(&store.root(), &published.backbone).unwrap();
    let table = ("quantize.embedding.weight".to_owned(), vec![published.codes, published.backbone.embed_dim]);
    let mut out: Vec<_> = store.variables().into_iter().map(|(n, t)| (n, t.size())).chain([table]).collect();
    out.sort();
    out
}

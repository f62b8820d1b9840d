//! Recorded values, and numbers that do not depend on libtorch's generator, which tests in other threads also use.

#![allow(dead_code)] // Each test file takes what it needs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tavq_quant::{Quantizer, QuantizerConfig};
use tavq_torch::TensorFile;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// Standard normal values, the same for the same seed.
pub(crate) fn noise(shape: &[i64], seed: u64) -> Tensor {
    let count: i64 = shape.iter().product();
    let unit = |n: i64| (tavq_torch::seed_from(seed, "test", n as u64, 0) as f64 + 0.5) / i64::MAX as f64;
    let normal = |n| (-2.0 * unit(2 * n).ln()).sqrt() * (std::f64::consts::TAU * unit(2 * n + 1)).cos();
    let values: Vec<f32> = (0..count).map(|n| normal(n) as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

/// Largest absolute difference of two tensors of one shape.
pub(crate) fn gap(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let gap = (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[]);
    if gap.is_nan() { f64::INFINITY } else { gap }
}

/// Tensors that `golden/lucidrains.py` recorded under a prefix.
pub(crate) struct Recorded(TensorFile, &'static str);

impl Recorded {
    pub(crate) fn open(prefix: &'static str) -> Self {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/lucidrains.safetensors");
        Self(TensorFile::open(&path).unwrap(), prefix)
    }

    pub(crate) fn get(&self, name: &str) -> Tensor {
        self.0.get(&format!("{}.{name}", self.1)).unwrap()
    }

    /// Largest difference of `found` and a recorded tensor must be below 1e-5.
    pub(crate) fn agrees(&self, name: &str, found: &Tensor) {
        let apart = gap(found, &self.get(name));
        assert!(apart < 1e-5, "{}.{name} differs by {apart:e}", self.1);
    }
}

pub(crate) fn build(config: &QuantizerConfig, dim: i64) -> (VarStore, Box<dyn Quantizer>) {
    let store = VarStore::new(Device::Cpu);
    let quantizer = config.build(&store.root(), dim).unwrap();
    (store, quantizer)
}

pub(crate) fn variable(store: &VarStore, name: &str) -> Tensor {
    store.variables()[name].shallow_clone()
}

pub(crate) fn set(store: &VarStore, name: &str, value: &Tensor) {
    tch::no_grad(|| variable(store, name).copy_(value));
}

/// One test at a time, for those that draw from libtorch's one generator.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    // So little work that threads would only wait for each other.
    tch::set_num_threads(1);
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One update of a quantizer by the statistics of several batches, added up.
pub(crate) fn learn_from(quantizer: &mut dyn Quantizer, batches: &[Tensor]) {
    let passes: Vec<_> = batches.iter().map(|z| (z, quantizer.quantize(z, true).unwrap())).collect();
    let update = quantizer.batch_update().unwrap();
    let sum = passes
        .iter()
        .map(|(z, q)| update.collect(z, q).unwrap())
        .reduce(|a, b| a.iter().zip(&b).map(|(a, b)| a + b).collect())
        .unwrap();
    update.apply(&sum, 0).unwrap();
}

//! Residual quantization against vector-quantize-pytorch, recorded by `golden/lucidrains.py`, and its stages one by one.

mod common;

use common::{Recorded, build, gap, learn_from, noise, set, variable};
use tavq_quant::{EmaConfig, LfqConfig, Quantizer, QuantizerConfig, ResidualConfig, StagePath, Start, Usage, VqConfig};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

fn residual(config: ResidualConfig, inner: QuantizerConfig, dim: i64) -> (VarStore, Box<dyn Quantizer>) {
    build(&QuantizerConfig::Residual(ResidualConfig { quantizer: Box::new(inner), ..config }), dim)
}

fn three(config: ResidualConfig) -> ResidualConfig {
    ResidualConfig { depth: 3, ..config }
}

fn put(store: &VarStore, books: &Tensor, name: &str) {
    for stage in 0..books.size()[0] {
        set(store, &format!("stage.{stage}.{name}"), &books.get(stage));
    }
}

fn learn(quantizer: &mut dyn Quantizer, latent: &Tensor, step: u64) {
    let q = quantizer.quantize(latent, true).unwrap();
    let update = quantizer.batch_update().unwrap();
    let statistics = update.collect(latent, &q).unwrap();
    update.apply(&statistics, step).unwrap();
}

#[test]
fn trained_stages_agree_with_vector_quantize_pytorch() {
    let inputs = Recorded::open("residual");
    for (name, shared) in [("residual.own", false), ("residual.shared", true)] {
        let recorded = Recorded::open(name);
        let inner = QuantizerConfig::Vq(VqConfig { codes: 12, beta: 1.0, ..VqConfig::default() });
        let config = three(ResidualConfig { shared, path: StagePath::Every, ..ResidualConfig::default() });
        let (store, quantizer) = residual(config, inner, 5);
        let count = if shared { 1 } else { 3 };
        put(&store, &inputs.get("books").narrow(0, 0, count), "embedding.weight");
        let z = inputs.get("latent").set_requires_grad(true);
        let q = quantizer.quantize(&z, true).unwrap();
        (&q.loss + (&q.latent * inputs.get("direction")).sum(Kind::Float)).backward();
        assert_eq!(q.indices, recorded.get("indices"), "{name}");
        recorded.agrees("quantized", &q.latent);
        recorded.agrees("latent_grad", &z.grad());
        // Both of the terms have weight 1 here; there one term moves both sides.
        assert!(gap(&q.loss, &(recorded.get("losses").sum(Kind::Float) * 2.0)) < 1e-5, "{name}");
        let grads: Vec<Tensor> =
            (0..count).map(|i| variable(&store, &format!("stage.{i}.embedding.weight")).grad()).collect();
        recorded.agrees("books_grad", &Tensor::stack(&grads, 0));
    }
}

#[test]
fn three_steps_of_moving_averages_agree_with_vector_quantize_pytorch() {
    let recorded = Recorded::open("residual.ema");
    let inner = QuantizerConfig::Ema(EmaConfig { codes: 12, decay: 0.8, ..EmaConfig::default() });
    let (store, mut quantizer) = residual(three(ResidualConfig::default()), inner, 5);
    for name in ["embedding.weight", "embedding.embed_avg"] {
        put(&store, &Recorded::open("residual").get("books"), name);
    }
    for step in 0..3 {
        let at = |part: &str| format!("{step}.{part}");
        let latent = recorded.get(&at("latent"));
        let q = quantizer.quantize(&latent, true).unwrap();
        assert_eq!(q.indices, recorded.get(&at("indices")), "step {step}");
        recorded.agrees(&at("quantized"), &q.latent);
        assert!(gap(&q.loss, &recorded.get(&at("losses")).sum(Kind::Float)) < 1e-5, "step {step}");
        learn(quantizer.as_mut(), &latent, step);
        let all = |name: &str| {
            let parts: Vec<Tensor> = (0..3).map(|i| variable(&store, &format!("stage.{i}.embedding.{name}"))).collect();
            Tensor::stack(&parts, 0)
        };
        recorded.agrees(&at("books"), &all("weight"));
        recorded.agrees(&at("cluster_size"), &all("cluster_size"));
    }
}

#[test]
fn the_gradient_passes_once_unless_every_stage_passes_it() {
    let direction = noise(&[2, 4, 3, 3], 2);
    for (path, times) in [(StagePath::First, 1.0), (StagePath::Every, 3.0)] {
        let inner = QuantizerConfig::Vq(VqConfig { codes: 6, ..VqConfig::default() });
        let (_store, quantizer) = residual(three(ResidualConfig { path, ..ResidualConfig::default() }), inner, 4);
        let z = noise(&[2, 4, 3, 3], 1).set_requires_grad(true);
        let q = quantizer.quantize(&z, true).unwrap();
        (&q.latent * &direction).sum(Kind::Float).backward();
        assert!(gap(&z.grad(), &(&direction * times)) < 1e-6, "{path:?}");
    }
}

#[test]
fn a_stage_sees_its_residual_in_its_own_unit() {
    // Signs at 1, 1/2, 1/4: every multiple of 1/4 that is odd, up to 7/4.
    let inner = QuantizerConfig::Lfq(LfqConfig { bits: 2, ..LfqConfig::default() });
    let config = three(ResidualConfig { scale: 0.5, ..ResidualConfig::default() });
    let (_store, quantizer) = residual(config, inner, 2);
    let z = Tensor::from_slice(&[1.3f32, -0.6]).view([1, 2, 1, 1]);
    let q = quantizer.quantize(&z, false).unwrap();
    // 1 + 1/2 - 1/4 and -1 + 1/2 - 1/4; the first component is the higher bit.
    assert_eq!(Vec::<f32>::try_from(q.latent.view([-1])).unwrap(), [1.25, -0.75]);
    assert_eq!(Vec::<i64>::try_from(q.indices.view([-1])).unwrap(), [0b10, 0b11, 0b00]);
    assert_eq!(quantizer.lookup(&q.indices).unwrap().view([-1]), q.latent.view([-1]));
}

#[test]
fn more_stages_leave_less_over() {
    let inner = QuantizerConfig::Ema(EmaConfig { codes: 16, decay: 0.5, start: Start::KMeans, ..EmaConfig::default() });
    let (_store, mut quantizer) = residual(three(ResidualConfig::default()), inner, 4);
    let latent = noise(&[4, 4, 8, 8], 1);
    for step in 0..6 {
        learn(quantizer.as_mut(), &latent, step);
    }
    let indices = quantizer.quantize(&latent, false).unwrap().indices;
    let mut last = f64::INFINITY;
    for kept in 1..=3 {
        let part = indices.copy();
        let _ = part.narrow(3, kept, 3 - kept).fill_(-1);
        let codes = quantizer.lookup(&part).unwrap().permute([0, 3, 1, 2]);
        let apart = (codes - &latent).square().mean(Kind::Double).double_value(&[]);
        assert!(apart < 0.6 * last, "{kept} stages: {apart}, one less: {last}");
        last = apart;
    }
}

#[test]
fn stages_start_one_a_step_from_what_the_others_leave() {
    let inner = QuantizerConfig::Vq(VqConfig { codes: 5, start: Start::FirstBatch, ..VqConfig::default() });
    let (store, mut quantizer) = residual(three(ResidualConfig::default()), inner, 2);
    let started = |stage: i64| variable(&store, &format!("stage.{stage}.started")).double_value(&[0]);
    let none = noise(&[0, 2, 4, 4], 1);
    learn(quantizer.as_mut(), &none, 0);
    assert_eq!([0, 1, 2].map(started), [0.0; 3]);
    for (step, expected) in [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]].iter().enumerate() {
        let latent = noise(&[1, 2, 4, 4], 10 + step as u64);
        let before = quantizer.quantize(&latent, false).unwrap().indices;
        learn(quantizer.as_mut(), &latent, step as u64 + 1);
        assert_eq!([0, 1, 2].map(started), *expected, "step {step}");
        let stage = step as i64;
        if stage > 2 {
            continue;
        }
        let codes = variable(&store, &format!("stage.{stage}.embedding.weight"));
        let earlier = before.copy();
        let _ = earlier.narrow(3, stage, 3 - stage).fill_(-1);
        let rest = latent.permute([0, 2, 3, 1]) - quantizer.lookup(&earlier).unwrap();
        let apart = (codes.unsqueeze(1) - rest.reshape([1, -1, 2])).abs().amax([2i64], false).amin([1i64], false);
        assert!(apart.max().double_value(&[]) < 1e-6, "a code of stage {stage} is none of its residuals");
    }
}

#[test]
fn statistics_of_two_batches_are_those_of_both_in_one() {
    let batch = noise(&[4, 3, 2, 2], 1);
    for shared in [false, true] {
        let mut found = Vec::new();
        for parts in [vec![batch.copy()], vec![batch.narrow(0, 0, 1), batch.narrow(0, 1, 3)]] {
            let inner = QuantizerConfig::Ema(EmaConfig { codes: 8, decay: 0.5, ..EmaConfig::default() });
            let (store, mut quantizer) =
                residual(three(ResidualConfig { shared, ..ResidualConfig::default() }), inner, 3);
            let stages = if shared { 1 } else { 3 };
            let books = noise(&[stages, 8, 3], 2);
            for name in ["embedding.weight", "embedding.embed_avg"] {
                put(&store, &books, name);
            }
            learn_from(quantizer.as_mut(), &parts);
            let names = (0..stages).map(|stage| format!("stage.{stage}.embedding.weight"));
            found.push(Tensor::cat(&names.map(|name| variable(&store, &name)).collect::<Vec<_>>(), 0));
            let counted = variable(&store, "stage.0.embedding.cluster_size").sum(Kind::Double).double_value(&[]);
            // Eight codes began at 1; of 16 vectors the one codebook sees three residuals, or its own.
            assert_eq!(counted, 4.0 + 8.0 * if shared { 3.0 } else { 1.0 });
        }
        assert!(gap(&found[0], &found[1]) < 1e-6, "shared: {shared}");
    }
}

#[test]
fn indices_of_all_stages_are_counted_and_dropped_ones_are_not() {
    let mut usage = Usage::new(4);
    usage.add(&Tensor::from_slice(&[0i64, 3, -1, 0, 1, -1]).view([1, 1, 2, 3])).unwrap();
    assert_eq!(usage.counts(), [2, 1, 0, 1]);
    assert_eq!(usage.report().vectors, 4);
}

#[test]
fn a_missing_stage_is_refused() {
    let inner = QuantizerConfig::Vq(VqConfig { codes: 5, ..VqConfig::default() });
    let (_store, quantizer) = residual(three(ResidualConfig::default()), inner, 2);
    let indices = Tensor::from_slice(&[0i64, 1]);
    let error = quantizer.lookup(&indices).unwrap_err().to_string();
    assert_eq!(error, "indices: expected shape [3], found [2]");
    assert!(quantizer.lookup(&Tensor::from(1i64)).is_err());
    assert!(quantizer.quantize(&noise(&[1, 3, 2, 2], 1), true).is_err());
}

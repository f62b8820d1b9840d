//! Stages that training leaves out: in a process of their own, because they draw from libtorch's one generator.

mod common;

use common::{alone, build, noise, variable};
use tavq_quant::laws::quantizer_laws;
use tavq_quant::{EmaConfig, Quantizer, QuantizerConfig, ResidualConfig, Start, VqConfig};
use tch::{Kind, Tensor};

fn config(dropout: f64, dropout_from: i64, inner: QuantizerConfig) -> QuantizerConfig {
    let quantizer = Box::new(inner);
    QuantizerConfig::Residual(ResidualConfig {
        depth: 4,
        dropout,
        dropout_from,
        quantizer,
        ..ResidualConfig::default()
    })
}

/// Stages that each of many passes kept.
fn kept(quantizer: &dyn Quantizer, passes: i64, train: bool) -> Vec<i64> {
    let latent = noise(&[2, 3, 2, 2], 1);
    let kept = |seed| {
        tch::manual_seed(seed);
        let q = quantizer.quantize(&latent, train).unwrap();
        let codes = quantizer.lookup(&q.indices).unwrap().permute([0, 3, 1, 2]);
        assert!((codes - q.latent).abs().max().double_value(&[]) < 1e-6);
        let there = q.indices.ne(-1).sum_dim_intlist([3i64].as_slice(), false, Kind::Int64);
        let count = there.max().int64_value(&[]);
        assert_eq!(there.min().int64_value(&[]), count, "a pass keeps as many stages in every cell");
        count
    };
    (0..passes).map(kept).collect()
}

#[test]
fn a_training_pass_keeps_a_random_number_of_stages() {
    let _alone = alone();
    let inner = || QuantizerConfig::Vq(VqConfig { codes: 6, ..VqConfig::default() });
    let share = |found: &[i64], stages| found.iter().filter(|f| **f == stages).count() as f64 / found.len() as f64;
    let (_store, quantizer) = build(&config(1.0, 2, inner()), 3);
    let found = kept(quantizer.as_ref(), 450, true);
    // A third each: 0.09 is four deviations of a share of 450.
    for (stages, expected) in [(1, 0.0), (2, 1.0 / 3.0), (3, 1.0 / 3.0), (4, 1.0 / 3.0)] {
        assert!((share(&found, stages) - expected).abs() < 0.09, "{stages}: {}", share(&found, stages));
    }
    assert_eq!(found, kept(quantizer.as_ref(), 450, true), "equal seeds, equal draws");
    assert_eq!(kept(quantizer.as_ref(), 20, false), [4; 20]);
    let (_store, quantizer) = build(&config(0.3, 1, inner()), 3);
    let found = kept(quantizer.as_ref(), 450, true);
    // Of 0.3 of the passes a quarter keeps all four.
    assert!((share(&found, 4) - 0.775).abs() < 0.09, "{}", share(&found, 4));
    let (_store, quantizer) = build(&config(0.0, 1, inner()), 3);
    assert_eq!(kept(quantizer.as_ref(), 50, true), [4; 50]);
}

#[test]
fn stages_left_out_learn_nothing() {
    let _alone = alone();
    let inner = QuantizerConfig::Ema(EmaConfig { codes: 6, decay: 0.5, ..EmaConfig::default() });
    let (store, mut quantizer) = build(&config(1.0, 1, inner), 3);
    let latent = noise(&[2, 3, 2, 2], 1);
    let sizes = |stage: i64| variable(&store, &format!("stage.{stage}.embedding.cluster_size")).sum(Kind::Double);
    let seed = (0..).find(|seed| {
        tch::manual_seed(*seed);
        let q = quantizer.quantize(&latent, true).unwrap();
        q.indices.select(3, 1).min().int64_value(&[]) >= 0 && q.indices.select(3, 2).max().int64_value(&[]) == -1
    });
    tch::manual_seed(seed.unwrap());
    let q = quantizer.quantize(&latent, true).unwrap();
    let update = quantizer.batch_update().unwrap();
    let statistics = update.collect(&latent, &q).unwrap();
    update.apply(&statistics, 0).unwrap();
    // Six codes began at 1; eight vectors came in, or the stage was left out.
    let found: Vec<f64> = (0..4).map(|stage| sizes(stage).double_value(&[])).collect();
    assert_eq!(found, [7.0, 7.0, 6.0, 6.0]);
}

#[test]
fn stages_that_are_left_out_at_times_keep_the_laws() {
    let _alone = alone();
    let inner = [
        QuantizerConfig::Vq(VqConfig { codes: 12, ..VqConfig::default() }),
        QuantizerConfig::Vq(VqConfig { codes: 12, start: Start::FirstBatch, ..VqConfig::default() }),
        QuantizerConfig::Ema(EmaConfig { codes: 12, expire_below: 0.5, ..EmaConfig::default() }),
    ];
    for inner in inner {
        let config = config(1.0, 1, inner);
        if let Err(broken) = quantizer_laws(5, &mut |path| config.build(path, 5).unwrap()) {
            panic!("{config:?}: {broken}");
        }
    }
    let none = Tensor::zeros([0, 5, 2, 2], (Kind::Float, tch::Device::Cpu));
    let inner = QuantizerConfig::Ema(EmaConfig { codes: 6, ..EmaConfig::default() });
    let (_store, mut quantizer) = build(&config(1.0, 1, inner), 5);
    let q = quantizer.quantize(&none, true).unwrap();
    let update = quantizer.batch_update().unwrap();
    let statistics = update.collect(&none, &q).unwrap();
    update.apply(&statistics, 0).unwrap();
}

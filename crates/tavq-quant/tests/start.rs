//! Codes that start from the first batch: in a process of their own, because they draw from libtorch's one generator.

mod common;

use common::{alone, build, gap, noise, variable};
use tavq_quant::{CvqConfig, Distance, EmaConfig, Quantizer, QuantizerConfig, Start, VqConfig, nearest};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const DIM: i64 = 3;

fn configs(codes: i64, start: Start) -> [QuantizerConfig; 4] {
    let vq = VqConfig { codes, start, ..VqConfig::default() };
    [
        QuantizerConfig::Vq(vq.clone()),
        QuantizerConfig::Vq(VqConfig { normalize: true, ..vq }),
        QuantizerConfig::Ema(EmaConfig { codes, start, ..EmaConfig::default() }),
        QuantizerConfig::Cvq(CvqConfig { codes, start, ..CvqConfig::default() }),
    ]
}

/// One step's statistics of several batches under a seed, summed and applied.
fn learn(quantizer: &mut dyn Quantizer, batches: &[&Tensor], seed: i64) {
    tch::manual_seed(seed);
    let passes: Vec<_> = batches.iter().map(|z| quantizer.quantize(z, true).unwrap()).collect();
    let update = quantizer.batch_update().unwrap();
    let parts = batches.iter().zip(&passes).map(|(z, q)| update.collect(z, q).unwrap());
    let sum = parts.reduce(|a, b| a.iter().zip(&b).map(|(a, b)| a + b).collect()).unwrap();
    update.apply(&sum, 0).unwrap();
}

fn codes(store: &VarStore) -> Tensor {
    variable(store, "embedding.weight").detach()
}

/// Vectors `[1, 3, 8, 8]` around four points far apart, and these.
fn clusters() -> (Tensor, Tensor) {
    let centres = Tensor::from_slice(&[9f32, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 9.0, -9.0, -9.0, 0.0]).view([4, DIM]);
    let rows = centres.repeat([16, 1]) + noise(&[64, DIM], 1) * 0.1;
    (rows.view([1, 8, 8, DIM]).permute([0, 3, 1, 2]).contiguous(), centres)
}

#[test]
fn clusters_far_apart_are_all_found() {
    let _alone = alone();
    let (latent, centres) = clusters();
    for config in configs(24, Start::KMeans) {
        let (store, mut quantizer) = build(&config, DIM);
        learn(quantizer.as_mut(), &[&latent], 1);
        let found = nearest(&centres, &codes(&store), Distance::Cosine, 1 << 20).unwrap();
        assert!(found.distances.max().double_value(&[]) < 1e-3, "{config:?}: a cluster has no code");
        let back = nearest(&codes(&store), &centres, Distance::Cosine, 1 << 20).unwrap();
        assert!(back.distances.max().double_value(&[]) < 1e-2, "{config:?}: a code lies between clusters");
        let rows = latent.permute([0, 2, 3, 1]).reshape([-1, DIM]);
        if !matches!(&config, QuantizerConfig::Vq(vq) if vq.normalize) {
            let apart = nearest(&rows, &codes(&store), Distance::SquaredL2, 1 << 20).unwrap().distances;
            assert!(apart.max().double_value(&[]) < 0.5, "{config:?}");
        }
    }
}

#[test]
fn centres_serve_a_batch_better_than_the_vectors_they_began_as() {
    let _alone = alone();
    let latent = noise(&[2, DIM, 8, 8], 2);
    for seed in 0..5 {
        for (random, centred) in configs(12, Start::FirstBatch).into_iter().zip(configs(12, Start::KMeans)) {
            let [random, centred] = [random, centred].map(|config| {
                let (_store, mut quantizer) = build(&config, DIM);
                learn(quantizer.as_mut(), &[&latent], seed);
                let q = quantizer.quantize(&latent, false).unwrap();
                let by_cosine = matches!(&config, QuantizerConfig::Cvq(_));
                let codes = quantizer.lookup(&q.indices).unwrap().reshape([-1, DIM]);
                let rows = latent.permute([0, 2, 3, 1]).reshape([-1, DIM]);
                if by_cosine || matches!(&config, QuantizerConfig::Vq(vq) if vq.normalize) {
                    1.0 - Tensor::cosine_similarity(&rows, &codes, 1, 1e-8).mean(Kind::Double).double_value(&[])
                } else {
                    (rows - codes).square().mean(Kind::Double).double_value(&[])
                }
            });
            assert!(centred < 0.9 * random, "seed {seed}: {centred} with centres, {random} without");
        }
    }
}

#[test]
fn equal_seeds_start_equal_codes() {
    let _alone = alone();
    let latent = noise(&[2, DIM, 8, 8], 2);
    for config in configs(12, Start::KMeans) {
        let found = [1, 1, 2].map(|seed| {
            let (store, mut quantizer) = build(&config, DIM);
            learn(quantizer.as_mut(), &[&latent], seed);
            codes(&store)
        });
        assert_eq!(found[0], found[1], "{config:?}");
        assert_ne!(found[0], found[2], "{config:?}");
    }
}

#[test]
fn of_two_batches_one_gives_all_centres() {
    let _alone = alone();
    let batches = [noise(&[1, DIM, 8, 8], 3), noise(&[1, DIM, 8, 8], 4) + 50.0];
    let config = QuantizerConfig::Vq(VqConfig { codes: 6, start: Start::KMeans, ..VqConfig::default() });
    let mut winners = [0; 2];
    for seed in 0..12 {
        let (store, mut quantizer) = build(&config, DIM);
        learn(quantizer.as_mut(), &[&batches[0], &batches[1]], seed);
        let (low, high) = (codes(&store).min().double_value(&[]), codes(&store).max().double_value(&[]));
        assert!(high < 10.0 || low > 40.0, "centres of both batches: {low} to {high}");
        winners[usize::from(low > 40.0)] += 1;
    }
    assert!(winners.iter().all(|w| *w > 0), "{winners:?}");
}

#[test]
fn the_wait_ends_with_the_first_vectors() {
    let _alone = alone();
    for config in [configs(5, Start::KMeans), configs(5, Start::FirstBatch)].concat() {
        let (store, mut quantizer) = build(&config, DIM);
        let before = codes(&store).copy();
        learn(quantizer.as_mut(), &[&Tensor::zeros([0, DIM, 2, 2], (Kind::Float, Device::Cpu))], 1);
        assert_eq!(codes(&store), before, "{config:?}");
        assert_eq!(variable(&store, "started").double_value(&[0]), 0.0, "{config:?}");
        // Fewer vectors than codes: every one of them becomes a code.
        let few = noise(&[1, DIM, 1, 3], 5);
        learn(quantizer.as_mut(), &[&few], 1);
        assert_eq!(variable(&store, "started").double_value(&[0]), 1.0, "{config:?}");
        let q = quantizer.quantize(&few, false).unwrap();
        if matches!(&config, QuantizerConfig::Ema(ema) if ema.start == Start::KMeans) {
            assert!(gap(&q.latent, &few) < 1e-6, "{config:?}");
            assert_eq!(variable(&store, "embedding.embed_avg"), codes(&store));
            assert_eq!(variable(&store, "embedding.cluster_size"), Tensor::ones([5], (Kind::Float, Device::Cpu)));
        }
        let started = codes(&store).copy();
        learn(quantizer.as_mut(), &[&few], 2);
        let moves = !matches!(config, QuantizerConfig::Vq(_));
        assert_eq!(codes(&store) != started, moves, "{config:?}: the next step's statistics are the usual ones");
    }
}

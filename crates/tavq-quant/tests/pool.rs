//! The pool of past vectors behind the random anchors of the online clustered codebook: in a process of its own, because it
//! draws from libtorch's one generator.

mod common;

use common::{alone, build, gap, noise, set, variable};
use tavq_quant::{Anchor, CvqConfig, Quantizer, QuantizerConfig};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

const DIM: i64 = 3;

fn cvq(codes: i64) -> (VarStore, Box<dyn Quantizer>) {
    build(&QuantizerConfig::Cvq(CvqConfig { codes, anchor: Anchor::Random, ..CvqConfig::default() }), DIM)
}

fn learn(quantizer: &mut dyn Quantizer, batches: &[&Tensor], step: u64) {
    let passes: Vec<_> = batches.iter().map(|z| quantizer.quantize(z, true).unwrap()).collect();
    let update = quantizer.batch_update().unwrap();
    let parts = batches.iter().zip(&passes).map(|(z, q)| update.collect(z, q).unwrap());
    let sum = parts.reduce(|a, b| a.iter().zip(&b).map(|(a, b)| a + b).collect()).unwrap();
    update.apply(&sum, step).unwrap();
}

fn rows(latent: &Tensor) -> Tensor {
    latent.permute([0, 2, 3, 1]).reshape([-1, DIM])
}

/// For each row of `of` how often it occurs among those of `among`.
fn occurrences(of: &Tensor, among: &Tensor) -> Vec<i64> {
    let equal = of.unsqueeze(1).eq_tensor(&among.unsqueeze(0)).all_dim(2, false);
    Vec::try_from(equal.sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)).unwrap()
}

fn filled(store: &VarStore) -> i64 {
    variable(store, "pool.filled").double_value(&[0]) as i64
}

#[test]
fn free_places_are_filled_first_and_then_random_ones() {
    let _alone = alone();
    tch::manual_seed(1);
    let (store, mut quantizer) = cvq(5);
    let batches: Vec<Tensor> = (0..4).map(|i| noise(&[1, DIM, 1, 3], i)).collect();
    let pool = || variable(&store, "pool.features");
    learn(quantizer.as_mut(), &[&batches[0]], 0);
    assert_eq!((filled(&store), occurrences(&rows(&batches[0]), &pool())), (3, vec![1; 3]));
    assert_eq!(pool().narrow(0, 3, 2).abs().max().double_value(&[]), 0.0);
    // Two places are free and three vectors come: one place is taken from the first batch.
    learn(quantizer.as_mut(), &[&batches[1]], 1);
    assert_eq!((filled(&store), occurrences(&rows(&batches[1]), &pool())), (5, vec![1; 3]));
    assert_eq!(occurrences(&rows(&batches[0]), &pool()).iter().sum::<i64>(), 2);
    learn(quantizer.as_mut(), &[&batches[2]], 2);
    assert_eq!((filled(&store), occurrences(&rows(&batches[2]), &pool())), (5, vec![1; 3]));
    // More vectors than places: all are new, none is there twice.
    let many = noise(&[1, DIM, 4, 4], 9);
    learn(quantizer.as_mut(), &[&many], 3);
    assert_eq!(occurrences(&pool(), &rows(&many)), [1; 5]);
    assert_eq!(occurrences(&rows(&many), &pool()).iter().sum::<i64>(), 5);
}

#[test]
fn batches_of_one_step_share_the_places() {
    let _alone = alone();
    tch::manual_seed(1);
    let (store, mut quantizer) = cvq(6);
    let (a, b) = (noise(&[1, DIM, 1, 2], 1), noise(&[1, DIM, 1, 4], 2));
    learn(quantizer.as_mut(), &[&a, &b], 0);
    assert_eq!(filled(&store), 4);
    let pool = variable(&store, "pool.features").narrow(0, 0, 4);
    let all = Tensor::cat(&[rows(&a), rows(&b)], 0);
    // Lots that are not close leave the loser's share below rounding.
    let apart = (pool.unsqueeze(1) - all.unsqueeze(0)).abs().amax([2i64], false).amin([1i64], false);
    assert!(apart.max().double_value(&[]) < 1e-6, "a place holds a mixture");
}

#[test]
fn an_unused_code_is_pulled_to_a_past_vector_and_not_to_a_free_place() {
    let _alone = alone();
    tch::manual_seed(1);
    let (store, mut quantizer) = cvq(5);
    let first = noise(&[1, DIM, 1, 3], 1);
    set(&store, "embedding.weight", &(noise(&[5, DIM], 2) * 100.0));
    for step in 0..4 {
        let latent = if step == 0 { first.copy() } else { first.narrow(0, 0, 0) };
        learn(quantizer.as_mut(), &[&latent], step);
        // Steps without vectors change no place.
        assert_eq!(filled(&store), 3);
    }
    let unused = variable(&store, "embed_prob").eq(0.0).nonzero().view([-1]);
    assert!(unused.numel() >= 2);
    let codes = variable(&store, "embedding.weight").index_select(0, &unused);
    let apart = (codes.unsqueeze(1) - rows(&first).unsqueeze(0)).abs().amax([2i64], false).amin([1i64], false);
    // Each pull leaves a share of 0.001.
    assert!(apart.max().double_value(&[]) < 0.02, "{apart:?}");
}

#[test]
fn a_pool_without_vectors_moves_no_code() {
    let _alone = alone();
    tch::manual_seed(1);
    let (store, mut quantizer) = cvq(5);
    let before = variable(&store, "embedding.weight").detach().copy();
    learn(quantizer.as_mut(), &[&noise(&[0, DIM, 2, 2], 1)], 0);
    assert!(gap(&variable(&store, "embedding.weight"), &before) < 1e-6);
    assert_eq!(filled(&store), 0);
}

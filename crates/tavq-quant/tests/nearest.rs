//! Nearest-code search against exact arithmetic.

mod common;

use common::noise;
use proptest::prelude::*;
use tavq_quant::{Distance, nearest, tile_budget};
use tch::{Device, Kind, Tensor};

const CPU: Device = Device::Cpu;

fn values(t: &Tensor) -> Vec<i64> {
    Vec::try_from(t).unwrap()
}

/// The first of the nearest codes and its squared distance, for integers.
fn first_nearest(points: &[Vec<i64>], codes: &[Vec<i64>]) -> Vec<(i64, i64)> {
    let far = |p: &[i64], c: &[i64]| p.iter().zip(c).map(|(a, b)| (a - b) * (a - b)).sum::<i64>();
    points
        .iter()
        .map(|p| {
            // min_by_key keeps the first of several least ones.
            let (k, c) = codes.iter().enumerate().min_by_key(|(_, c)| far(p, c)).unwrap();
            (k as i64, far(p, c))
        })
        .collect()
}

fn tensor(rows: &[Vec<i64>], dim: usize) -> Tensor {
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, dim as i64]).to_kind(Kind::Float)
}

/// Few small integers in few dimensions: most points have several nearest codes, and f32 is exact.
fn problem() -> impl Strategy<Value = (usize, Vec<Vec<i64>>, Vec<Vec<i64>>)> {
    (1usize..5).prop_flat_map(|dim| {
        let rows = |most| prop::collection::vec(prop::collection::vec(-3i64..4, dim), 1..most);
        (Just(dim), rows(40), rows(30))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_tile_gives_the_first_of_the_nearest((dim, points, codes) in problem(), budget in 0usize..2000) {
        let found =
            nearest(&tensor(&points, dim), &tensor(&codes, dim), Distance::SquaredL2, budget).unwrap();
        let expected = first_nearest(&points, &codes);
        prop_assert_eq!(values(&found.indices), expected.iter().map(|e| e.0).collect::<Vec<_>>());
        let far: Vec<f32> = Vec::try_from(&found.distances).unwrap();
        prop_assert_eq!(far, expected.iter().map(|e| e.1 as f32).collect::<Vec<_>>());
    }
}

#[test]
fn the_cosine_ignores_lengths() {
    let (points, codes) = (noise(&[200, 7], 1), noise(&[50, 7], 2));
    let lengths = noise(&[50, 1], 3).exp();
    let unit = |t: &Tensor| t.to_kind(Kind::Double) / t.to_kind(Kind::Double).norm_scalaropt_dim(2, [1i64], true);
    let far = -unit(&points).mm(&unit(&codes).transpose(0, 1)) + 1.0;
    for budget in [0, 100, 4096, 1 << 20] {
        let found = nearest(&points, &(&codes * &lengths), Distance::Cosine, budget).unwrap();
        assert_eq!(found.indices, far.argmin(1, false), "budget {budget}");
        let gap = common::gap(&found.distances, &far.min_dim(1, false).0);
        assert!(gap < 1e-6, "budget {budget}: {gap:e}");
    }
}

#[test]
fn a_zero_vector_is_at_distance_one_from_every_direction() {
    let zero = Tensor::zeros([2, 3], (Kind::Float, CPU));
    let found = nearest(&zero, &noise(&[4, 3], 1), Distance::Cosine, 1 << 10).unwrap();
    assert_eq!(values(&found.indices), [0, 0]);
    assert_eq!(Vec::<f32>::try_from(&found.distances).unwrap(), [1.0, 1.0]);
    // As a code it loses to any code at less than a right angle.
    let codes = Tensor::from_slice(&[0f32, 0.0, 0.0, 1.0, 1.0, 0.0]).view([2, 3]);
    let point = Tensor::from_slice(&[1f32, 0.0, 0.0]).view([1, 3]);
    assert_eq!(values(&nearest(&point, &codes, Distance::Cosine, 1 << 10).unwrap().indices), [1]);
}

#[test]
fn nothing_to_search_is_no_error_and_nothing_to_find_is() {
    let none = Tensor::zeros([0, 3], (Kind::Float, CPU));
    let some = noise(&[4, 3], 1);
    let found = nearest(&none, &some, Distance::SquaredL2, 64).unwrap();
    assert_eq!((found.indices.size(), found.indices.kind()), (vec![0], Kind::Int64));
    assert_eq!((found.distances.size(), found.distances.kind()), (vec![0], Kind::Float));
    let refused =
        |points: &Tensor, codes: &Tensor| nearest(points, codes, Distance::SquaredL2, 64).unwrap_err().to_string();
    assert_eq!(refused(&some, &none), "codes: expected shape [1, 3], found [0, 3]");
    assert_eq!(refused(&some, &noise(&[4, 2], 1)), "codes: expected shape [?, 3], found [4, 2]");
    assert_eq!(refused(&noise(&[4], 1), &some), "points: expected shape [?, ?], found [4]");
}

#[test]
fn half_precision_is_searched_in_single() {
    let (points, codes) = (noise(&[64, 8], 1).to_kind(Kind::BFloat16), noise(&[32, 8], 2).to_kind(Kind::BFloat16));
    let single = |t: &Tensor| t.to_kind(Kind::Float);
    let half = nearest(&points, &codes, Distance::SquaredL2, tile_budget(CPU)).unwrap();
    let full = nearest(&single(&points), &single(&codes), Distance::SquaredL2, tile_budget(CPU)).unwrap();
    assert_eq!(half.distances.kind(), Kind::Float);
    assert_eq!((half.indices, half.distances), (full.indices, full.distances));
}

#[test]
fn no_gradient_is_recorded() {
    let codes = noise(&[4, 3], 1).set_requires_grad(true);
    let points = noise(&[5, 3], 2).set_requires_grad(true);
    assert!(!nearest(&points, &codes, Distance::SquaredL2, 64).unwrap().distances.requires_grad());
}

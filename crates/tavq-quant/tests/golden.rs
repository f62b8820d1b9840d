//! The online clustered codebook against runs of its authors' code, recorded by `golden/cvq.py`: every step's
//! indices, loss, perplexity, average use and codebook.
//!
//! Codes that were pulled to the same vector lie about 1e-5 apart, so which of them is nearest to that vector hangs
//! on the last bit of a score; PyTorch itself does not repeat the recorded choice. There a cell counts as equal
//! when both codes are equally near, and the recorded code is what enters the statistics.

mod common;

use std::path::Path;

use common::gap;
use tavq_quant::{Anchor, Cvq, CvqConfig, Distance, Quantizer, Usage};
use tavq_torch::TensorFile;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const TOLERANCE: f64 = 1e-5;
/// Distances closer than this share of their terms, about four roundings of an f32, are ties.
const TIE: f64 = 5e-7;

/// Runs a recording from its first codebook; prints the largest differences of codebook, use, loss and perplexity.
fn replay(name: &str, distance: Distance, contrastive: f64) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("cvq_{name}.safetensors"));
    let file = TensorFile::open(&path).unwrap();
    let get = |name: &str| file.get(name).unwrap();
    let (features, books, indices) = (get("features"), get("codebooks"), get("indices"));
    let (prob, loss, perplexity) = (get("prob"), get("loss"), get("perplexity"));
    let first = get("codebook0");
    let (codes, dim) = first.size2().unwrap();

    let store = VarStore::new(Device::Cpu);
    let config = CvqConfig { codes, distance, anchor: Anchor::Closest, contrastive, ..CvqConfig::default() };
    let mut cvq = Cvq::new(&store.root(), &config, dim).unwrap();
    let variable = |name: &str| store.variables()[name].shallow_clone();
    tch::no_grad(|| variable("embedding.weight").copy_(&first));

    let mut worst = [0f64; 4];
    let mut ties = 0;
    for step in 0..features.size()[0] {
        let latent = features.get(step);
        let mut quantized = cvq.quantize(&latent, true).unwrap();
        let recorded = indices.get(step).view_as(&quantized.indices);
        let apart = apart(&cvq, distance, &latent, &quantized.indices, &recorded);
        assert!(apart <= TIE, "{name}: indices of step {step} are no ties, distances differ by {apart:e}");
        ties += quantized.indices.not_equal_tensor(&recorded).sum(Kind::Int64).int64_value(&[]);
        quantized.indices = recorded;
        let mut usage = Usage::new(codes);
        usage.add(&quantized.indices).unwrap();
        let update = cvq.batch_update().unwrap();
        let statistics = update.collect(&latent, &quantized).unwrap();
        update.apply(&statistics, step as u64).unwrap();
        let found = [
            gap(&variable("embedding.weight"), &books.get(step)),
            gap(&variable("embed_prob"), &prob.get(step)),
            (quantized.loss.double_value(&[]) - loss.double_value(&[step])).abs(),
            (usage.report().perplexity - perplexity.double_value(&[step])).abs(),
        ];
        for ((what, found), worst) in ["codebook", "use", "loss", "perplexity"].iter().zip(found).zip(&mut worst) {
            assert!(found <= TOLERANCE, "{name}: {what} of step {step} differs by {found:e}");
            *worst = worst.max(found);
        }
    }
    let cells = indices.numel() as i64;
    assert!(ties * 20 <= cells, "{name}: {ties} ties decided otherwise in {cells} cells");
    println!("{name}: {worst:?}, {ties} of {cells} cells are ties decided otherwise");
}

/// Largest difference between a cell's distances to two codes, as a share of the terms that a distance is made of.
fn apart(cvq: &Cvq, distance: Distance, latent: &Tensor, one: &Tensor, other: &Tensor) -> f64 {
    let z = latent.permute([0, 2, 3, 1]).to_kind(Kind::Double);
    let dot = |a: &Tensor, b: &Tensor| (a * b).sum_dim_intlist([-1i64].as_slice(), false, None);
    let codes = |indices: &Tensor| cvq.lookup(indices).unwrap().to_kind(Kind::Double);
    let (one, other) = (codes(one), codes(other));
    let far = |e: &Tensor| match distance {
        Distance::SquaredL2 => dot(&(&z - e), &(&z - e)),
        Distance::Cosine => -dot(&z, e) / (dot(&z, &z) * dot(e, e)).sqrt(),
    };
    let terms = match distance {
        Distance::SquaredL2 => dot(&z, &z) + dot(&one, &one),
        Distance::Cosine => dot(&z, &z).ones_like(),
    };
    gap(&(far(&one) / &terms), &(far(&other) / &terms))
}

#[test]
fn closest_by_squared_distance() {
    replay("closest_l2", Distance::SquaredL2, 0.0);
}

#[test]
fn closest_by_cosine() {
    replay("closest_cos", Distance::Cosine, 0.0);
}

#[test]
fn closest_by_cosine_with_the_contrastive_loss() {
    replay("closest_cos_contrastive", Distance::Cosine, 1.0);
}

#[test]
fn the_contrastive_loss_has_the_gradient_of_its_formula() {
    for distance in [Distance::SquaredL2, Distance::Cosine] {
        let store = VarStore::new(Device::Cpu);
        let make =
            |contrastive| CvqConfig { codes: 5, distance, contrastive, temperature: 3.0, ..CvqConfig::default() };
        let mut gradients = Vec::new();
        for (at, weight) in [("with", 1.0), ("without", 0.0)] {
            let cvq = Cvq::new(&(store.root() / at), &make(weight), 3).unwrap();
            let mut book = store.variables()[&format!("{at}.embedding.weight")].shallow_clone();
            tch::no_grad(|| book.copy_(&common::noise(&[5, 3], 1)));
            cvq.quantize(&common::noise(&[2, 3, 3, 4], 2), true).unwrap().loss.backward();
            gradients.push(book.grad());
        }
        let book = common::noise(&[5, 3], 1).set_requires_grad(true);
        let rows = common::noise(&[2, 3, 3, 4], 2).permute([0, 2, 3, 1]).reshape([24, 3]);
        formula(&rows, &book, distance).backward();
        let found = gap(&(&gradients[0] - &gradients[1]), &book.grad());
        let scale = book.grad().abs().max().double_value(&[]);
        assert!(scale > 1e-3 && found <= 1e-5 * scale, "{distance:?}: {found:e} of {scale}");
    }
}

/// The loss as its paper writes it, by sorting all scores, for autograd to differentiate.
fn formula(rows: &Tensor, book: &Tensor, distance: Distance) -> Tensor {
    let unit = |t: &Tensor| t / t.norm_scalaropt_dim(2, [1i64], true);
    let scores = match distance {
        Distance::SquaredL2 => {
            -(rows.unsqueeze(1) - book.unsqueeze(0)).square().sum_dim_intlist([2i64].as_slice(), false, None)
        }
        Distance::Cosine => unit(rows).mm(&unit(book).transpose(0, 1)),
    };
    let (n, k) = scores.size2().unwrap();
    let (sorted, _) = scores.sort(0, false);
    let top = (n / k).max(1);
    let positive = sorted.narrow(0, n - top, top).mean_dim([0i64].as_slice(), true, None);
    let logits = Tensor::cat(&[positive, sorted.narrow(0, 0, n / 2)], 0).transpose(0, 1) / 3.0;
    logits.cross_entropy_for_logits(&Tensor::zeros([k], (Kind::Int64, Device::Cpu)))
}

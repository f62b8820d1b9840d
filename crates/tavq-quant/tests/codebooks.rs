//! Losses, gradients and updates of the standard codebooks against their formulas.

mod common;

use common::{build, gap, learn_from, noise, set, variable};
use tavq_quant::{
    Anchor, CvqConfig, Distance, EmaConfig, Form, Quantized, Quantizer, QuantizerConfig, Start, Usage, VqConfig,
};
use tavq_torch::{TensorFile, load_variables, write_tensors};
use tch::{Device, Kind, Reduction, Tensor};

/// One pass with statistics.
fn learn(quantizer: &mut dyn Quantizer, latent: &Tensor, step: u64) -> Quantized {
    let quantized = quantizer.quantize(latent, true).unwrap();
    let update = quantizer.batch_update().unwrap();
    let statistics = update.collect(latent, &quantized).unwrap();
    update.apply(&statistics, step).unwrap();
    quantized
}

#[test]
fn beta_weighs_the_term_that_the_form_names() {
    let (codes, beta) = (6, 0.3);
    let vq = |form| QuantizerConfig::Vq(VqConfig { codes, beta, form, ..VqConfig::default() });
    let cvq = QuantizerConfig::Cvq(CvqConfig { codes, beta, distance: Distance::SquaredL2, ..CvqConfig::default() });
    let ema = QuantizerConfig::Ema(EmaConfig { codes, beta, ..EmaConfig::default() });
    let table = [
        (vq(Form::Standard), beta, Some(1.0)),
        (vq(Form::Legacy), 1.0, Some(beta)),
        (cvq, beta, Some(1.0)),
        (ema, beta, None),
    ];
    let latent = noise(&[2, 4, 3, 3], 1);
    for (config, commitment, codebook) in table {
        let (store, quantizer) = build(&config, 4);
        let book = variable(&store, "embedding.weight");
        set(&store, "embedding.weight", &noise(&[6, 4], 2));
        let z = latent.copy().set_requires_grad(true);
        let q = quantizer.quantize(&z, true).unwrap();
        q.loss.backward();

        let codes = quantizer.lookup(&q.indices).unwrap().detach().permute([0, 3, 1, 2]);
        let apart = latent.mse_loss(&codes, Reduction::Mean).double_value(&[]);
        let expected = (commitment + codebook.unwrap_or(0.0)) * apart;
        assert!((q.loss.double_value(&[]) - expected).abs() < 1e-6, "{config:?}");
        let slope = (&latent - &codes) * (2.0 / latent.numel() as f64);
        assert!(gap(&z.grad(), &(&slope * commitment)) < 1e-8, "{config:?}");
        let Some(codebook) = codebook else {
            assert!(!book.grad().defined(), "{config:?}");
            continue;
        };
        let cells = (slope * -codebook).permute([0, 2, 3, 1]).reshape([-1, 4]);
        let expected = Tensor::zeros([6, 4], (Kind::Float, Device::Cpu)).index_add(0, &q.indices.view([-1]), &cells);
        assert!(gap(&book.grad(), &expected) < 1e-7, "{config:?}");
    }
}

#[test]
fn the_latent_holds_the_codes_bit_for_bit_and_passes_its_gradient_on() {
    let kinds = [
        QuantizerConfig::Vq(VqConfig { codes: 6, ..VqConfig::default() }),
        QuantizerConfig::Ema(EmaConfig { codes: 6, ..EmaConfig::default() }),
        QuantizerConfig::Ema(EmaConfig { codes: 6, normalize: true, ..EmaConfig::default() }),
        QuantizerConfig::Cvq(CvqConfig { codes: 6, ..CvqConfig::default() }),
    ];
    // In rows, with channels last, and a window of a larger latent.
    let layouts = [
        noise(&[2, 4, 3, 3], 1),
        noise(&[2, 3, 3, 4], 1).permute([0, 3, 1, 2]),
        noise(&[2, 4, 5, 7], 1).narrow(2, 1, 3).narrow(3, 2, 3),
    ];
    for config in kinds {
        let unit = matches!(&config, QuantizerConfig::Ema(ema) if ema.normalize);
        let (_store, quantizer) = build(&config, 4);
        for z in &layouts {
            let z = (z * 1e4).set_requires_grad(true);
            let q = quantizer.quantize(&z, true).unwrap();
            assert_eq!(q.latent.detach(), quantizer.lookup(&q.indices).unwrap().detach().permute([0, 3, 1, 2]));
            let direction = noise(&[2, 4, 3, 3], 2);
            (&q.latent * &direction).sum(Kind::Float).backward();
            // Of unit vectors it passes the normalisation, which takes what is along them.
            let expected = match unit {
                false => direction,
                true => {
                    let norm = z.detach().norm_scalaropt_dim(2.0, [1].as_slice(), true);
                    let along = z.detach() / &norm;
                    let part = (&along * &direction).sum_dim_intlist([1].as_slice(), true, Kind::Float);
                    (&direction - along * part) / norm
                }
            };
            let most = if unit { 1e-9 } else { 0.0 };
            assert!(gap(&z.grad(), &expected) <= most, "{config:?}");
        }
    }
}

/// More vectors than a search takes at a time, against plain sums in f64.
#[test]
fn a_step_of_cvq_through_many_parts() {
    let (n, k, dim) = (2 * 70 * 190, 5i64, 3i64);
    let config = CvqConfig { codes: k, anchor: Anchor::Closest, distance: Distance::SquaredL2, ..CvqConfig::default() };
    let beta = config.beta;
    let (store, mut quantizer) = build(&QuantizerConfig::Cvq(config), dim);
    let codes = noise(&[k, dim], 3);
    set(&store, "embedding.weight", &codes);
    let latent = noise(&[2, dim, 70, 190], 4).set_requires_grad(true);
    let q = quantizer.quantize(&latent, true).unwrap();
    q.loss.backward();
    let (rows, codes) = (latent.detach().permute([0, 2, 3, 1]).reshape([n, dim]), codes.to_kind(Kind::Double));
    let rows = rows.to_kind(Kind::Double);
    let apart = (rows.unsqueeze(1) - codes.unsqueeze(0)).square().sum_dim_intlist([2].as_slice(), false, Kind::Double);
    let indices = apart.argmin(1, false);
    assert_eq!(q.indices.view([-1]), indices);
    let gaps = codes.index_select(0, &indices) - &rows;
    let mean = gaps.square().mean(Kind::Double).double_value(&[]);
    assert!((q.loss.double_value(&[]) - (1.0 + beta) * mean).abs() < 1e-6 * mean);
    let slope = Tensor::zeros_like(&codes).index_add(0, &indices, &gaps) * (2.0 / gaps.numel() as f64);
    let rounding = 1e-5 * slope.abs().max().double_value(&[]);
    assert!(gap(&variable(&store, "embedding.weight").grad(), &slope) < rounding);
    // Every code moves to the vector that is nearest to it; its use is the share of its cells.
    let update = quantizer.batch_update().unwrap();
    let statistics = update.collect(&latent, &q).unwrap();
    update.apply(&statistics, 0).unwrap();
    let used = indices.bincount::<Tensor>(None, k).to_kind(Kind::Double) / n as f64 * 0.01;
    assert!(gap(&variable(&store, "embed_prob"), &used) < 1e-7);
    let pull = (&used * (-10.0 * k as f64 / 0.01) - 1e-3).exp().unsqueeze(1);
    let expected = &codes * (1.0 - &pull) + rows.index_select(0, &apart.argmin(0, false)) * &pull;
    assert!(gap(&variable(&store, "embedding.weight"), &expected) < 1e-6);
}

#[test]
fn moving_averages_follow_their_formula() {
    let (keep, eps, dim) = (0.8, 1e-2, 2usize);
    let config = EmaConfig { codes: 3, decay: keep, epsilon: eps, ..EmaConfig::default() };
    let (store, mut quantizer) = build(&QuantizerConfig::Ema(config), dim as i64);
    assert!(store.trainable_variables().is_empty());
    let start = noise(&[3, 2], 1);
    set(&store, "embedding.weight", &start);
    set(&store, "embedding.embed_avg", &start);
    let mut avg: Vec<f64> = Vec::try_from(start.to_kind(Kind::Double).view([-1])).unwrap();
    let mut size = [1.0f64; 3];
    for step in 0..3 {
        let latent = noise(&[2, 2, 3, 1], 10 + step);
        let q = learn(quantizer.as_mut(), &latent, step);
        let rows: Vec<f64> = Vec::try_from(latent.permute([0, 2, 3, 1]).reshape([-1]).to_kind(Kind::Double)).unwrap();
        let indices: Vec<i64> = Vec::try_from(q.indices.view([-1])).unwrap();
        size = size.map(|s| s * keep);
        avg.iter_mut().for_each(|a| *a *= keep);
        for (row, k) in rows.chunks(dim).zip(indices) {
            let k = k as usize;
            size[k] += 1.0 - keep;
            (0..dim).for_each(|d| avg[k * dim + d] += (1.0 - keep) * row[d]);
        }
        let total: f64 = size.iter().sum();
        let codes: Vec<f64> =
            (0..3 * dim).map(|i| avg[i] / ((size[i / dim] + eps) / (total + 3.0 * eps) * total)).collect();
        let expected = [
            ("embedding.weight", codes),
            ("embedding.embed_avg", avg.clone()),
            ("embedding.cluster_size", size.to_vec()),
        ];
        for (name, expected) in expected {
            let found = variable(&store, name).view([-1]);
            assert!(gap(&found, &Tensor::from_slice(&expected)) < 1e-6, "{name} of step {step}");
        }
    }
}

#[test]
fn moving_averages_of_two_batches_are_those_of_both_in_one() {
    let config = QuantizerConfig::Ema(EmaConfig { codes: 8, ..EmaConfig::default() });
    let batch = noise(&[4, 3, 2, 2], 1);
    let mut books = Vec::new();
    for parts in [vec![batch.narrow(0, 0, 4)], vec![batch.narrow(0, 0, 1), batch.narrow(0, 1, 3)]] {
        let (store, mut quantizer) = build(&config, 3);
        for name in ["embedding.weight", "embedding.embed_avg"] {
            set(&store, name, &noise(&[8, 3], 2));
        }
        learn_from(quantizer.as_mut(), &parts);
        books.push(variable(&store, "embedding.weight"));
    }
    assert!(gap(&books[0], &books[1]) < 1e-6);
}

#[test]
fn a_dead_code_restarts_as_a_vector_of_the_batch() {
    let config = EmaConfig { codes: 4, decay: 0.5, expire_below: 0.75, ..EmaConfig::default() };
    let (store, mut quantizer) = build(&QuantizerConfig::Ema(config), 2);
    // Three codes far from every vector: their count falls to 0.5.
    let far = Tensor::from_slice(&[0f32, 0.0, 1e3, 0.0, 0.0, 1e3, -1e3, 0.0]).view([4, 2]);
    set(&store, "embedding.weight", &far);
    set(&store, "embedding.embed_avg", &far);
    let latent = noise(&[1, 2, 4, 4], 1);
    learn(quantizer.as_mut(), &latent, 0);
    let rows = latent.permute([0, 2, 3, 1]).reshape([-1, 2]);
    let (book, avg) = (variable(&store, "embedding.weight"), variable(&store, "embedding.embed_avg"));
    let size: Vec<f32> = Vec::try_from(variable(&store, "embedding.cluster_size")).unwrap();
    assert_eq!(size, [0.5 + 0.5 * 16.0, 0.75, 0.75, 0.75]);
    for code in 1..4 {
        let same = rows.eq_tensor(&book.get(code)).all_dim(1, false).any().int64_value(&[]);
        assert_eq!(same, 1, "code {code} is no vector of the batch");
        assert_eq!(avg.get(code), book.get(code) * 0.75);
    }
    assert!(gap(&book.get(0), &rows.mean_dim([0i64].as_slice(), false, None)) < 0.2);
}

#[test]
fn the_first_batch_replaces_all_codes_once() {
    let config = VqConfig { codes: 9, start: Start::FirstBatch, ..VqConfig::default() };
    let (store, mut quantizer) = build(&QuantizerConfig::Vq(config), 2);
    let latent = noise(&[1, 2, 4, 4], 1);
    learn(quantizer.as_mut(), &latent, 0);
    let book = variable(&store, "embedding.weight").detach();
    let rows = latent.permute([0, 2, 3, 1]).reshape([-1, 2]);
    let equal = book.unsqueeze(1).eq_tensor(&rows.unsqueeze(0)).all_dim(2, false);
    // Each code is one of the vectors, no two the same.
    assert_eq!(equal.sum(Kind::Int64).int64_value(&[]), 9);
    assert_eq!(equal.any_dim(0, false).sum(Kind::Int64).int64_value(&[]), 9);
    let other = noise(&[1, 2, 4, 4], 2);
    let q = quantizer.quantize(&other, true).unwrap();
    assert!(quantizer.batch_update().unwrap().collect(&other, &q).unwrap().is_empty());
    learn(quantizer.as_mut(), &other, 1);
    assert_eq!(variable(&store, "embedding.weight").detach(), book);
}

#[test]
fn an_unused_code_of_cvq_moves_and_a_used_one_stays() {
    let config = CvqConfig { codes: 2, distance: Distance::SquaredL2, ..CvqConfig::default() };
    let (store, mut quantizer) = build(&QuantizerConfig::Cvq(config), 1);
    set(&store, "embedding.weight", &Tensor::from_slice(&[0f32, 100.0]).view([2, 1]));
    set(&store, "embed_prob", &Tensor::from_slice(&[0.5f32, 0.0]));
    learn(quantizer.as_mut(), &Tensor::from_slice(&[1f32; 4]).view([1, 1, 2, 2]), 0);
    let book: Vec<f64> = Vec::try_from(variable(&store, "embedding.weight").to_kind(Kind::Double).view([-1])).unwrap();
    let pull = (-1e-3f64).exp();
    assert_eq!(book[0], 0.0);
    assert!((book[1] - (100.0 * (1.0 - pull) + pull)).abs() < 1e-5, "{book:?}");
    let used: Vec<f64> = Vec::try_from(variable(&store, "embed_prob").to_kind(Kind::Double)).unwrap();
    assert!((used[0] - (0.5 * 0.99 + 0.01)).abs() < 1e-7 && used[1] == 0.0, "{used:?}");
}

#[test]
fn a_batch_without_vectors_leaves_every_code() {
    let none = Tensor::zeros([0, 3, 2, 2], (Kind::Float, Device::Cpu));
    let configs = [
        QuantizerConfig::Vq(VqConfig { codes: 5, start: Start::FirstBatch, ..VqConfig::default() }),
        QuantizerConfig::Cvq(CvqConfig { codes: 5, ..CvqConfig::default() }),
        QuantizerConfig::Ema(EmaConfig { codes: 5, ..EmaConfig::default() }),
        QuantizerConfig::Ema(EmaConfig { codes: 5, expire_below: 2.0, ..EmaConfig::default() }),
    ];
    for config in configs {
        let (store, mut quantizer) = build(&config, 3);
        let before = variable(&store, "embedding.weight").copy();
        learn(quantizer.as_mut(), &none, 0);
        assert!(gap(&variable(&store, "embedding.weight"), &before) < 1e-6, "{config:?}");
    }
}

#[test]
fn a_file_of_the_variables_is_the_whole_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("codes.safetensors");
    let configs = [
        (
            QuantizerConfig::Vq(VqConfig { codes: 7, start: Start::FirstBatch, ..VqConfig::default() }),
            vec!["embedding.weight", "started"],
        ),
        (
            QuantizerConfig::Ema(EmaConfig { codes: 7, ..EmaConfig::default() }),
            vec!["embedding.cluster_size", "embedding.embed_avg", "embedding.weight"],
        ),
        (
            QuantizerConfig::Cvq(CvqConfig { codes: 7, anchor: Anchor::Closest, ..CvqConfig::default() }),
            vec!["embed_prob", "embedding.weight"],
        ),
    ];
    for (config, names) in configs {
        let (store, mut quantizer) = build(&config, 3);
        let mut found: Vec<_> = store.variables().into_keys().collect();
        found.sort();
        assert_eq!(found, names);
        learn(quantizer.as_mut(), &noise(&[2, 3, 3, 3], 1), 0);
        let variables: Vec<_> = store.variables().into_iter().collect();
        write_tensors(&path, &variables, &[]).unwrap();
        let (copy_store, mut copy) = build(&config, 3);
        load_variables(&copy_store, &TensorFile::open(&path).unwrap(), "").unwrap();
        for step in 1..3 {
            let latent = noise(&[2, 3, 3, 3], 1 + step);
            let (a, b) = (learn(quantizer.as_mut(), &latent, step), learn(copy.as_mut(), &latent, step));
            assert_eq!((a.latent, a.indices, a.loss), (b.latent, b.indices, b.loss), "{config:?}");
        }
        for name in names {
            assert_eq!(variable(&store, name), variable(&copy_store, name), "{name}");
        }
    }
}

#[test]
fn usage_counts_codes_over_batches() {
    let mut usage = Usage::new(4);
    let empty = usage.report();
    assert_eq!((empty.codes, empty.vectors, empty.used, empty.dead, empty.perplexity), (4, 0, 0, 4, 0.0));
    usage.add(&Tensor::from_slice(&[0i64, 0, 1]).view([1, 3])).unwrap();
    let mut other = Usage::new(4);
    other.add(&Tensor::from_slice(&[3i64])).unwrap();
    usage.merge(&other).unwrap();
    assert_eq!((usage.counts(), usage.dead()), ([2, 1, 0, 1].as_slice(), vec![2]));
    let report = usage.report();
    // Shares 1/2, 1/4, 1/4: 1.5 bits.
    assert_eq!((report.vectors, report.used, report.dead, report.used_share), (4, 3, 1, 0.75));
    assert_eq!((report.entropy_bits, report.perplexity), (1.5, 1.5f64.exp2()));
    assert_eq!(Usage::from_counts(vec![5; 16]).report().perplexity, 16.0);
    assert_eq!(Usage::from_counts(vec![0, 9]).report().perplexity, 1.0);
}

#[test]
fn usage_refuses_what_is_no_index() {
    let mut usage = Usage::new(4);
    let mut refused = |t: Tensor| usage.add(&t).unwrap_err().to_string();
    assert_eq!(refused(Tensor::from_slice(&[0i64, 4])), "indices: expected int64 indices in 0..4, found 0..=4");
    assert_eq!(refused(Tensor::from_slice(&[-2i64])), "indices: expected int64 indices in 0..4, found -2..=-2");
    assert_eq!(refused(Tensor::from_slice(&[1i32])), "indices: expected int64 indices in 0..4, found Int");
    let error = usage.merge(&Usage::new(5)).unwrap_err().to_string();
    assert_eq!(error, "usage: expected 4 codes, found 5");
    assert_eq!(usage.counts(), [0; 4]);
}

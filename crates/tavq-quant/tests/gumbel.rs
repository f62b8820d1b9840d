//! The Gumbel codebook against its definition, worked out here in f64.

mod common;

use common::alone;
use tavq_quant::{Gumbel, GumbelConfig, Quantizer};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

fn make(config: GumbelConfig) -> (VarStore, Gumbel) {
    tch::manual_seed(5);
    let store = VarStore::new(Device::Cpu);
    let gumbel = Gumbel::new(&(store.root() / "quantize"), &config, 6).unwrap();
    (store, gumbel)
}

fn latent() -> Tensor {
    tch::manual_seed(6);
    Tensor::randn([2, 6, 3, 4], (Kind::Float, Device::Cpu))
}

fn small() -> GumbelConfig {
    GumbelConfig { codes: 20, kl_weight: 0.5, ..GumbelConfig::default() }
}

#[test]
fn names_are_the_published_ones() {
    let _alone = alone();
    let (store, _) = make(small());
    let mut names: Vec<_> = store.variables().into_iter().map(|(n, t)| (n, t.size())).collect();
    names.sort();
    let expected = [
        ("quantize.embed.weight", vec![20, 6]),
        ("quantize.proj.bias", vec![20]),
        ("quantize.proj.weight", vec![20, 6, 1, 1]),
    ];
    assert_eq!(names, expected.map(|(n, s)| (n.to_owned(), s)));
}

#[test]
fn outside_training_the_best_score_wins() {
    let _alone = alone();
    let (store, gumbel) = make(small());
    let vars = store.variables();
    let get = |name: &str| vars[name].detach().to_kind(Kind::Double);
    let z = latent();
    let q = gumbel.quantize(&z, false).unwrap();
    let rows = z.to_kind(Kind::Double).permute([0, 2, 3, 1]);
    let logits = rows.matmul(&get("quantize.proj.weight").view([20, 6]).tr()) + get("quantize.proj.bias");
    assert_eq!(q.indices, logits.argmax(-1, false));
    let codes = get("quantize.embed.weight").index_select(0, &q.indices.view([-1])).view([2, 3, 4, 6]);
    assert_eq!(q.latent.permute([0, 2, 3, 1]).to_kind(Kind::Double), codes);
    assert_eq!(gumbel.lookup(&q.indices).unwrap().to_kind(Kind::Double), codes);
    let share = logits.softmax(-1, Kind::Double);
    let loss = (&share * (&share * 20.0 + 1e-10).log()).sum_dim_intlist([-1i64].as_slice(), false, Kind::Double);
    let expected = loss.mean(Kind::Double).double_value(&[]) * 0.5;
    assert!((q.loss.double_value(&[]) - expected).abs() < 1e-6);
    assert_eq!(gumbel.quantize(&z, false).unwrap().latent, q.latent);
}

#[test]
fn training_draws_codes_by_their_softmax_and_reaches_every_variable() {
    let _alone = alone();
    let (store, gumbel) = make(GumbelConfig { codes: 3, kl_weight: 0.0, ..GumbelConfig::default() });
    // One vector in very many cells: the frequencies of its codes are their shares, whatever the temperature.
    let z = latent().narrow(0, 0, 1).narrow(2, 0, 1).narrow(3, 0, 1).expand([1, 6, 200, 200], false).contiguous();
    let vars = store.variables();
    let logits = vars["quantize.proj.weight"].view([3, 6]).matmul(&z.select(3, 0).select(2, 0).view([6]));
    let share = (logits + &vars["quantize.proj.bias"]).softmax(0, Kind::Float);
    let found = gumbel.quantize(&z, true).unwrap();
    let counts = found.indices.view([-1]).bincount::<Tensor>(None, 3).to_kind(Kind::Float) / 40_000.0;
    let gap = (counts - &share).abs().max().double_value(&[]);
    // Four deviations of a share of 40,000 draws are 0.01.
    assert!(gap < 0.01, "{gap}");
    let codes = gumbel.lookup(&found.indices).unwrap().permute([0, 3, 1, 2]);
    assert_eq!(found.latent, codes, "values are codes to the bit");

    let z = latent().set_requires_grad(true);
    let signs = Tensor::randn([2, 6, 3, 4], (Kind::Float, Device::Cpu));
    (gumbel.quantize(&z, true).unwrap().latent * signs).sum(Kind::Float).backward();
    for (name, tensor) in vars.iter().map(|(n, t)| (n.as_str(), t)).chain([("latent", &z)]) {
        assert!(tensor.grad().defined() && tensor.grad().abs().sum(Kind::Float).double_value(&[]) > 0.0, "{name}");
    }
}

#[test]
fn gradients_are_those_of_the_definition() {
    let _alone = alone();
    let (store, gumbel) = make(GumbelConfig { temperature: 0.6, ..small() });
    let vars = store.variables();
    let signs = Tensor::randn([2, 6, 3, 4], (Kind::Float, Device::Cpu));
    let names = ["quantize.embed.weight", "quantize.proj.weight", "quantize.proj.bias"];
    let grads = |loss: Tensor, z: &Tensor| -> Vec<Tensor> {
        let inputs: Vec<&Tensor> = names.iter().map(|n| &vars[*n]).chain([z]).collect();
        Tensor::run_backward(&[loss], &inputs, false, false)
    };
    let z = latent().set_requires_grad(true);
    tch::manual_seed(9);
    let q = gumbel.quantize(&z, true).unwrap();
    let found = grads((&q.latent * &signs).sum(Kind::Float) + &q.loss, &z);
    // hard - sg(soft) + soft, times the codes, with the same noise.
    let (weight, embed) = (vars["quantize.proj.weight"].view([20, 6]), &vars["quantize.embed.weight"]);
    let logits = z.permute([0, 2, 3, 1]).matmul(&weight.tr()) + &vars["quantize.proj.bias"];
    let logits = logits.permute([0, 3, 1, 2]);
    tch::manual_seed(9);
    let noise = -logits.detach().empty_like().exponential_(1.0).log();
    let soft = ((&logits + noise) / 0.6).softmax(1, Kind::Float).permute([0, 2, 3, 1]);
    let hard = soft.argmax(-1, false).one_hot(20).to_kind(Kind::Float);
    assert_eq!(hard.argmax(-1, false), q.indices);
    let codes = hard.matmul(embed) + (&soft - soft.detach()).matmul(&embed.detach());
    let share = logits.softmax(1, Kind::Float);
    let divergence = (&share * (&share * 20.0 + 1e-10).log()).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
    let loss = (codes.permute([0, 3, 1, 2]) * &signs).sum(Kind::Float) + divergence.mean(Kind::Float) * 0.5;
    for (found, expected) in found.iter().zip(grads(loss, &z)) {
        let gap = (found - &expected).abs().max().double_value(&[]);
        assert!(gap < 1e-5 * expected.abs().max().double_value(&[]).max(1.0), "{gap}");
    }
}

#[test]
fn refusals() {
    let _alone = alone();
    let (_, gumbel) = make(small());
    assert!(gumbel.quantize(&latent().narrow(1, 0, 5), false).is_err());
    assert!(gumbel.lookup(&Tensor::from_slice(&[20i64])).is_err());
    for (config, field) in [
        (GumbelConfig { codes: 0, ..small() }, "quantizer.codes"),
        (GumbelConfig { temperature: 0.0, ..small() }, "quantizer.temperature"),
        (GumbelConfig { kl_weight: -1.0, ..small() }, "quantizer.kl_weight"),
    ] {
        let error = Gumbel::new(&VarStore::new(Device::Cpu).root(), &config, 6).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
}

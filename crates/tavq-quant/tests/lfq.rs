//! Lookup-free quantization against vector-quantize-pytorch, recorded by `golden/lucidrains.py`, and against the sums over all
//! codes that its entropies stand for.

mod common;

use common::{Recorded, build, gap, noise};
use tavq_quant::{LfqConfig, Quantizer, QuantizerConfig};
use tavq_torch::peak_memory;
use tch::{Device, Kind, Tensor};

fn lfq(config: LfqConfig) -> Box<dyn Quantizer> {
    let bits = config.bits;
    build(&QuantizerConfig::Lfq(config), bits).1
}

#[test]
fn codes_loss_and_gradients_agree_with_vector_quantize_pytorch() {
    for (name, bits, scale) in [("lfq.small", 6, 1.0), ("lfq.half", 6, 0.5), ("lfq.large", 12, 1.0)] {
        let recorded = Recorded::open(name);
        let base = LfqConfig { bits, scale, beta: 0.25, diversity: 0.7, ..LfqConfig::default() };
        let z = recorded.get("latent").set_requires_grad(true);
        let q = lfq(base.clone()).quantize(&z, true).unwrap();
        (&q.loss + (&q.latent * recorded.get("direction")).sum(Kind::Float)).backward();
        assert_eq!(q.indices, recorded.get("indices").to_kind(Kind::Int64), "{name}");
        recorded.agrees("quantized", &q.latent);
        recorded.agrees("loss", &q.loss);
        recorded.agrees("latent_grad", &z.grad());
        let entropy = |diversity| {
            let config = LfqConfig { beta: 0.0, entropy: 1.0, diversity, ..base.clone() };
            lfq(config).quantize(&z, true).unwrap().loss
        };
        recorded.agrees("each", &entropy(0.0));
        recorded.agrees("batch", &(entropy(0.0) - entropy(1.0)));
    }
}

#[test]
fn the_entropies_are_those_of_all_codes() {
    for bits in [1, 2, 3, 7, 10] {
        let config = LfqConfig { bits, entropy: 1.0, diversity: 2.5, temperature: 0.4, ..LfqConfig::default() };
        let quantizer = lfq(config);
        // More vectors than one tile holds at 10 bits would take 2^17; several tiles are checked below.
        let latent = noise(&[3, bits, 4, 4], 1);
        let z = latent.copy().set_requires_grad(true);
        let found = quantizer.quantize(&z, true).unwrap().loss;
        found.backward();

        let w = latent.copy().set_requires_grad(true);
        let all = quantizer.lookup(&Tensor::arange(1 << bits, (Kind::Int64, Device::Cpu))).unwrap();
        let rows = w.permute([0, 2, 3, 1]).reshape([-1, bits]);
        let logits: Tensor = rows.mm(&all.transpose(0, 1)) * (2.0 / 0.4);
        let log = logits.log_softmax(1, Kind::Float);
        let each = -(log.exp() * &log).sum_dim_intlist([1i64].as_slice(), false, None).mean(Kind::Float);
        let share = log.exp().mean_dim([0i64].as_slice(), false, None);
        let batch = -(&share * share.log()).sum(Kind::Float);
        let expected = each - batch * 2.5;
        expected.backward();
        assert!(gap(&found, &expected) < 1e-4, "{bits} bits: {found:?} for {expected:?}");
        assert!(gap(&z.grad(), &w.grad()) < 1e-5, "{bits} bits");
    }
}

#[test]
fn a_batch_counts_the_same_in_one_tile_or_in_many() {
    // At 18 bits a tile of the CPU's budget holds 2048 vectors.
    let config = LfqConfig { bits: 18, entropy: 1.0, temperature: 1.0, ..LfqConfig::default() };
    let quantizer = lfq(config);
    let few = noise(&[1, 18, 20, 20], 1) * 0.1;
    let (one, many) = (few.copy().set_requires_grad(true), few.repeat([11, 1, 1, 1]).set_requires_grad(true));
    let [a, b] = [&one, &many].map(|z| {
        let loss = quantizer.quantize(z, true).unwrap().loss;
        loss.backward();
        loss
    });
    assert!(gap(&a, &b) < 1e-4, "{a:?} and {b:?}");
    assert!(gap(&(many.grad().narrow(0, 7, 1) * 11.0), &one.grad()) < 1e-6);
    // The table of 4400 vectors and 2^18 codes would take 4.3 GiB.
    if let Some(peak) = peak_memory() {
        assert!(peak < 1 << 30, "{} MiB", peak >> 20);
    }
}

#[test]
fn far_vectors_have_finite_losses_and_gradients() {
    for size in [0.0, 1e-30, 1e4, 1e30] {
        let z = (noise(&[2, 8, 3, 3], 1) * size).set_requires_grad(true);
        let q = lfq(LfqConfig { bits: 8, ..LfqConfig::default() }).quantize(&z, true).unwrap();
        (&q.loss + q.latent.sum(Kind::Float)).backward();
        assert!(q.loss.double_value(&[]).is_finite(), "{size:e}: {:?}", q.loss);
        assert_eq!(z.grad().isfinite().all().int64_value(&[]), 1, "{size:e}");
    }
    let none = Tensor::zeros([0, 8, 3, 3], (Kind::Float, Device::Cpu));
    let q = lfq(LfqConfig { bits: 8, ..LfqConfig::default() }).quantize(&none, true).unwrap();
    assert_eq!((q.loss.double_value(&[]), q.indices.size()), (0.0, vec![0, 3, 3]));
}

#[test]
fn the_first_component_is_the_highest_bit() {
    let quantizer = lfq(LfqConfig { bits: 3, scale: 2.0, ..LfqConfig::default() });
    let z = Tensor::from_slice(&[5f32, -0.1, 0.1]).view([1, 3, 1, 1]);
    let q = quantizer.quantize(&z, false).unwrap();
    assert_eq!((q.indices.int64_value(&[0, 0, 0]), q.loss.double_value(&[])), (0b101, 0.0));
    assert_eq!(Vec::<f32>::try_from(q.latent.view([-1])).unwrap(), [2.0, -2.0, 2.0]);
    // Zero has no sign: its bit is 0.
    let q = quantizer.quantize(&z.zeros_like(), false).unwrap();
    assert_eq!(q.indices.int64_value(&[0, 0, 0]), 0);
}

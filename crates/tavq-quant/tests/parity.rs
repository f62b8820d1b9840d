//! `vq`, `ema` and their codes of length 1 against vector-quantize-pytorch and the formulas of taming-transformers and
//! LlamaGen, recorded by `golden/lucidrains.py`.

mod common;

use common::{Recorded, build, gap, set, variable};
use tavq_quant::{EmaConfig, Form, Quantizer, QuantizerConfig, VqConfig};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

fn vq(form: Form, beta: f64, normalize: bool, codes: &Tensor) -> (VarStore, Box<dyn Quantizer>) {
    let config = VqConfig { codes: codes.size()[0], beta, form, normalize, ..VqConfig::default() };
    let (store, quantizer) = build(&QuantizerConfig::Vq(config), codes.size()[1]);
    set(&store, "embedding.weight", codes);
    (store, quantizer)
}

/// Gradients of the latent and of the codes, after the whole loss or after the quantizer's own.
fn gradients(form: Form, direction: Option<&Tensor>) -> (Tensor, Tensor) {
    let recorded = Recorded::open("vq");
    let (store, quantizer) = vq(form, 0.3, false, &recorded.get("codes"));
    let z = recorded.get("latent").set_requires_grad(true);
    let q = quantizer.quantize(&z, true).unwrap();
    assert_eq!(q.indices, recorded.get("indices"));
    recorded.agrees("quantized", &q.latent);
    match direction {
        Some(direction) => (&q.loss + (&q.latent * direction).sum(Kind::Float)).backward(),
        None => q.loss.backward(),
    }
    (z.grad(), variable(&store, "embedding.weight").grad())
}

#[test]
fn both_forms_of_beta_agree_with_taming_transformers() {
    for (name, form) in [("vq.standard", Form::Standard), ("vq.legacy", Form::Legacy)] {
        let (recorded, inputs) = (Recorded::open(name), Recorded::open("vq"));
        let (_store, quantizer) = vq(form, 0.3, false, &inputs.get("codes"));
        recorded.agrees("loss", &quantizer.quantize(&inputs.get("latent"), true).unwrap().loss);
        let (latent, codes) = gradients(form, Some(&inputs.get("direction")));
        recorded.agrees("latent_grad", &latent);
        recorded.agrees("codes_grad", &codes);
    }
}

#[test]
fn the_terms_agree_with_vector_quantize_pytorch() {
    // There one mean squared distance moves vectors and codes alike; beta here weighs one of its two halves.
    let recorded = Recorded::open("vq");
    for (form, latent_share, codes_share) in [(Form::Standard, 0.3, 1.0), (Form::Legacy, 1.0, 0.3)] {
        let (latent, codes) = gradients(form, None);
        assert!(gap(&latent, &(recorded.get("latent_part") * latent_share)) < 1e-6, "{form:?}");
        assert!(gap(&codes, &(recorded.get("codes_part").squeeze_dim(0) * codes_share)) < 1e-6, "{form:?}");
        let (latent, _) = gradients(form, Some(&recorded.get("direction")));
        let expected = recorded.get("latent_part") * latent_share + recorded.get("quantized_grad");
        assert!(gap(&latent, &expected) < 1e-6, "{form:?}");
        let (_store, quantizer) = vq(form, 0.3, false, &recorded.get("codes"));
        let loss = quantizer.quantize(&recorded.get("latent"), true).unwrap().loss;
        assert!(gap(&loss, &(recorded.get("loss") * 1.3)) < 1e-6, "{form:?}");
    }
}

#[test]
fn codes_of_length_one_agree_with_llamagen() {
    let recorded = Recorded::open("llamagen");
    let (store, quantizer) = vq(Form::Standard, 0.25, true, &recorded.get("codes"));
    let z = recorded.get("latent").set_requires_grad(true);
    let q = quantizer.quantize(&z, true).unwrap();
    (&q.loss + (&q.latent * recorded.get("direction")).sum(Kind::Float)).backward();
    assert_eq!(q.indices, recorded.get("indices"));
    recorded.agrees("quantized", &q.latent);
    recorded.agrees("loss", &q.loss);
    recorded.agrees("latent_grad", &z.grad());
    recorded.agrees("codes_grad", &variable(&store, "embedding.weight").grad());
    let codes = quantizer.lookup(&q.indices).unwrap();
    assert_eq!(codes.permute([0, 3, 1, 2]), q.latent);
}

const STATE: [(&str, &str); 3] =
    [("codes", "embedding.weight"), ("cluster_size", "embedding.cluster_size"), ("embed_avg", "embedding.embed_avg")];

#[test]
fn five_steps_of_moving_averages_agree_with_vector_quantize_pytorch() {
    for (name, normalize) in [("ema", false), ("cosine", true)] {
        let recorded = Recorded::open(name);
        let config = EmaConfig { codes: 14, decay: 0.8, normalize, ..EmaConfig::default() };
        let (store, mut quantizer) = build(&QuantizerConfig::Ema(config), 5);
        for (theirs, ours) in STATE {
            set(&store, ours, &recorded.get(&format!("start.{theirs}")));
        }
        for step in 0..5 {
            let at = |part: &str| format!("{step}.{part}");
            let z = recorded.get(&at("latent")).set_requires_grad(true);
            let q = quantizer.quantize(&z, true).unwrap();
            (&q.loss + (&q.latent * recorded.get(&at("direction"))).sum(Kind::Float)).backward();
            assert_eq!(q.indices, recorded.get(&at("indices")), "{name}, step {step}");
            recorded.agrees(&at("quantized"), &q.latent);
            recorded.agrees(&at("loss"), &q.loss);
            recorded.agrees(&at("latent_grad"), &z.grad());
            let update = quantizer.batch_update().unwrap();
            let statistics = update.collect(&z, &q).unwrap();
            update.apply(&statistics, step).unwrap();
            for (theirs, ours) in STATE {
                recorded.agrees(&at(theirs), &variable(&store, ours));
            }
        }
    }
}

#[test]
fn codes_expire_where_and_how_they_do_in_vector_quantize_pytorch() {
    let recorded = Recorded::open("expire");
    let config = EmaConfig { codes: 14, decay: 0.5, expire_below: 0.75, ..EmaConfig::default() };
    let (store, mut quantizer) = build(&QuantizerConfig::Ema(config), 5);
    for name in ["embedding.weight", "embedding.embed_avg"] {
        set(&store, name, &recorded.get("start"));
    }
    let z = recorded.get("latent");
    let q = quantizer.quantize(&z, true).unwrap();
    let update = quantizer.batch_update().unwrap();
    let statistics = update.collect(&z, &q).unwrap();
    update.apply(&statistics, 0).unwrap();
    recorded.agrees("cluster_size", &variable(&store, "embedding.cluster_size"));
    let rows = z.permute([0, 2, 3, 1]).reshape([-1, 5]);
    let (book, avg) = (variable(&store, "embedding.weight"), variable(&store, "embedding.embed_avg"));
    let drawn = book.unsqueeze(1).eq_tensor(&rows.unsqueeze(0)).all_dim(2, false).any_dim(1, false);
    assert_eq!(drawn, recorded.get("drawn").to_kind(Kind::Bool));
    // Theirs are other vectors of the batch, at the same factor.
    let kept = drawn.logical_not();
    for (name, found) in [("codes", &book), ("embed_avg", &avg)] {
        let apart = gap(
            &found.index_select(0, &kept.nonzero().view([-1])),
            &recorded.get(name).index_select(0, &kept.nonzero().view([-1])),
        );
        assert!(apart < 1e-5, "{name} of codes that stay differ by {apart:e}");
    }
    let fresh = drawn.nonzero().view([-1]);
    for (codes, sums) in [(&book, &avg), (&recorded.get("codes"), &recorded.get("embed_avg"))] {
        assert_eq!(sums.index_select(0, &fresh), codes.index_select(0, &fresh) * 0.75);
    }
}

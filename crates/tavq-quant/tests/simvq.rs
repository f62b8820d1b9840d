//! SimVQ against vector-quantize-pytorch, recorded by `golden/lucidrains.py`.

mod common;

use std::path::Path;

use common::{gap, noise};
use tavq_quant::{Gradient, Quantizer, SimVq, SimVqConfig};
use tavq_torch::TensorFile;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

#[test]
fn codes_loss_and_gradients_agree_with_vector_quantize_pytorch() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/lucidrains.safetensors");
    let file = TensorFile::open(&path).unwrap();
    let get = |name: &str| file.get(&format!("simvq.{name}")).unwrap();
    for (name, gradient) in [("straight", Gradient::StraightThrough), ("rotation", Gradient::Rotation)] {
        let store = VarStore::new(Device::Cpu);
        let config = SimVqConfig { codes: 20, gradient, ..SimVqConfig::default() };
        let quantizer = SimVq::new(&store.root(), &config, 6).unwrap();
        let variable = |name: &str| store.variables()[name].shallow_clone();
        tch::no_grad(|| {
            variable("embedding.weight").copy_(&get("codes"));
            variable("embedding_proj.weight").copy_(&get("weight"));
            let _ = variable("embedding_proj.bias").zero_();
        });
        let z = get("latent").set_requires_grad(true);
        let found = quantizer.quantize(&z, true).unwrap();
        (&found.loss + (&found.latent * get("direction")).sum(Kind::Float)).backward();
        let expected = |part: &str| get(&format!("{name}.{part}"));
        assert_eq!(found.indices, expected("indices"), "{name}");
        for (what, found, expected) in [
            ("codes", &found.latent, expected("quantized")),
            ("loss", &found.loss, expected("loss")),
            ("gradient of the latent", &z.grad(), expected("latent_grad")),
            ("gradient of the map", &variable("embedding_proj.weight").grad(), expected("weight_grad")),
        ] {
            let apart = gap(found, &expected);
            assert!(apart < 1e-5, "{name}: {what} differs by {apart:e}");
        }
        assert!(!variable("embedding.weight").requires_grad());
    }
}

#[test]
fn one_step_of_the_map_moves_codes_that_no_vector_chose() {
    let store = VarStore::new(Device::Cpu);
    let quantizer = SimVq::new(&store.root(), &SimVqConfig { codes: 64, ..SimVqConfig::default() }, 4).unwrap();
    let all = Tensor::arange(64, (Kind::Int64, Device::Cpu));
    let before = quantizer.lookup(&all).unwrap().detach();
    let found = quantizer.quantize(&noise(&[1, 4, 2, 2], 1), true).unwrap();
    found.loss.backward();
    tch::no_grad(|| {
        for mut variable in store.trainable_variables() {
            let step = variable.grad() * 0.1;
            let _ = variable.f_sub_(&step).unwrap();
        }
    });
    let moved = (quantizer.lookup(&all).unwrap() - before).abs().amax([1i64], false).min().double_value(&[]);
    assert!(moved > 0.0, "a code stayed where it was");
}

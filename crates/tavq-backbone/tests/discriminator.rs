//! The discriminator against PyTorch; `golden/discriminator.py` says where the numbers come from.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{gap, noise, set_by_formula};
use tavq_backbone::{Discriminator, DiscriminatorConfig};
use tavq_torch::TensorFile;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

fn close(what: &str, found: &Tensor, expected: &Tensor) {
    let gap = gap(found, expected);
    let slack = 1e-5 * expected.abs().max().double_value(&[]).max(1.0);
    assert!(gap < slack, "{what} differs by {gap:e}, more than {slack:e}");
}

#[test]
fn scores_statistics_and_gradients_equal_those_of_pytorch() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/discriminator.safetensors");
    let file = TensorFile::open(&path).unwrap();
    let get = |name: &str| file.get(name).unwrap();
    let config: DiscriminatorConfig = serde_json::from_str(file.meta("config").unwrap()).unwrap();
    let store = VarStore::new(Device::Cpu);
    let model = Discriminator::new(&store.root(), &config).unwrap();
    set_by_formula(&store);
    let images = |i: i32| noise(&format!("images {i}"), &[2, 3, 32, 40]);
    close("the first pass", &model.forward(&images(0), true).unwrap(), &get("train.0"));
    let second = images(1).set_requires_grad(true);
    let scores = model.forward(&second, true).unwrap();
    close("the second pass", &scores, &get("train.1"));
    (&scores * noise("direction", &scores.size())).sum(Kind::Float).backward();
    close("the gradient of the images", &second.grad(), &get("grad.images"));
    let variables = store.variables();
    assert_eq!(file.names().iter().filter(|n| n.contains("main.")).count(), variables.len());
    for (name, variable) in variables {
        if variable.requires_grad() {
            close(&name, &variable.grad(), &get(&format!("grad.{name}")));
        } else {
            close(&name, &variable, &get(&name));
        }
    }
    let all = || store.variables().into_iter().map(|(n, t)| (n, t.copy())).collect::<BTreeMap<_, _>>();
    let before = all();
    close("evaluation", &model.forward(&images(2), false).unwrap(), &get("eval"));
    assert_eq!(before, all(), "evaluation moved a variable");
}

#[test]
fn the_default_is_the_published_discriminator() {
    let store = VarStore::new(Device::Cpu);
    let model = Discriminator::new(&store.root(), &DiscriminatorConfig::default()).unwrap();
    let trainable: usize = store.trainable_variables().iter().map(Tensor::numel).sum();
    assert_eq!(trainable, 2_765_633);
    let mut names: Vec<String> = store.variables().into_keys().collect();
    names.sort();
    let mut expected: Vec<String> = [0, 2, 5, 8, 11].map(|i| format!("main.{i}.weight")).to_vec();
    expected.extend([0, 11].map(|i| format!("main.{i}.bias")));
    for i in [3, 6, 9] {
        expected.extend(["weight", "bias", "running_mean", "running_var"].map(|n| format!("main.{i}.{n}")));
    }
    expected.sort();
    assert_eq!(names, expected);
    // 256 pixels give 30 x 30 patches.
    let images = Tensor::zeros([1, 3, 256, 128], (Kind::Float, Device::Cpu));
    assert_eq!(tch::no_grad(|| model.forward(&images, false)).unwrap().size(), [1, 1, 30, 14]);
}

#[test]
fn weights_start_as_published() {
    let store = VarStore::new(Device::Cpu);
    Discriminator::new(&store.root(), &DiscriminatorConfig::default()).unwrap();
    let variables = store.variables();
    let moments = |name: &str| {
        let t = &variables[name];
        (t.mean(Kind::Double).double_value(&[]), t.std(true).double_value(&[]))
    };
    for (name, mean) in [("main.2.weight", 0.0), ("main.8.weight", 0.0), ("main.9.weight", 1.0)] {
        let (found, deviation) = moments(name);
        assert!((found - mean).abs() < 5e-3 && (deviation - 0.02).abs() < 5e-3, "{name}: {found}, {deviation}");
    }
    assert_eq!(moments("main.9.bias"), (0.0, 0.0));
}

#[test]
fn images_that_are_too_small_are_refused() {
    let store = VarStore::new(Device::Cpu);
    let model = Discriminator::new(&store.root(), &DiscriminatorConfig { ndf: 4, ..Default::default() }).unwrap();
    let refused =
        |shape: &[i64]| model.forward(&Tensor::zeros(shape, (Kind::Float, Device::Cpu)), true).unwrap_err().to_string();
    let expected = "images: expected shape [at least 1, 3, at least 24, at least 24], found";
    assert_eq!(refused(&[1, 3, 23, 24]), format!("{expected} [1, 3, 23, 24]"));
    assert_eq!(refused(&[0, 3, 32, 32]), format!("{expected} [0, 3, 32, 32]"));
    assert_eq!(refused(&[1, 1, 32, 32]), "images: expected shape [?, 3, ?, ?], found [1, 1, 32, 32]");
    let least = model.forward(&noise("least", &[1, 3, 24, 24]), true).unwrap();
    assert_eq!((least.size(), least.isfinite().all().int64_value(&[])), (vec![1, 1, 1, 1], 1));
}

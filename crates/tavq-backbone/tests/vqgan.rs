//! What the golden files and the laws of the VQGAN leave open.

mod common;

use common::{noise, set_by_formula};
use tavq_backbone::{Vqgan, VqganConfig};
use tavq_quant::Backbone;
use tch::Tensor;
use tch::nn::VarStore;

fn model(config: VqganConfig) -> (VarStore, Vqgan) {
    let config = VqganConfig { ch: 32, ch_mult: vec![1, 2], num_res_blocks: 1, levels: 1, z_channels: 8, ..config };
    let store = VarStore::new(tch::Device::Cpu);
    let model = Vqgan::new(&store.root(), &config).unwrap();
    set_by_formula(&store);
    (store, model)
}

fn there_and_back(model: &Vqgan, images: &Tensor, train: bool) -> [Tensor; 2] {
    let _guard = tch::no_grad_guard();
    let latent = model.encode(images, train).unwrap().remove(0);
    let back = model.decode(&latent, train).unwrap();
    [latent, back]
}

#[test]
fn dropout_acts_in_training_alone() {
    let images = noise("images", &[1, 3, 16, 24]);
    let with = |dropout| model(VqganConfig { dropout, ..VqganConfig::default() });
    let ((_a, none), (_b, half)) = (with(0.0), with(0.5));
    assert_eq!(there_and_back(&none, &images, false), there_and_back(&half, &images, false));
    assert_eq!(there_and_back(&none, &images, true), there_and_back(&none, &images, true));
    let latent = half.encode(&images, true).unwrap().remove(0);
    let passes = [half.encode(&images, true).unwrap().remove(0), none.encode(&images, true).unwrap().remove(0)];
    assert!(passes.iter().all(|z| *z != latent));
    let [one, other] = [half.decode(&latent, true).unwrap(), half.decode(&latent, true).unwrap()];
    assert_ne!(one, other);
}

#[test]
fn attention_sits_where_the_resolution_says_and_stays_there_at_other_sizes() {
    let config = |attn_resolutions: &[i64]| VqganConfig {
        resolution: 32,
        attn_resolutions: attn_resolutions.to_vec(),
        ..VqganConfig::default()
    };
    for (resolutions, stages) in
        [(&[][..], &[][..]), (&[32], &[0]), (&[16], &[1]), (&[16, 32], &[0, 1]), (&[64, 8], &[])]
    {
        let (store, model) = model(config(resolutions));
        let names = store.variables();
        for stage in 0..2 {
            for part in [format!("encoder.down.{stage}.attn.0.q.weight"), format!("decoder.up.{stage}.attn.1.q.weight")]
            {
                assert_eq!(names.contains_key(&part), stages.contains(&stage), "{resolutions:?}: {part}");
            }
        }
        let [latent, back] = there_and_back(&model, &noise("images", &[1, 3, 10, 44]), false);
        assert_eq!((latent.size(), back.size()), (vec![1, 256, 5, 22], vec![1, 3, 10, 44]));
    }
}

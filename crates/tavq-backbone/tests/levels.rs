//! Side levels leave the plain backbone alone, bit for bit. One test, so that no other thread draws random numbers.

use tavq_backbone::{BackboneConfig, VitConfig, VqganConfig, VqvaeConfig, Wiring};
use tavq_quant::Backbone;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

fn build(config: &BackboneConfig) -> (VarStore, Box<dyn Backbone>) {
    tch::manual_seed(7);
    let store = VarStore::new(Device::Cpu);
    let backbone = config.build(&store.root()).unwrap();
    (store, backbone)
}

#[test]
fn the_plain_part_is_the_same_with_and_without_side_levels() {
    let vqgan = |levels, wiring| {
        BackboneConfig::Vqgan(VqganConfig {
            ch: 32,
            ch_mult: vec![1, 1, 2],
            num_res_blocks: 1,
            attn_resolutions: vec![8],
            resolution: 32,
            levels,
            wiring,
            ..VqganConfig::default()
        })
    };
    let vqvae =
        |levels, wiring| BackboneConfig::Vqvae(VqvaeConfig { width: 32, levels, wiring, ..VqvaeConfig::default() });
    let vit = |levels, wiring| {
        let small = VitConfig { width: 16, depth: 3, heads: 2, mlp: 24, ..VitConfig::default() };
        BackboneConfig::Vit(VitConfig { levels, wiring, ..small })
    };
    let families: [&dyn Fn(usize, Wiring) -> BackboneConfig; 3] = [&vqgan, &vqvae, &vit];
    for (family, wiring) in families.into_iter().flat_map(|f| [(f, Wiring::Taps), (f, Wiring::Cascade)]) {
        let ((plain_store, plain), (tapped_store, tapped)) =
            (build(&family(1, Wiring::Taps)), build(&family(3, wiring)));
        let (few, all) = (plain_store.variables(), tapped_store.variables());
        for (name, value) in &few {
            assert_eq!(*value, all[name], "{name}");
        }
        let mut added: Vec<_> = all.keys().filter(|n| !few.contains_key(*n)).collect();
        added.sort();
        let taps = ["taps.0.bias", "taps.0.weight", "taps.1.bias", "taps.1.weight"];
        if wiring == Wiring::Cascade {
            let back = ["cascade.0.bias", "cascade.0.weight", "cascade.1.bias", "cascade.1.weight"];
            assert_eq!(added, [back, taps].concat());
            // The plain latent goes through the codes of the others.
            continue;
        }
        assert_eq!(added, taps);

        let images = Tensor::rand([2, 3, 32, 48], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
        for train in [false, true] {
            let (one, three) = (plain.encode(&images, train).unwrap(), tapped.encode(&images, train).unwrap());
            assert_eq!((one.len(), three.len()), (1, 3));
            assert_eq!(one[0], three[2]);
            assert_eq!(plain.decode(&one[0], train).unwrap(), tapped.decode(&three[2], train).unwrap());
        }
    }
}

//! Both backbones keep the laws of their seam; backbones with one fault each break the law of that name.

use std::cell::Cell;

use tavq_backbone::{BackboneConfig, VqganConfig, VqvaeConfig};
use tavq_quant::laws::backbone_laws;
use tavq_quant::{Backbone, LevelShape, QuantError, Result};
use tch::nn::VarStore;
use tch::{Device, Tensor};

fn build(config: BackboneConfig) -> Box<dyn Backbone> {
    // The variables outlive the store: tensors are shared.
    config.build(&VarStore::new(Device::Cpu).root()).unwrap()
}

fn vqgan() -> VqganConfig {
    VqganConfig {
        ch: 32,
        ch_mult: vec![1, 1, 2],
        num_res_blocks: 1,
        attn_resolutions: vec![8],
        resolution: 32,
        z_channels: 16,
        embed_dim: 12,
        ..VqganConfig::default()
    }
}

fn vqvae() -> VqvaeConfig {
    VqvaeConfig { width: 32, block_width: 8, embed_dim: 12, ..VqvaeConfig::default() }
}

#[test]
fn the_vqgan_keeps_the_laws() {
    let configs = [
        (vqgan(), vec![1, 2, 4]),
        (VqganConfig { levels: 1, dropout: 0.2, ..vqgan() }, vec![4]),
        (VqganConfig { attn_resolutions: vec![], ..vqgan() }, vec![1, 2, 4]),
        (VqganConfig { attn_resolutions: vec![16, 8], tap_strides: vec![2, 4], ..vqgan() }, vec![2, 4, 4]),
        (VqganConfig { ch_mult: vec![2], levels: 1, resolution: 8, ..vqgan() }, vec![1]),
    ];
    for (config, strides) in configs {
        let name = format!("{config:?}");
        let backbone = build(BackboneConfig::Vqgan(config));
        assert_eq!(backbone.levels().iter().map(|l| l.stride).collect::<Vec<_>>(), strides);
        backbone_laws(backbone.as_ref(), (16, 24)).unwrap_or_else(|broken| panic!("{name}: {broken}"));
    }
}

#[test]
fn the_vqvae_keeps_the_laws() {
    let configs = [
        (vqvae(), vec![2, 4, 8]),
        (VqvaeConfig { levels: 1, ..vqvae() }, vec![8]),
        (VqvaeConfig { levels: 1, halvings: 1, blocks: 0, ..vqvae() }, vec![2]),
    ];
    for (config, strides) in configs {
        let name = format!("{config:?}");
        let backbone = build(BackboneConfig::Vqvae(config));
        assert_eq!(backbone.levels().iter().map(|l| l.stride).collect::<Vec<_>>(), strides);
        backbone_laws(backbone.as_ref(), (16, 40)).unwrap_or_else(|broken| panic!("{name}: {broken}"));
    }
}

/// What is wrong with a [`Broken`] backbone.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    NoLevel,
    CoarseFirst,
    NoWidth,
    EncodeRefuses,
    LevelMissing,
    OtherWidth,
    NotANumber,
    DecodeRefuses,
    SmallerImages,
    InfiniteImages,
    Restless,
    SeesTheBatch,
    CutOffSide,
    CutOffDecoder,
}

/// A sound backbone behind one fault.
struct Broken {
    sound: Box<dyn Backbone>,
    levels: Vec<LevelShape>,
    fault: Fault,
    calls: Cell<f64>,
}

impl Broken {
    fn new(fault: Fault) -> Self {
        let sound = build(BackboneConfig::Vqvae(vqvae()));
        let mut levels = sound.levels().to_vec();
        match fault {
            Fault::NoLevel => levels.clear(),
            Fault::CoarseFirst => levels.reverse(),
            Fault::NoWidth => levels[1].channels = 0,
            _ => {}
        }
        Self { sound, levels, fault, calls: Cell::new(0.0) }
    }
}

fn refuse<T>() -> Result<T> {
    Err(QuantError::config("fault", "none", 1))
}

impl Backbone for Broken {
    fn levels(&self) -> &[LevelShape] {
        &self.levels
    }

    fn encode(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>> {
        let mut levels = self.sound.encode(images, train)?;
        match self.fault {
            Fault::EncodeRefuses => return refuse(),
            Fault::LevelMissing => drop(levels.remove(0)),
            Fault::OtherWidth => levels[1] = levels[1].narrow(1, 0, 3),
            Fault::NotANumber => levels[0] = &levels[0] * f64::NAN,
            Fault::SeesTheBatch => levels[0] = &levels[0] * (1.0 + 0.01 * images.size()[0] as f64),
            Fault::CutOffSide => levels[1] = levels[1].detach(),
            _ => {}
        }
        Ok(levels)
    }

    fn decode(&self, latent: &Tensor, train: bool) -> Result<Tensor> {
        let back = self.sound.decode(latent, train)?;
        self.calls.set(self.calls.get() + 1.0);
        Ok(match self.fault {
            Fault::DecodeRefuses => return refuse(),
            Fault::SmallerImages => back.narrow(2, 0, 8),
            Fault::InfiniteImages => back / 0.0,
            Fault::Restless => back + self.calls.get(),
            Fault::CutOffDecoder => back.detach(),
            _ => back,
        })
    }
}

#[test]
fn every_fault_breaks_the_law_of_its_name() {
    let table = [
        (Fault::NoLevel, "there is a level"),
        (Fault::CoarseFirst, "levels go from fine to coarse"),
        (Fault::NoWidth, "widths and strides are positive"),
        (Fault::EncodeRefuses, "encode: refused a valid call"),
        (Fault::LevelMissing, "encode gives the declared levels"),
        (Fault::OtherWidth, "a level has its declared shape"),
        (Fault::NotANumber, "values are finite: not in level 0"),
        (Fault::DecodeRefuses, "decode: refused a valid call"),
        (Fault::SmallerImages, "decode gives images of the same size"),
        (Fault::InfiniteImages, "values are finite: not in the reconstruction"),
        (Fault::Restless, "evaluation is deterministic"),
        (Fault::SeesTheBatch, "evaluation does not depend on the batch"),
        (Fault::CutOffSide, "gradients reach the images"),
        (Fault::CutOffDecoder, "gradients reach the latent from the reconstruction"),
    ];
    for (fault, law) in table {
        let broken = backbone_laws(&Broken::new(fault), (16, 16)).expect_err(law);
        assert!(broken.starts_with(law), "{fault:?}: expected \"{law}\", found \"{broken}\"");
    }
}

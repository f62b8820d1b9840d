//! The backbones keep the laws of their seam; backbones with one fault each break the law of that name.

mod common;

use std::cell::Cell;

use tavq_backbone::{BackboneConfig, Head, VitConfig, VqganConfig, VqvaeConfig, Wiring};
use tavq_quant::laws::backbone_laws;
use tavq_quant::{Backbone, LevelShape, QuantError, Quantize, Result};
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

fn cascade() -> VqganConfig {
    VqganConfig { wiring: Wiring::Cascade, ..vqgan() }
}

fn vit() -> VitConfig {
    VitConfig { patch: 4, width: 16, depth: 3, heads: 2, mlp: 24, embed_dim: 12, ..VitConfig::default() }
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
        (VqganConfig { attn_resolutions: vec![32, 16, 8], dropout: 0.2, ..cascade() }, vec![1, 2, 4]),
        (VqganConfig { tap_strides: vec![2, 2], ..cascade() }, vec![2, 2, 4]),
    ];
    for (config, strides) in configs {
        let (name, wiring) = (format!("{config:?}"), config.wiring);
        let backbone = build(BackboneConfig::Vqgan(config));
        assert_eq!(backbone.levels().iter().map(|l| l.stride).collect::<Vec<_>>(), strides);
        backbone_laws(backbone.as_ref(), (16, 24)).unwrap_or_else(|broken| panic!("{name}: {broken}"));
        assert_eq!(depends_on_codes(backbone.as_ref(), (16, 24)), wiring == Wiring::Cascade, "{name}");
    }
}

#[test]
fn the_vqvae_keeps_the_laws() {
    let configs = [
        (vqvae(), vec![2, 4, 8]),
        (VqvaeConfig { wiring: Wiring::Cascade, ..vqvae() }, vec![2, 4, 8]),
        (VqvaeConfig { levels: 1, ..vqvae() }, vec![8]),
        (VqvaeConfig { levels: 1, halvings: 1, blocks: 0, ..vqvae() }, vec![2]),
    ];
    for (config, strides) in configs {
        let (name, wiring) = (format!("{config:?}"), config.wiring);
        let backbone = build(BackboneConfig::Vqvae(config));
        assert_eq!(backbone.levels().iter().map(|l| l.stride).collect::<Vec<_>>(), strides);
        backbone_laws(backbone.as_ref(), (16, 40)).unwrap_or_else(|broken| panic!("{name}: {broken}"));
        assert_eq!(depends_on_codes(backbone.as_ref(), (16, 40)), wiring == Wiring::Cascade, "{name}");
    }
}

#[test]
fn the_vit_keeps_the_laws() {
    let configs = [
        vit(),
        VitConfig { levels: 1, head: Head::Linear, ..vit() },
        VitConfig { tap_blocks: vec![3, 3], heads: 1, ..vit() },
        VitConfig { wiring: Wiring::Cascade, ..vit() },
        VitConfig { tap_blocks: vec![1, 1], depth: 1, wiring: Wiring::Cascade, ..vit() },
    ];
    for config in configs {
        let (name, wiring, levels) = (format!("{config:?}"), config.wiring, config.levels);
        let backbone = build(BackboneConfig::Vit(config));
        assert_eq!(backbone.levels(), vec![LevelShape { channels: 12, stride: 4 }; levels]);
        backbone_laws(backbone.as_ref(), (16, 24)).unwrap_or_else(|broken| panic!("{name}: {broken}"));
        assert_eq!(depends_on_codes(backbone.as_ref(), (16, 24)), wiring == Wiring::Cascade, "{name}");
    }
}

/// Whether every level after the first changes with the codes of the one before.
fn depends_on_codes(backbone: &dyn Backbone, size: (i64, i64)) -> bool {
    let images = common::noise("images", &[1, 3, size.0, size.1]);
    let through = |scale: f64| backbone.encode_through(&images, false, &mut |_, z| Ok(z * scale)).unwrap();
    let changed: Vec<bool> = through(1.0).iter().zip(through(2.0)).map(|(a, b)| *a != b).collect();
    assert!(!changed[0] && changed[1..].iter().all(|c| *c == changed[1]), "{changed:?}");
    changed.get(1).copied().unwrap_or(false)
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
    ThroughRefuses,
    QuantizesTwice,
    LastComesFirst,
    ReturnsCodes,
    SwallowsErrors,
    OtherEncoder,
    CutOffCodes,
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
        let sound = build(BackboneConfig::Vqvae(VqvaeConfig { wiring: Wiring::Cascade, ..vqvae() }));
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
            Fault::OtherEncoder => levels[0] = &levels[0] + 1.0,
            _ => {}
        }
        Ok(levels)
    }

    fn encode_through(&self, images: &Tensor, train: bool, quantize: &mut Quantize<'_>) -> Result<Vec<Tensor>> {
        let sound = |quantize: &mut Quantize<'_>| self.sound.encode_through(images, train, quantize);
        match self.fault {
            Fault::ThroughRefuses => refuse(),
            Fault::QuantizesTwice => sound(&mut |level, z| {
                let _ = quantize(level, z)?;
                quantize(level, z)
            }),
            Fault::LastComesFirst => sound(&mut |level, z| quantize(2 - level, z)),
            Fault::ReturnsCodes => {
                let mut codes = Vec::new();
                sound(&mut |level, z| {
                    codes.push(quantize(level, z)?);
                    Ok(codes[level].shallow_clone())
                })?;
                Ok(codes)
            }
            Fault::SwallowsErrors => {
                sound(&mut |level, z| Ok(quantize(level, z).unwrap_or_else(|_| z.shallow_clone())))
            }
            Fault::CutOffCodes => sound(&mut |level, z| Ok(quantize(level, z)?.detach())),
            _ => sound(quantize),
        }
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
        (Fault::ThroughRefuses, "encode_through: refused a valid call"),
        (Fault::QuantizesTwice, "every level is quantized once and in order"),
        (Fault::LastComesFirst, "every level is quantized once and in order"),
        (Fault::ReturnsCodes, "the latents that were quantized are returned"),
        (Fault::SwallowsErrors, "an error of the quantizer ends the pass"),
        (Fault::OtherEncoder, "encode is encode_through with latents for codes"),
        (Fault::CutOffCodes, "gradients reach the codes that a level depends on"),
    ];
    for (fault, law) in table {
        let broken = backbone_laws(&Broken::new(fault), (16, 16)).expect_err(law);
        assert!(broken.starts_with(law), "{fault:?}: expected \"{law}\", found \"{broken}\"");
    }
}

//! Backbones behind [`tavq_quant::Backbone`]: image encoder and decoder with one or three levels.
//!
//! Each family is a configuration that is checked and a model over a `VarStore`. Variable names of the VQGAN are
//! those of taming-transformers, so its checkpoints load by name; what this workspace adds (the projections of the
//! side levels) lives under `taps` and `cascade` and is created last, so that the plain part starts equal with and
//! without it. The discriminator stands beside them: it judges images, whoever made them.

mod config;
mod discriminator;
mod layers;
pub mod layouts;
mod taps;
mod vit;
mod vqgan;
mod vqvae;

pub use config::BackboneConfig;
pub use discriminator::{Discriminator, DiscriminatorConfig};
pub use taps::Wiring;
pub use vit::{Head, Vit, VitConfig};
pub use vqgan::{Vqgan, VqganConfig};
pub use vqvae::{Vqvae, VqvaeConfig};

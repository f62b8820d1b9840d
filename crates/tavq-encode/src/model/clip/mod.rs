//! The text tower of CLIP (Radford et al. 2021, section 2.4): pre-LN, causal, quick-GELU; a text is the state at its end
//! token, projected where the file has a projection.

mod config;
mod forward;
#[cfg(test)]
mod tests;

pub(super) use config::{ClipConfig, LEGACY_EOS};
#[cfg(test)]
pub(super) use forward::Broken;
pub(super) use forward::Forward;

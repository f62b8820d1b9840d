//! BERT (Devlin et al. 2019): post-LN, bidirectional, erf-GELU.

mod config;
mod forward;

pub(super) use config::BertConfig;
#[cfg(test)]
pub(super) use forward::Broken;
pub(super) use forward::Forward;

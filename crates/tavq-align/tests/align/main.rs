//! Tests of the alignment. Nothing here draws from libtorch's generator.

mod common;
mod config;
mod costs;
mod gradient;
mod level;
mod parity;
mod properties;
mod transport;

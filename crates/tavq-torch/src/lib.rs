//! What tch leaves out and every crate on libtorch needs: shape checks with one error, named-tensor
//! files that are read whole or refused by name and written atomically, deterministic kernels, seeds
//! derived from names, and the collective operations of a process group.
//!
//! This is the only crate with `unsafe` code outside SIMD modules: the C++ shim and the memory map.

mod collective;
mod determinism;
mod files;
mod load;
mod memory;
mod shape;
mod tensors;

pub use collective::{Collective, Solo, collective_laws};
pub use determinism::{deterministic, seed_from, set_deterministic};
pub use files::{write_atomic, write_folder_atomic};
pub use load::{load_parts, load_variables};
pub use memory::{keep_freed_memory, peak_memory, return_freed_memory};
pub use shape::{ShapeError, check_shape};
pub use tensors::{FileError, TensorFile, listed, write_tensors};

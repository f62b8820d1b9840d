//! PyTorch's `.pt` and `.ckpt` files as data.
//!
//! `torch.load` runs a pickle, a program that may import and call anything. This crate reads the same files with a machine
//! that builds tensors and plain containers only: any other global is refused by its name, or on request becomes an inert
//! placeholder, and nothing is ever executed. Sizes that a file only claims cost no memory. Both formats of `torch.save` are
//! read, the zip archive and the one before PyTorch 1.6, and the first is written.

mod archive;
mod dtype;
mod error;
mod input;
mod machine;
mod node;
mod storage;
mod torch;
mod write;

pub use archive::{Archive, Container, Unknown};
pub use dtype::Dtype;
pub use error::{PickleError, Problem};
pub use node::TensorInfo;
pub use write::{Described, write};

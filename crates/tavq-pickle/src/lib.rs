//! PyTorch's `.pt` and `.ckpt` files as data.
//!
//! `torch.load` runs a pickle, a program that may import and call anything. This crate reads the same files with a machine
//! that builds tensors and plain containers only: any other global is refused by its name, or on request becomes an inert
//! placeholder, and nothing is ever executed. Sizes that a file only claims cost no memory. Both formats of `torch.save` are
//! read, the zip archive and the one before PyTorch 1.6, and the first is written.
//!
//! ```
//! use tavq_pickle::{Archive, Described, Dtype, Unknown, write};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let file = tempfile::NamedTempFile::new()?;
//! let bias = Described { name: "head.bias".into(), dtype: Dtype::F32, shape: vec![2] };
//! let values = [0.5f32, -1.0].map(f32::to_le_bytes).concat();
//! write(&mut file.as_file(), Some("state_dict"), &[("epoch", 3)], &[bias], |_| Ok(values.clone()))?;
//!
//! let mut archive = Archive::open(file.path(), Unknown::Refuse)?;
//! assert_eq!(archive.integer("epoch"), Some(3));
//! for (name, tensor) in archive.state(Some("state_dict"))? {
//!     println!("{name} {} {:?}: {} bytes", tensor.dtype.name(), tensor.shape, archive.read(&tensor)?.len());
//!     assert_eq!(archive.read(&tensor)?, values);
//! }
//! # Ok(())
//! # }
//! ```

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

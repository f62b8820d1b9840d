//! Whole commands, run as a user runs them: on the embedded pictures and the real text encoder, at a small size.

mod checkpoint;
mod common;
mod families;
mod ot;
mod ot_batch;
mod ot_hostile;
mod quantizers;
mod refusals;
mod split;
mod tools;
mod train;

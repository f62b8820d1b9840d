//! One module a command.

pub(crate) mod checkpoint;
pub(crate) mod embed;
pub(crate) mod evaluate;
pub(crate) mod explain;
pub(crate) mod ot;
pub(crate) mod reconstruct;
pub(crate) mod split;
pub(crate) mod study;
pub(crate) mod train;

//! The tavq command.
fn main() {}

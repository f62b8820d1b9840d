//! The inputs that the benchmarks of tavq-ot share. Criterion (`benches/`) makes them in memory; `ot-bench` writes them
//! as .npy files, so that other libraries are timed on the same numbers.

pub mod inputs;

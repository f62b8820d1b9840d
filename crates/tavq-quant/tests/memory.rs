//! Memory of the search, in a process of its own because the high-water mark is the process's.

use tavq_quant::{Distance, nearest, tile_budget};
use tavq_torch::peak_memory;
use tch::{Device, Kind, Tensor};

#[test]
fn the_score_matrix_never_exists_whole() {
    let random = |n| Tensor::randn([n, 4], (Kind::Float, Device::Cpu));
    let (points, codes) = (random(1 << 15), random(1 << 14));
    let budget = tile_budget(Device::Cpu);
    let few = points.narrow(0, 0, 512);
    // Takes the buffers that any search takes.
    nearest(&few, &codes, Distance::SquaredL2, budget).unwrap();
    let Some(before) = peak_memory() else {
        eprintln!("not run: this system does not tell a process's peak memory");
        return;
    };
    let found = nearest(&points, &codes, Distance::SquaredL2, budget).unwrap();
    let grown = peak_memory().unwrap_or(0).saturating_sub(before);
    assert_eq!(found.indices.size(), [1 << 15]);
    // All scores would take 2 GiB.
    assert!(grown < 128 << 20, "{} MiB", grown >> 20);
    println!("{} MiB", grown >> 20);
}

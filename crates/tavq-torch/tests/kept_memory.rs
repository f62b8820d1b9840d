//! Memory of freed tensors, kept and returned; without a harness, because it is the first thread's.

use tch::{Device, Kind, Tensor};

const BYTES: i64 = 64 << 20;

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) << 10
}

fn main() {
    let block = || Tensor::ones([BYTES], (Kind::Uint8, Device::Cpu));
    let early = block();
    if !tavq_torch::keep_freed_memory() || resident() == 0 {
        eprintln!("not run: the allocator cannot be told, or the system does not tell what is resident");
        return;
    }
    let first = block();
    let place = first.data_ptr() as usize;
    assert_eq!(place % 64, 0, "libtorch's vectors want 64 bytes");
    drop(first);
    let kept = resident();
    let second = block();
    assert_eq!(second.data_ptr() as usize, place, "the freed block was not taken again");
    assert_eq!(second.sum(Kind::Int64).int64_value(&[]), BYTES);
    // A block of the former allocator is freed by it.
    drop((early, second));
    tavq_torch::return_freed_memory();
    let left = resident();
    assert!(left + (BYTES as u64) < kept, "{left} of {kept} bytes are left");
    println!("kept_memory: {kept} bytes resident, {left} after returning");
}

//! Memory of a training step of the clustered codebook, in a process of its own because the high-water mark is the process's.

use tavq_quant::{Anchor, Cvq, CvqConfig, Quantizer};
use tavq_torch::{keep_freed_memory, peak_memory};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// Quantizes, goes back and updates, at the first step, in which every code needs an anchor.
fn step(anchor: Anchor, images: i64) {
    let store = VarStore::new(Device::Cpu);
    let config = CvqConfig { codes: 256, anchor, ..CvqConfig::default() };
    let mut cvq = Cvq::new(&store.root(), &config, 256).unwrap();
    let latent = Tensor::randn([images, 256, 16, 16], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let quantized = cvq.quantize(&latent, true).unwrap();
    quantized.loss.backward();
    let update = cvq.batch_update().unwrap();
    let statistics = update.collect(&latent, &quantized).unwrap();
    update.apply(&statistics, 0).unwrap();
    assert!(latent.grad().abs().sum(Kind::Float).double_value(&[]) > 0.0);
}

#[test]
fn a_step_of_cvq_holds_few_copies_of_the_latent() {
    // Parts grow with the threads.
    tch::set_num_threads(1);
    // As the `tavq` command does; what the allocator leaves between its blocks otherwise is more than what is measured.
    let keeps = keep_freed_memory();
    for anchor in [Anchor::Closest, Anchor::ProbRandom] {
        // Takes the buffers that any step takes.
        step(anchor, 1);
    }
    let (true, Some(before)) = (keeps, peak_memory()) else {
        eprintln!("not run: this system does not tell a process's peak memory, or keep its blocks");
        return;
    };
    let latent = 96 * 256 * 16 * 16 * 4;
    for anchor in [Anchor::Closest, Anchor::ProbRandom] {
        step(anchor, 96);
    }
    let grown = peak_memory().unwrap_or(0).saturating_sub(before);
    // The latent itself, the result, the gradient, the absolute values above, and parts of 4 MiB.
    assert!(grown < 4 * latent + (16 << 20), "{} MiB for a latent of {} MiB", grown >> 20, latent >> 20);
    println!("{} MiB", grown >> 20);
}

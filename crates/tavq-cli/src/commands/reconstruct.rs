//! `tavq reconstruct`: images through a checkpoint's encoder, codebook and decoder.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use ndarray::Array4;
use ndarray_npy::ReadNpyExt;
use tavq_torch::write_tensors;
use tavq_train::{Model, Registry, to_images, write_png};
use tch::{Device, Kind, Tensor};

use crate::failure::{Failure, Outcome, reading};
use crate::output::{not_an_input, say};
use crate::session;

#[derive(Debug, Args)]
pub(crate) struct ReconstructArgs {
    /// Checkpoint folder, a run's folder for its newest, or a model file.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Images; each becomes `OUT/NAME.png`, the original at the left of its reconstruction.
    #[arg(required_unless_present = "tensors")]
    images: Vec<PathBuf>,
    /// A .npy array [B, 3, H, W] f32 in [-1, 1] instead of images; writes `OUT/out.safetensors`.
    #[arg(long, conflicts_with = "images")]
    tensors: Option<PathBuf>,
    /// Output folder.
    #[arg(long)]
    out: PathBuf,
    /// Overrides one key of the saved configuration; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Prints what was written as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ReconstructArgs, registry: &Registry) -> Outcome {
    let loaded = session::load(&args.checkpoint, registry, &args.sets)?;
    let model = &loaded.model;
    let places = places(args);
    if let Some((i, _)) = places.iter().enumerate().find(|(i, place)| places[..*i].contains(place)) {
        return Err(Failure::input(anyhow!(
            "{}: expected images of different names, found another one of this name",
            args.images[i].display()
        )));
    }
    let source = Some(&args.checkpoint).filter(|path| path.is_file());
    let inputs: Vec<&Path> = args.images.iter().chain(&args.tensors).chain(source).map(PathBuf::as_path).collect();
    places.iter().try_for_each(|place| not_an_input(place, &inputs))?;
    let mut written = Vec::new();
    if let Some(path) = &args.tensors {
        written.push(tensors(args, model, path)?);
    }
    for (path, out) in args.images.iter().zip(places) {
        let image = session::read_image(&loaded.config, path)?;
        let (rebuilt, _, _) = pass(model, &image)?;
        let side_by_side = Tensor::cat(&[image, rebuilt], 3);
        for picture in to_images(&side_by_side)? {
            write_png(&out, &picture)?;
        }
        written.push(out);
    }
    if args.json {
        say!("{}", serde_json::json!({ "written": written }));
    } else {
        for path in written {
            say!("written: {}", path.display());
        }
    }
    Ok(())
}

/// Where the results go: a picture for each image, or one file.
fn places(args: &ReconstructArgs) -> Vec<PathBuf> {
    if args.tensors.is_some() {
        return vec![args.out.join(TENSORS)];
    }
    let name = |path: &PathBuf| path.file_stem().map_or("image".into(), |s| s.to_string_lossy().into_owned());
    args.images.iter().map(|path| args.out.join(format!("{}.png", name(path)))).collect()
}

/// The file of `--tensors`.
const TENSORS: &str = "out.safetensors";

/// Reconstruction, indices of the decoded level, and its latent before quantisation, on the CPU.
fn pass(model: &Model, images: &Tensor) -> Outcome<(Tensor, Tensor, Tensor)> {
    let _guard = tch::no_grad_guard();
    let mut pass = model.forward(&images.to_device(model.device()), false)?;
    let (Some(latent), Some(q)) = (pass.latents.pop(), pass.quantized.pop()) else {
        return Err(Failure::work(anyhow!("the model has no level")));
    };
    let cpu = |t: &Tensor| t.to_device(Device::Cpu);
    Ok((cpu(&pass.reconstruction), cpu(&q.indices), cpu(&latent)))
}

/// Images run at once.
const CHUNK: i64 = 16;

fn tensors(args: &ReconstructArgs, model: &Model, path: &std::path::Path) -> Outcome<PathBuf> {
    let file = std::fs::File::open(path).map_err(reading(path))?;
    let array = Array4::<f32>::read_npy(file).map_err(|e| {
        Failure::input(anyhow!("{}: expected a .npy array [B, 3, H, W] of f32, found {e}", path.display()))
    })?;
    let (b, c, h, w) = array.dim();
    if c != 3 || b == 0 || h == 0 || w == 0 {
        return Err(Failure::input(anyhow!(
            "{}: expected shape [B, 3, H, W], found [{b}, {c}, {h}, {w}]",
            path.display()
        )));
    }
    if let Some(x) = array.iter().find(|x| !x.is_finite()) {
        return Err(Failure::input(anyhow!("{}: expected finite values in [-1, 1], found {x}", path.display())));
    }
    let (low, high) = array.iter().fold((0f32, 0f32), |(low, high), x| (low.min(*x), high.max(*x)));
    if low < -1.0 || high > 1.0 {
        eprintln!("{}: values from {low} to {high}; models are trained on [-1, 1]", path.display());
    }
    let images = tavq_train::to_tensor(&array)?.to_kind(Kind::Float);
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for chunk in images.split(CHUNK, 0) {
        let (rebuilt, indices, latent) = pass(model, &chunk)?;
        for (part, tensor) in parts.iter_mut().zip([rebuilt, indices, latent]) {
            part.push(tensor);
        }
    }
    let [rebuilt, indices, latent] = parts.map(|p| Tensor::cat(&p, 0));
    let out = args.out.join(TENSORS);
    let tensors = [("reconstruction".into(), rebuilt), ("indices".into(), indices), ("latent".into(), latent)];
    write_tensors(&out, &tensors, &[])?;
    Ok(out)
}

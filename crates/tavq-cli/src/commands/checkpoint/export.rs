//! `tavq checkpoint export`: a model as another codebase reads it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use tavq_backbone::layouts::{Codebook, Layout};
use tavq_pickle::Described;
use tavq_torch::{write_atomic, write_folder_atomic, write_tensors};
use tavq_train::Registry;
use tch::{Device, Kind, Tensor};

use super::LayoutName;
use super::foreign::dtype_of;
use super::published::{self, Plain};
use crate::failure::{Failure, Outcome, reading, writing};
use crate::output::{json, not_an_input, say};
use crate::session::{self, Loaded};

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Layout to write.
    #[arg(long, value_enum)]
    to: LayoutName,
    /// Checkpoint folder, a run's folder for its newest, or a model file.
    checkpoint: PathBuf,
    /// What to write: of taming a .ckpt, with its YAML beside it; of LlamaGen a .pt, with its JSON beside it; of diffusers a
    /// folder.
    #[arg(long)]
    out: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

const TABLE: &str = "quantize.embedding.weight";

pub(crate) fn run(args: &ExportArgs, registry: &Registry) -> Outcome {
    let layout = Layout::from(args.to);
    let beside = args.out.with_extension(if layout == Layout::Taming { "yaml" } else { "json" });
    let loaded = session::load(&args.checkpoint, registry, &[])?;
    not_an_input(&args.out, &[loaded.source.path()])?;
    if layout != Layout::Diffusers {
        not_an_input(&beside, &[loaded.source.path()])?;
    }
    let last = loaded.model.levels().len().saturating_sub(1);
    let mut plain = published::of_config(&loaded.config, loaded.model.quantizer(last).codes())?;
    if plain.published.normalize && layout != Layout::LlamaGen {
        // Codes of length 1 are found alike by the distance and by the cosine.
        (plain.projected, plain.published.normalize) = (true, false);
    }
    let averages = layout == Layout::Taming && !plain.projected && !plain.published.beyond_taming();
    if plain.kind == Codebook::Averages && !averages {
        plain.kind = Codebook::Table;
    }
    let text = layout.write_config(&plain.published, plain.kind)?;
    let (tensors, left) = tensors(&loaded, layout, &plain)?;
    let written = match layout {
        Layout::Diffusers => write_folder(&args.out, &text, &tensors)?,
        _ => write_files(layout, &args.out, beside, &text, &tensors, loaded.source.step())?,
    };
    if args.json {
        let left: Vec<_> = left.into_iter().collect();
        return json(&serde_json::json!({
            "written": written, "layout": layout.name(), "tensors": tensors.len(), "left_out": left,
            "cosine_search": plain.cosine,
        }));
    }
    if !left.is_empty() {
        let groups: Vec<String> = left.iter().map(|(part, n)| format!("{part} ({n})")).collect();
        eprintln!("no part of the layout {}, left out: {}", layout.name(), groups.join(", "));
    }
    if plain.cosine {
        eprintln!(
            "this model finds codes by the cosine and {} by the distance: codes decode alike, but its encoder may choose others",
            layout.name()
        );
    }
    if let Some(loss) = plain.published.loss_lost(layout) {
        eprintln!(
            "{} has no word for this codebook's loss ({loss}): it shows in further training there",
            layout.name()
        );
    }
    for path in written {
        say!("written: {}", path.display());
    }
    Ok(())
}

type Tensors = Vec<(String, Tensor)>;

/// The tensors of the layout by name, and how many variables have no place in it, by part.
fn tensors(loaded: &Loaded, layout: Layout, plain: &Plain) -> Outcome<(Tensors, BTreeMap<String, usize>)> {
    let file = loaded.source.tensors()?;
    let (mut out, mut left) = (Vec::new(), BTreeMap::new());
    for name in file.names() {
        if !belongs(&name, plain.kind) {
            let part = name.split('.').next().unwrap_or_default();
            let part = if part == "quantize" { name.as_str() } else { part };
            *left.entry(part.to_owned()).or_default() += 1;
            continue;
        }
        let value = if name == TABLE && plain.projected { seen_codes(loaded)? } else { file.get(&name)? };
        let shape = layout.shape_of(&name, &value.size());
        out.push((layout.name_of(&name, plain.published.stages()), value.f_reshape(shape.as_slice())?));
    }
    if layout == Layout::LlamaGen {
        // Its buffer of recent indices, which its strict loading asks for.
        out.push(("quantize.codebook_used".to_owned(), Tensor::f_zeros([1 << 16], (Kind::Float, Device::Cpu))?));
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((out, left))
}

fn belongs(name: &str, kind: Codebook) -> bool {
    match name.split_once('.') {
        Some(("encoder" | "decoder" | "quant_conv" | "post_quant_conv", _)) => true,
        Some(("quantize", part)) => match kind {
            Codebook::Table => name == TABLE,
            Codebook::Averages => part.starts_with("embedding."),
            Codebook::Gumbel => part.starts_with("proj.") || part.starts_with("embed."),
        },
        _ => false,
    }
}

/// All codes as the decoder sees them, `[K, D]`.
fn seen_codes(loaded: &Loaded) -> Outcome<Tensor> {
    let _guard = tch::no_grad_guard();
    let quantizer = loaded.model.quantizer(loaded.model.levels().len().saturating_sub(1));
    let all = Tensor::f_arange(quantizer.codes(), (Kind::Int64, loaded.model.device()))?;
    Ok(quantizer.lookup(&all)?.f_to_device(Device::Cpu)?.f_contiguous()?)
}

/// Files of a folder of diffusers, which an export may replace.
const FOLDER: [&str; 2] = ["config.json", "diffusion_pytorch_model.safetensors"];

/// Writes a folder of diffusers: a new one, or in the place of one that holds nothing else.
fn write_folder(out: &Path, text: &str, tensors: &Tensors) -> Outcome<Vec<PathBuf>> {
    let refuse = |found: &str| {
        let expected = format!("a new folder, or one of {} alone", FOLDER.join(" and "));
        Err(Failure::input(anyhow!("--out {}: expected {expected}, found {found}", out.display())))
    };
    if out.exists() {
        if !out.is_dir() {
            return refuse("a file");
        }
        for entry in std::fs::read_dir(out).map_err(reading(out))? {
            let name = entry.map_err(reading(out))?.file_name();
            if !FOLDER.iter().any(|known| name == *known) {
                return refuse(&name.to_string_lossy());
            }
        }
    }
    write_folder_atomic(out, |dir| {
        std::fs::write(dir.join(FOLDER[0]), text)?;
        write_tensors(&dir.join(FOLDER[1]), tensors, &[("format", "pt".to_owned())]).map_err(io::Error::other)
    })
    .map_err(writing(out))?;
    Ok(vec![out.to_path_buf()])
}

/// Writes weights, and the configuration beside them, and gives their places.
fn write_files(
    layout: Layout,
    out: &Path,
    beside: PathBuf,
    text: &str,
    tensors: &Tensors,
    step: Option<u64>,
) -> Outcome<Vec<PathBuf>> {
    if beside == out || out.is_dir() || beside.is_dir() {
        let ending = if layout == Layout::Taming { "ckpt" } else { "pt" };
        let found = if beside == out { "the configuration's" } else { "a folder" };
        return Err(Failure::input(anyhow!(
            "--out {}: expected the name of a file, such as NAME.{ending}, found {found}",
            out.display()
        )));
    }
    let mut described = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let kind = tensor.kind();
        let Some(dtype) = dtype_of(kind) else {
            return Err(Failure::input(anyhow!("{name}: expected a type that PyTorch files have, found {kind:?}")));
        };
        // Sizes of a tensor are never negative.
        let shape = tensor.size().iter().map(|d| d.unsigned_abs()).collect();
        described.push(Described { name: name.clone(), dtype, shape });
    }
    let (key, numbers) = match layout {
        Layout::Taming => ("state_dict", vec![("global_step", step.unwrap_or(0).cast_signed())]),
        _ => ("model", Vec::new()),
    };
    write_atomic(out, |f| tavq_pickle::write(f, Some(key), &numbers, &described, |i| bytes(&tensors[i].1)))
        .map_err(writing(out))?;
    write_atomic(&beside, |f| f.write_all(text.as_bytes())).map_err(writing(&beside))?;
    Ok(vec![out.to_path_buf(), beside])
}

fn bytes(tensor: &Tensor) -> io::Result<Vec<u8>> {
    let flat = tensor.f_contiguous().map_err(io::Error::other)?;
    let mut out = vec![0; flat.numel() * flat.kind().elt_size_in_bytes()];
    flat.f_copy_data_u8(&mut out, flat.numel()).map_err(io::Error::other)?;
    Ok(out)
}

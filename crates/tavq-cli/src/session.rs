//! What several commands open the same way: a checkpoint's model, the text encoder, a text index.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use tavq_encode::{TextIndex, TextModel, TreeEncoder};
use tavq_text::EnglishSplitter;
use tavq_torch::TensorFile;
use tavq_train::{Checkpoint, Config, Model, ModelFile, Progress, Registry, TextSide};

use crate::failure::{Failure, Outcome};

/// A model out of a checkpoint or a model file, with its configuration.
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) source: Source,
    pub(crate) model: Model,
}

/// Where a model is read from.
#[derive(Debug)]
pub(crate) enum Source {
    Checkpoint(Checkpoint),
    File(ModelFile),
}

impl Source {
    /// Opens a model file, a checkpoint folder, or the newest checkpoint of a run's folder.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        if path.is_file() {
            refuse_pickle(path)?;
            Ok(Self::File(ModelFile::open(path)?))
        } else {
            open_checkpoint(path).map(Self::Checkpoint)
        }
    }

    /// The checkpoint's folder, or the file.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Checkpoint(checkpoint) => &checkpoint.path,
            Self::File(file) => file.tensors().path(),
        }
    }

    /// Steps trained, where that is known.
    pub(crate) fn step(&self) -> Option<u64> {
        match self {
            Self::Checkpoint(checkpoint) => Some(checkpoint.state.step),
            Self::File(_) => None,
        }
    }

    /// The configuration with `sets` on top.
    pub(crate) fn config(&self, sets: &[String]) -> Outcome<Config> {
        let (text, place) = match self {
            Self::Checkpoint(checkpoint) => (&checkpoint.config, self.path().join("config.toml")),
            Self::File(file) => (&file.config, self.path().to_path_buf()),
        };
        Ok(Config::resolve(text, &place.display().to_string(), sets)?)
    }

    /// Width of the text vectors that the model was aligned with.
    fn text_dim(&self) -> Outcome<Option<i64>> {
        match self {
            Self::Checkpoint(checkpoint) => Ok(checkpoint.reader()?.value("text.dim")?),
            Self::File(_) => Ok(None),
        }
    }

    /// The variables.
    pub(crate) fn tensors(&self) -> Outcome<TensorFile> {
        match self {
            Self::Checkpoint(checkpoint) => Ok(checkpoint.model()?),
            Self::File(file) => Ok(TensorFile::open(file.tensors().path())?),
        }
    }
}

/// Opens a checkpoint folder, or the newest checkpoint of a run's folder.
pub(crate) fn open_checkpoint(path: &Path) -> Outcome<Checkpoint> {
    if path.join("state.json").exists() {
        return Ok(Checkpoint::open(path)?);
    }
    match Checkpoint::newest(path)? {
        Some(newest) => Ok(Checkpoint::open(&newest)?),
        None => Err(Failure::input(anyhow!(
            "{}: expected a checkpoint (a folder with state.json), a run with checkpoints or a model file, found {}",
            path.display(),
            what_is(path)
        ))),
    }
}

/// What stands where a checkpoint was expected, and what to do about it.
fn what_is(path: &Path) -> String {
    if !path.exists() {
        return "nothing".to_owned();
    }
    if path.is_file() {
        return "a file".to_owned();
    }
    if path.join("config.json").is_file() {
        return "a folder of another codebase; `tavq checkpoint import` makes a model file of one of diffusers"
            .to_owned();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut runs: Vec<String> = entries
        .filter(|inner| inner.join("checkpoints").is_dir() || inner.join("state.json").is_file())
        .filter_map(|inner| Some(inner.file_name()?.to_string_lossy().into_owned()))
        .collect();
    runs.sort();
    if runs.is_empty() {
        "none of them".to_owned()
    } else {
        format!("a folder of several: name one of {}", runs.join(", "))
    }
}

/// A file of PyTorch's where a model file belongs: zip archives and pickles tell themselves by their first bytes.
fn refuse_pickle(path: &Path) -> Outcome {
    let mut start = [0u8; 2];
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
    if read.is_ok() && (start == *b"PK" || start == [0x80, 2]) {
        return Err(Failure::input(anyhow!(
            "{}: expected a model file, found one of PyTorch; `tavq checkpoint import` makes a model file of it",
            path.display()
        )));
    }
    Ok(())
}

/// Opens a checkpoint or model file and builds its model on the CPU, or on the device that `sets` names.
pub(crate) fn load(path: &Path, registry: &Registry, sets: &[String]) -> Outcome<Loaded> {
    let source = Source::open(path)?;
    let config = source.config(sets)?;
    let model = Model::new(&config, registry, source.text_dim()?)?;
    match &source {
        Source::Checkpoint(checkpoint) => checkpoint.load_model(model.store())?,
        Source::File(file) => file.load_model(model.store())?,
    }
    Ok(Loaded { config, source, model })
}

/// Gives a new model the parts that a model file or checkpoint has; with an empty path nothing is done.
pub(crate) fn start_from(model: &Model, path: &Path, quiet: bool) -> Outcome {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let source = Source::open(path)?;
    let left = tavq_torch::load_parts(model.store(), &source.tensors()?)?;
    if !quiet {
        let rest = if left.is_empty() { String::new() } else { format!("; at random: {}", left.join(", ")) };
        eprintln!("starts from {}{rest}", source.path().display());
    }
    Ok(())
}

/// The folder of the text encoder: from the configuration, else from TAVQ_TEXT_ENCODER.
pub(crate) fn encoder_folder(configured: &Path) -> Outcome<PathBuf> {
    if !configured.as_os_str().is_empty() {
        return Ok(configured.to_path_buf());
    }
    std::env::var_os("TAVQ_TEXT_ENCODER").map(PathBuf::from).ok_or_else(|| {
        Failure::input(anyhow!(
            "text.encoder: expected a folder with model.safetensors and tokenizer.json, found none; \
             set text.encoder or TAVQ_TEXT_ENCODER (`cargo xtask setup` installs one, `cargo xtask env` names it)"
        ))
    })
}

/// The encoder of trees that a configuration asks for.
pub(crate) fn tree_encoder(config: &Config) -> Outcome<TreeEncoder> {
    let folder = encoder_folder(&config.text.encoder)?;
    let bert = TextModel::load(&folder, tch::Device::Cpu)?;
    Ok(TreeEncoder::new(bert, config.text.mode))
}

/// The index of `texts`, made now unless it is on disk already.
pub(crate) fn text_side(config: &Config, texts: &[(&str, &str)], quiet: bool) -> Outcome<TextSide> {
    let encoder = tree_encoder(config)?;
    let folder = &config.text.index;
    let mut progress = Progress::new("texts", 0, texts.len() as u64, quiet);
    let splitter = EnglishSplitter::default();
    let index = TextIndex::open_or_build(folder, texts, &splitter, &encoder, &mut |done, _| {
        progress.set(done as u64, || "encoded".to_owned());
    })
    .map_err(Failure::from)?;
    for problem in &index.opened().problems {
        progress.say(&format!("text index: {problem}; encoded again"));
    }
    Ok(TextSide::new(index, config.text.max_units))
}

/// Reads a file as text; the error names it.
pub(crate) fn read_text(path: &Path) -> Outcome<String> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string()).map_err(Failure::Input)?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::input(anyhow!("{}: expected UTF-8, found an invalid byte at offset {at}", path.display()))
    })
}

/// One image as the model's evaluation sees it, `[1, 3, H, W]` in [-1, 1].
pub(crate) fn read_image(config: &Config, path: &Path) -> Outcome<tch::Tensor> {
    let array = tavq_data::load_image(path, &config.data.transform.evaluation())?;
    let array = array.insert_axis(ndarray::Axis(0));
    Ok(tavq_train::to_tensor(&array)?)
}

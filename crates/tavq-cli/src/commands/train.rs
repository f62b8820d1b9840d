//! `tavq train`: which configuration, which folder, from which checkpoint; then the run and its table.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use tavq_train::{Checkpoint, Config, Model, Registry};

use crate::failure::{Failure, Outcome};
use crate::output::{json, say};
use crate::run::{stop_on_signals, train_once};
use crate::session;

/// The embedded presets by name.
const PRESETS: [(&str, &str); 1] = [("emoji", include_str!("../../presets/emoji.toml"))];

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// Configuration file (TOML); paths inside are relative to the working directory.
    #[arg(long, conflicts_with = "preset")]
    config: Option<PathBuf>,
    /// A configuration that comes with the program: emoji.
    #[arg(long)]
    preset: Option<String>,
    /// Overrides one key, e.g. run.steps=100; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Goes on from the newest checkpoint under --out (`auto`), or from the checkpoint or run folder named.
    #[arg(long, value_name = "auto|DIR")]
    resume: Option<String>,
    /// Folder of the run; by default the first free one of runs/NAME, runs/NAME-2, ...
    #[arg(long)]
    out: Option<PathBuf>,
    /// Builds the model, prints the resolved configuration and stops; data and texts are not looked at.
    #[arg(long)]
    dry_run: bool,
    /// Trains twice under one seed, with and without alignment, and prints both.
    #[arg(long, conflicts_with_all = ["resume", "dry_run"])]
    study: bool,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &TrainArgs, registry: &Registry) -> Outcome {
    let resumed = args.resume.as_deref().map(|from| find_resumed(args, from)).transpose()?.flatten();
    let (config, name) = configuration(args, resumed.as_ref())?;
    if args.dry_run {
        // On the CPU, so that it tells the same where there is no GPU.
        let mut built = config.clone();
        built.run.device = "cpu".to_owned();
        Model::new(&built, registry, None)?;
        say!("{}", config.to_toml()?.trim_end());
        return Ok(());
    }
    let out = match (&args.out, &resumed) {
        (Some(out), _) => out.clone(),
        (None, Some(checkpoint)) => run_of(&checkpoint.path)?,
        (None, None) => first_free(&name),
    };
    if resumed.is_none() && Checkpoint::newest(&out)?.is_some() {
        return Err(Failure::input(anyhow!(
            "{}: expected an empty folder, found a run; add --resume auto to go on with it, or name another --out",
            out.display()
        )));
    }
    if args.study {
        return crate::commands::study::run(&config, &out, registry, args.json);
    }
    let stop = stop_on_signals()?;
    let report = train_once(&config, &out, registry, resumed.as_ref(), stop, args.json)?;
    if args.json {
        json(&report)?;
    } else {
        say!("{}", report.table().trim_end());
    }
    Ok(())
}

fn configuration(args: &TrainArgs, resumed: Option<&Checkpoint>) -> Outcome<(Config, String)> {
    if let Some(path) = &args.config {
        let name = path.file_stem().map_or("run".into(), |s| s.to_string_lossy().into_owned());
        return Ok((Config::open(path, &args.sets)?, name));
    }
    if let Some(name) = &args.preset {
        let known: Vec<&str> = PRESETS.iter().map(|(n, _)| *n).collect();
        let Some((_, text)) = PRESETS.iter().find(|(n, _)| n == name) else {
            return Err(Failure::input(anyhow!("--preset: expected one of {}, found {name}", known.join(", "))));
        };
        return Ok((Config::resolve(text, &format!("preset {name}"), &args.sets)?, name.clone()));
    }
    match resumed {
        Some(c) => Ok((Config::resolve(&c.config, &c.path.display().to_string(), &args.sets)?, "run".into())),
        None => Err(Failure::input(anyhow!("expected --config FILE or --preset NAME, found neither"))),
    }
}

/// The checkpoint that `--resume` means; `auto` with no checkpoint yet starts from the beginning.
fn find_resumed(args: &TrainArgs, from: &str) -> Outcome<Option<Checkpoint>> {
    if from != "auto" {
        return session::open_checkpoint(Path::new(from)).map(Some);
    }
    let Some(out) = &args.out else {
        return Err(Failure::input(anyhow!("--resume auto: expected --out with the run's folder, found none")));
    };
    Ok(Checkpoint::newest(out)?.map(|path| Checkpoint::open(&path)).transpose()?)
}

/// `RUN/checkpoints/step-N` to `RUN`.
fn run_of(checkpoint: &Path) -> Outcome<PathBuf> {
    checkpoint.parent().and_then(Path::parent).map(Path::to_path_buf).ok_or_else(|| {
        Failure::input(anyhow!("{}: expected a checkpoint inside a run's folder; name --out", checkpoint.display()))
    })
}

fn first_free(name: &str) -> PathBuf {
    let base = PathBuf::from("runs");
    (1..)
        .map(|n| base.join(if n == 1 { name.to_owned() } else { format!("{name}-{n}") }))
        .find(|p| !p.exists())
        .unwrap_or(base)
}

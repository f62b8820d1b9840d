//! `tavq train`: data, text index, model, the loop, an evaluation, pictures and a short table.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::anyhow;
use clap::Args;
use tavq_torch::Solo;
use tavq_train::{Checkpoint, Config, DataSet, JsonlSink, Model, Registry, Services, TextSide, Trainer, write_pairs};

use crate::failure::{Failure, Outcome, writing};
use crate::report::{Report, evaluate_run};
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
    /// Prints the resolved configuration and stops.
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
        print!("{}", config.to_toml()?);
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
        println!("{}", serde_json::to_string_pretty(&report).map_err(Failure::work)?);
    } else {
        print!("{}", report.table());
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

/// A flag that SIGINT and SIGTERM set; a second one ends the process at once.
pub(crate) fn stop_on_signals() -> Outcome<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The order matters: the first handler exits when the flag is already up, the second puts it up.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(Failure::work)?;
    }
    Ok(stop)
}

/// One run and its evaluation.
pub(crate) fn train_once(
    config: &Config,
    out: &Path,
    registry: &Registry,
    resumed: Option<&Checkpoint>,
    stop: Arc<AtomicBool>,
    quiet: bool,
) -> Outcome<Report> {
    if config.run.threads > 0 {
        tch::set_num_threads(config.run.threads);
    }
    tavq_torch::set_deterministic(config.run.deterministic);
    let data = DataSet::open(config)?;
    let text = text_for(config, &data, quiet)?;
    let mut model = Model::new(config, registry, text.as_ref().map(TextSide::dim))?;
    std::fs::create_dir_all(out).map_err(writing(out))?;
    let resolved = config.to_toml()?;
    let config_path = out.join("config.toml");
    tavq_torch::write_atomic(&config_path, |f| f.write_all(resolved.as_bytes())).map_err(writing(&config_path))?;
    let first = resumed.map_or(0, |c| c.state.step);
    let services = Services {
        collective: Box::new(Solo),
        sinks: vec![Box::new(JsonlSink::resume(&out.join("metrics.jsonl"), first)?)],
        stop,
        quiet,
    };
    let samples = out.join("samples");
    let mut fixed = data.validation(config)?;
    let first_batch = fixed.next()?;
    let sample = |model: &Model, step: u64| {
        let Some((_, images)) = &first_batch else { return Ok(()) };
        let images = images.to_device(model.device());
        let pass = tch::no_grad(|| model.forward(&images, false))?;
        write_pairs(&samples.join(format!("step-{step:06}.png")), &images, &pass.reconstruction, 12, 96)
    };
    let trainer = Trainer::new(config, out, &mut model, &data, text.as_ref(), services, resumed)?;
    let outcome = trainer.run(sample)?;
    Ok(evaluate_run(config, out, &model, &data, text.as_ref(), Some(outcome), quiet)?)
}

fn text_for(config: &Config, data: &DataSet, quiet: bool) -> Outcome<Option<TextSide>> {
    if config.loss.alignment.iter().all(|w| *w == 0.0) {
        return Ok(None);
    }
    session::text_side(config, &data.texts(), quiet).map(Some)
}

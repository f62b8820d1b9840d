//! One training run as `train` and `--study` start it: data, text index, model, the loop, pictures, evaluation.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tavq_data::Cursor;
use tavq_torch::Solo;
use tavq_train::{Checkpoint, Config, DataSet, JsonlSink, Model, Registry, Services, TextSide, Trainer, write_pairs};

use crate::failure::{Failure, Outcome, writing};
use crate::report::{Report, evaluate_run};
use crate::session;

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
    if resumed.is_none() {
        session::start_from(&model, &config.model.init, quiet)?;
    }
    // A batch that does not fit is told before anything of the run is on disk.
    data.training(config, &Cursor::default(), &Solo)?.next()?;
    let mut fixed = data.validation(config)?;
    let first_batch = fixed.next()?;
    if let Some((_, images)) = &first_batch {
        tch::no_grad(|| model.forward(&images.narrow(0, 0, 1).to_device(model.device()), false))?;
    }
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
    let sample = |model: &Model, step: u64| {
        let Some((_, images)) = &first_batch else { return Ok(()) };
        let images = images.to_device(model.device());
        let pass = tch::no_grad(|| model.forward(&images, false))?;
        write_pairs(&samples.join(format!("step-{step:06}.png")), &images, &pass.reconstruction, 12, 96)
    };
    let trainer = Trainer::new(config, out, &mut model, &data, text.as_ref(), services, resumed)?;
    let outcome = trainer.run(sample)?;
    evaluate_run(config, out, &model, &data, text.as_ref(), Some(outcome), quiet)
}

fn text_for(config: &Config, data: &DataSet, quiet: bool) -> Outcome<Option<TextSide>> {
    if config.loss.alignment.iter().all(|w| *w == 0.0) {
        return Ok(None);
    }
    session::text_side(config, &data.texts(), quiet).map(Some)
}

//! Laws of a whole run, held with a backbone of the test's own: the trainer needs no other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tavq_quant::{Backbone, LevelShape, QuantizerConfig};
use tavq_torch::Solo;
use tavq_train::{
    Checkpoint, Config, DataSet, JsonlSink, Model, Outcome, Record, Registry, Result, Services, Sink, TrainError,
    Trainer, parse_table,
};
use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};

/// Runs draw from libtorch's one generator, which they seed at each step: two in a process must not overlap.
fn alone() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One convolution each way, and a second level out of the first.
struct Small {
    down: nn::Conv2D,
    further: nn::Conv2D,
    up: nn::ConvTranspose2D,
    levels: [LevelShape; 2],
}

impl Small {
    fn build(path: &nn::Path<'_>, _: toml::Table) -> Result<Box<dyn Backbone>> {
        let halve = nn::ConvConfig { stride: 2, ..Default::default() };
        let grow = nn::ConvTransposeConfig { stride: 4, ..Default::default() };
        Ok(Box::new(Self {
            down: nn::conv2d(path / "down", 3, 8, 2, halve),
            further: nn::conv2d(path / "further", 8, 8, 2, halve),
            up: nn::conv_transpose2d(path / "up", 8, 3, 4, grow),
            levels: [2, 4].map(|stride| LevelShape { channels: 8, stride }),
        }))
    }
}

impl Backbone for Small {
    fn levels(&self) -> &[LevelShape] {
        &self.levels
    }
    fn encode(&self, images: &Tensor, train: bool) -> tavq_quant::Result<Vec<Tensor>> {
        // Dropout, so that a run depends on libtorch's generator at every step.
        let fine = self.down.forward(images).dropout(0.1, train);
        let coarse = self.further.forward(&fine);
        Ok(vec![fine, coarse])
    }
    fn decode(&self, latent: &Tensor, _: bool) -> tavq_quant::Result<Tensor> {
        Ok(self.up.forward(latent))
    }
}

fn registry() -> Registry {
    Registry::default().backbone("small", Small::build).quantizer("standard", |path, table, dim| {
        Ok(parse_table::<QuantizerConfig>("model.quantizer", table["of"].as_table().unwrap().clone())?
            .build(path, dim)?)
    })
}

/// Thirteen pictures of noise: batches of five wrap around the epoch's end.
fn pictures(dir: &Path) -> PathBuf {
    let mut lines = String::new();
    for i in 0..13u32 {
        let picture = image::RgbImage::from_fn(20, 20, |x, y| {
            image::Rgb([(x * 11 + i * 7) as u8, (y * 13 * (i + 1)) as u8, ((x ^ y) * 9 + i) as u8])
        });
        picture.save(dir.join(format!("{i}.png"))).unwrap();
        lines += &format!(
            "{{\"image\": \"{i}.png\", \"text\": \"Picture {i}.\", \"key\": \"{i}\", \"split\": \"train\"}}\n"
        );
    }
    let manifest = dir.join("manifest.jsonl");
    std::fs::write(&manifest, lines).unwrap();
    manifest
}

fn config(manifest: &Path, quantizer: &str, sets: &[&str]) -> Config {
    let text = format!(
        r#"
[run]
steps = 8
checkpoint_every = 3
keep = 9
log_every = 1
[data]
manifest = "{}"
validation_split = ""
batch_size = 5
transform = {{ size = 16, resize = 18, crop = "random", flip = 0.5 }}
[model]
backbone = {{ kind = "small" }}
quantizer = {{ kind = "standard", of = {quantizer} }}
[loss]
alignment = [0.0, 0.0, 0.0]
"#,
        manifest.display()
    );
    Config::resolve(&text, "test", &sets.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn train(config: &Config, out: &Path, resume: Option<&Path>, sinks: Vec<Box<dyn Sink>>, stop: bool) -> Result<Outcome> {
    let data = DataSet::open(config)?;
    let mut model = Model::new(config, &registry(), None)?;
    let resume = resume.map(Checkpoint::open).transpose()?;
    let stop = Arc::new(AtomicBool::new(stop));
    let services = Services { collective: Box::new(Solo), sinks, stop, quiet: true };
    Trainer::new(config, out, &mut model, &data, None, services, resume.as_ref())?.run(|_, _| Ok(()))
}

fn files(checkpoint: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(checkpoint)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read(e.path()).unwrap()))
        .collect()
}

const QUANTIZERS: [&str; 8] = [
    r#"{ kind = "vq", codes = 12 }"#,
    r#"{ kind = "ema", codes = 12, expire_below = 0.5 }"#,
    r#"{ kind = "cvq", codes = 12, anchor = "probrandom" }"#,
    r#"{ kind = "cvq", codes = 200, anchor = "random", start = "first_batch" }"#,
    r#"{ kind = "ema", codes = 12, normalize = true, start = "kmeans" }"#,
    r#"{ kind = "lfq", bits = 8, beta = 0.25 }"#,
    r#"{ kind = "residual", depth = 3, dropout = 0.7, quantizer = { kind = "ema", codes = 12, start = "kmeans" } }"#,
    r#"{ kind = "residual", depth = 3, dropout = 0.9, quantizer = { kind = "vq", codes = 12 } }"#,
];

#[test]
fn resuming_changes_no_bit() {
    let _alone = alone();
    for quantizer in QUANTIZERS {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&pictures(dir.path()), quantizer, &[]);
        let [whole, rest] = ["whole", "rest"].map(|n| dir.path().join(n));
        let log = |run: &Path, from| -> Vec<Box<dyn Sink>> {
            vec![Box::new(JsonlSink::resume(&run.join("metrics.jsonl"), from).unwrap())]
        };
        let straight = train(&config, &whole, None, log(&whole, 0), false).unwrap();
        assert_eq!(straight.steps, 8);
        for from in [3, 6] {
            let saved = whole.join(format!("checkpoints/step-{from:06}"));
            let out = rest.join(from.to_string());
            std::fs::create_dir_all(&out).unwrap();
            std::fs::copy(whole.join("metrics.jsonl"), out.join("metrics.jsonl")).unwrap();
            let resumed = train(&config, &out, Some(&saved), log(&out, from), false).unwrap();
            assert_eq!(resumed.steps, 8 - from);
            assert_eq!(resumed.usage, straight.usage, "{quantizer}");
            let (a, b) = (files(&straight.checkpoint), files(&resumed.checkpoint));
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
            for (name, bytes) in &a {
                assert!(&b[name] == bytes, "{quantizer}: {name} differs when resumed from step {from}");
            }
            let [a, b] = [&whole, &out].map(|run| std::fs::read_to_string(run.join("metrics.jsonl")).unwrap());
            assert_eq!(a, b, "{quantizer}");
        }
    }
}

#[test]
fn a_step_moves_every_part() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let config = config(&pictures(dir.path()), QUANTIZERS[0], &["run.checkpoint_every=1", "run.steps=2"]);
    train(&config, dir.path(), None, vec![], false).unwrap();
    let open = |step: u64| Checkpoint::open(&dir.path().join(format!("checkpoints/step-{step:06}"))).unwrap();
    let (first, second) = (open(1).model().unwrap(), open(2).model().unwrap());
    for name in ["down.weight", "further.bias", "up.weight", "quantize.embedding.weight"] {
        let gap = (first.get(name).unwrap() - second.get(name).unwrap()).abs().max();
        assert!(gap.double_value(&[]) > 0.0, "{name} stands still");
    }
}

#[test]
fn a_signal_saves_and_stops() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let config = config(&pictures(dir.path()), QUANTIZERS[2], &[]);
    let error = train(&config, dir.path(), None, vec![], true).unwrap_err();
    assert!(matches!(error, TrainError::Interrupted { step: 1 }) && !error.is_input(), "{error}");
    let saved = Checkpoint::newest(dir.path()).unwrap().unwrap();
    let rest = train(&config, dir.path(), Some(&saved), vec![], false).unwrap();
    assert_eq!(rest.steps, 7);
}

/// Keeps the steps it saw, and refuses at one of them.
struct Full(Arc<Mutex<Vec<u64>>>);

impl Sink for Full {
    fn write(&mut self, record: &Record<'_>) -> Result<()> {
        self.0.lock().unwrap().push(record.step);
        if record.step < 2 {
            return Ok(());
        }
        Err(TrainError::Io { path: "metrics".into(), source: std::io::ErrorKind::StorageFull.into() })
    }
}

#[test]
fn a_full_disk_ends_the_run_and_is_no_fault_of_the_input() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let config = config(&pictures(dir.path()), QUANTIZERS[0], &[]);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let error = train(&config, dir.path(), None, vec![Box::new(Full(Arc::clone(&seen)))], false).unwrap_err();
    assert!(error.to_string().starts_with("metrics: ") && !error.is_input(), "{error}");
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
}

#[test]
fn a_loss_that_is_no_number_stops_before_the_weights_are_spoilt() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let sets = ["loss.reconstruction=1e300", "run.checkpoint_every=1"];
    let error = train(&config(&pictures(dir.path()), QUANTIZERS[0], &sets), dir.path(), None, vec![], false);
    let error = error.unwrap_err();
    assert!(matches!(error, TrainError::Diverged { step: 0, .. }), "{error}");
    assert_eq!(Checkpoint::newest(dir.path()).unwrap(), None);
}

#[test]
fn a_checkpoint_of_another_model_is_refused_by_name() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let manifest = pictures(dir.path());
    let saved = train(&config(&manifest, QUANTIZERS[0], &[]), dir.path(), None, vec![], false).unwrap().checkpoint;
    let other = config(&manifest, r#"{ kind = "vq", codes = 13 }"#, &[]);
    let error = train(&other, dir.path(), Some(&saved), vec![], false).unwrap_err();
    let text = error.to_string();
    assert!(error.is_input() && text.contains("quantize.embedding.weight") && text.contains("[13, 8]"), "{text}");
}

#[test]
fn unknown_names_list_the_known_ones() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let config = config(&pictures(dir.path()), QUANTIZERS[0], &["model.backbone.kind=large"]);
    let text = Model::new(&config, &registry(), None).err().unwrap().to_string();
    assert_eq!(text, "model.backbone.kind = \"large\": expected one of small");
}

#[test]
fn the_side_levels_leave_the_decoded_one_alone() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let manifest = pictures(dir.path());
    let images = Tensor::linspace(-1.0, 1.0, 2 * 3 * 16 * 16, (Kind::Float, Device::Cpu)).view([2, 3, 16, 16]);
    let pass = |sets: &[&str]| {
        let model = Model::new(&config(&manifest, QUANTIZERS[0], sets), &registry(), None).unwrap();
        let _guard = tch::no_grad_guard();
        model.forward(&images, false).unwrap()
    };
    let (on, off) = (pass(&[]), pass(&["model.side_levels=false"]));
    assert_eq!((on.quantized.len(), off.quantized.len()), (2, 1));
    assert_eq!(on.reconstruction, off.reconstruction);
    assert_eq!(on.quantized[1].indices, off.quantized[0].indices);
}

#[test]
fn stop_is_seen_between_steps() {
    let _alone = alone();
    // The flag is read after each step: a run told to stop while it works ends within one step.
    let dir = tempfile::tempdir().unwrap();
    let config = config(&pictures(dir.path()), QUANTIZERS[0], &["run.steps=1000000", "run.checkpoint_every=1000000"]);
    let stop = Arc::new(AtomicBool::new(false));
    struct Raise(Arc<AtomicBool>);
    impl Sink for Raise {
        fn write(&mut self, record: &Record<'_>) -> Result<()> {
            if record.step == 4 {
                self.0.store(true, Ordering::Relaxed);
            }
            Ok(())
        }
    }
    let data = DataSet::open(&config).unwrap();
    let mut model = Model::new(&config, &registry(), None).unwrap();
    let sinks: Vec<Box<dyn Sink>> = vec![Box::new(Raise(Arc::clone(&stop)))];
    let services = Services { collective: Box::new(Solo), sinks, stop, quiet: true };
    let trainer = Trainer::new(&config, dir.path(), &mut model, &data, None, services, None).unwrap();
    let error = trainer.run(|_, _| Ok(())).unwrap_err();
    assert!(matches!(error, TrainError::Interrupted { step: 4 }), "{error}");
}

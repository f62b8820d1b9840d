//! The standard quantizers keep the laws of their seam; quantizers with one fault each break the law of that name.

use std::cell::Cell;

use tavq_quant::laws::quantizer_laws;
use tavq_quant::{
    Anchor, BatchUpdate, CvqConfig, Distance, EmaConfig, Form, FsqConfig, Gradient, LfqConfig, QuantError, Quantized,
    Quantizer, QuantizerConfig, ResidualConfig, Result, SimVqConfig, StagePath, Start, VqConfig,
};
use tch::nn;
use tch::{Kind, Tensor};

const DIM: i64 = 5;

fn hold(config: QuantizerConfig) {
    if let Err(broken) = quantizer_laws(DIM, &mut |path| config.build(path, DIM).unwrap()) {
        panic!("{config:?}: {broken}");
    }
}

const DISTANCES: [Distance; 2] = [Distance::SquaredL2, Distance::Cosine];

#[test]
fn the_plain_codebook_keeps_the_laws() {
    for distance in DISTANCES {
        for form in [Form::Standard, Form::Legacy] {
            for start in [Start::Uniform, Start::FirstBatch, Start::KMeans] {
                hold(QuantizerConfig::Vq(VqConfig { codes: 12, distance, form, start, ..VqConfig::default() }));
            }
        }
    }
}

#[test]
fn moving_averages_keep_the_laws() {
    for distance in DISTANCES {
        for expire_below in [0.0, 0.5] {
            // At a decay of 0.5 codes without vectors expire within the laws' three steps.
            let config = EmaConfig { codes: 40, distance, expire_below, decay: 0.5, ..EmaConfig::default() };
            for start in [Start::Uniform, Start::KMeans] {
                hold(QuantizerConfig::Ema(EmaConfig { start, ..config.clone() }));
            }
        }
    }
}

#[test]
fn codes_of_length_one_keep_the_laws() {
    let (codes, normalize) = (12, true);
    for start in [Start::Uniform, Start::FirstBatch, Start::KMeans] {
        hold(QuantizerConfig::Vq(VqConfig { codes, normalize, start, ..VqConfig::default() }));
        hold(QuantizerConfig::Ema(EmaConfig { codes, normalize, start, expire_below: 0.5, ..EmaConfig::default() }));
    }
}

#[test]
fn signs_keep_the_laws() {
    for (beta, entropy, scale) in [(0.0, 0.1, 1.0), (0.25, 0.0, 0.5), (0.25, 0.1, 2.0)] {
        for gradient in [Gradient::StraightThrough, Gradient::Rotation] {
            let config = LfqConfig { bits: DIM, beta, entropy, scale, gradient, ..LfqConfig::default() };
            hold(QuantizerConfig::Lfq(config));
        }
    }
}

#[test]
fn stages_of_any_kind_keep_the_laws() {
    let codes = 12;
    let kinds = [
        QuantizerConfig::Vq(VqConfig { codes, ..VqConfig::default() }),
        QuantizerConfig::Vq(VqConfig { codes, start: Start::KMeans, ..VqConfig::default() }),
        QuantizerConfig::Ema(EmaConfig { codes, expire_below: 0.5, ..EmaConfig::default() }),
        QuantizerConfig::Ema(EmaConfig { codes, start: Start::FirstBatch, ..EmaConfig::default() }),
        QuantizerConfig::Cvq(CvqConfig { codes, anchor: Anchor::Random, ..CvqConfig::default() }),
        QuantizerConfig::SimVq(SimVqConfig { codes, ..SimVqConfig::default() }),
        QuantizerConfig::Fsq(FsqConfig { levels: vec![4; DIM as usize] }),
        QuantizerConfig::Lfq(LfqConfig { bits: DIM, beta: 0.25, ..LfqConfig::default() }),
    ];
    for quantizer in kinds.map(Box::new) {
        for (shared, path, scale) in [(false, StagePath::First, 1.0), (true, StagePath::Every, 0.5)] {
            let quantizer = quantizer.clone();
            hold(QuantizerConfig::Residual(ResidualConfig {
                depth: 3,
                shared,
                path,
                scale,
                quantizer,
                ..ResidualConfig::default()
            }));
        }
    }
}

#[test]
fn the_online_clustered_codebook_keeps_the_laws() {
    for distance in DISTANCES {
        for anchor in [Anchor::Closest, Anchor::Random, Anchor::ProbRandom] {
            for (contrastive, start) in [(0.0, Start::Uniform), (1.0, Start::FirstBatch), (0.0, Start::KMeans)] {
                let config = CvqConfig { codes: 12, distance, anchor, contrastive, start, ..CvqConfig::default() };
                hold(QuantizerConfig::Cvq(config));
            }
        }
    }
}

#[test]
fn frozen_codes_behind_a_map_keep_the_laws() {
    for distance in DISTANCES {
        for form in [Form::Standard, Form::Legacy] {
            hold(QuantizerConfig::SimVq(SimVqConfig { codes: 12, distance, form, ..SimVqConfig::default() }));
        }
    }
}

#[test]
fn every_codebook_keeps_the_laws_under_rotation() {
    let (codes, gradient) = (12, Gradient::Rotation);
    hold(QuantizerConfig::Vq(VqConfig { codes, gradient, ..VqConfig::default() }));
    hold(QuantizerConfig::Ema(EmaConfig { codes, gradient, ..EmaConfig::default() }));
    hold(QuantizerConfig::Cvq(CvqConfig { codes, gradient, ..CvqConfig::default() }));
    hold(QuantizerConfig::SimVq(SimVqConfig { codes, gradient, ..SimVqConfig::default() }));
    hold(QuantizerConfig::Vq(VqConfig { codes, gradient, normalize: true, ..VqConfig::default() }));
}

/// What is wrong with a [`Broken`] quantizer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    RefusesAll,
    Shape,
    Type,
    NoIndex,
    FlatIndices,
    ShortIndices,
    LossOfEachCell,
    NotANumber,
    IndexTooLarge,
    OtherLookup,
    LookupTakesAll,
    Restless,
    NextCode,
    SeesTheBatch,
    CutOff,
    DeadVariable,
    OtherVariables,
    Forgets,
    AppliesAtRandom,
    CollectRefuses,
    UnequalStatistics,
    InfiniteStatistics,
    AttachedStatistics,
    CollectLearns,
    AppliesAnything,
    ApplyRefuses,
    ApplySpoils,
}

/// A sound codebook of 8 codes behind one fault.
struct Broken {
    sound: Box<dyn Quantizer>,
    fault: Fault,
    calls: Cell<i64>,
    spoiled: bool,
    /// Grows with every quantizer made.
    serial: i64,
    /// Not trainable.
    memory: Tensor,
}

impl Broken {
    fn new(fault: Fault, path: &nn::Path<'_>, serial: i64) -> Self {
        let sound = QuantizerConfig::Vq(VqConfig { codes: 8, ..VqConfig::default() }).build(path, DIM).unwrap();
        match fault {
            Fault::DeadVariable => drop(path.zeros("dead", &[2])),
            Fault::OtherVariables => drop(path.zeros_no_train(&format!("of {serial}"), &[2])),
            _ => {}
        }
        let memory = path.zeros_no_train("memory", &[1]);
        Self { sound, fault, calls: Cell::new(0), spoiled: false, serial, memory }
    }

    /// The sound result with every index moved on by `by` codes.
    fn moved(&self, q: Quantized, by: i64) -> Result<Quantized> {
        let indices = (&q.indices + by).remainder(8);
        let codes = self.sound.lookup(&indices)?.permute([0, 3, 1, 2]);
        Ok(Quantized { latent: &q.latent - q.latent.detach() + codes, indices, loss: q.loss })
    }
}

fn refuse<T>() -> Result<T> {
    Err(QuantError::config("fault", "none", 1))
}

impl Quantizer for Broken {
    fn codes(&self) -> i64 {
        8
    }

    fn depth(&self) -> i64 {
        i64::from(self.fault != Fault::NoIndex)
    }

    fn quantize(&self, latent: &Tensor, train: bool) -> Result<Quantized> {
        let q = self.sound.quantize(latent, train)?;
        self.calls.set(self.calls.get() + i64::from(self.fault == Fault::Restless));
        Ok(match self.fault {
            Fault::RefusesAll => return refuse(),
            Fault::Shape => Quantized { latent: q.latent.flatten(2, 3), ..q },
            Fault::Type => Quantized { latent: q.latent.to_kind(Kind::Double), ..q },
            Fault::FlatIndices => Quantized { indices: q.indices.flatten(0, -1), ..q },
            Fault::ShortIndices => Quantized { indices: q.indices.to_kind(Kind::Int), ..q },
            Fault::LossOfEachCell => Quantized { loss: q.loss.expand([4], false), ..q },
            Fault::NotANumber => Quantized { loss: q.loss * f64::NAN, ..q },
            Fault::IndexTooLarge => Quantized { indices: q.indices + 8, ..q },
            Fault::NextCode => self.moved(q, 1)?,
            Fault::Restless | Fault::CollectLearns => self.moved(q, self.calls.get())?,
            Fault::SeesTheBatch if latent.size()[0] == 1 => self.moved(q, 1)?,
            Fault::Forgets if self.spoiled => Quantized { loss: q.loss * 2.0, ..q },
            Fault::CutOff => Quantized { latent: q.latent.detach(), ..q },
            _ => q,
        })
    }

    fn lookup(&self, indices: &Tensor) -> Result<Tensor> {
        match self.fault {
            Fault::OtherLookup => Ok(self.sound.lookup(indices)? * 2.0),
            Fault::ApplySpoils if self.spoiled => Ok(self.sound.lookup(indices)? * 2.0),
            Fault::LookupTakesAll => self.sound.lookup(&indices.clamp(0, 7)),
            _ => self.sound.lookup(indices),
        }
    }

    fn batch_update(&mut self) -> Option<&mut dyn BatchUpdate> {
        Some(self)
    }
}

impl BatchUpdate for Broken {
    fn collect(&self, latent: &Tensor, quantized: &Quantized) -> Result<Vec<Tensor>> {
        let sum = || latent.sum(Kind::Float);
        Ok(match self.fault {
            Fault::CollectRefuses => return refuse(),
            Fault::UnequalStatistics => vec![latent.copy()],
            Fault::InfiniteStatistics => vec![sum() / 0.0],
            Fault::AttachedStatistics => vec![quantized.loss.shallow_clone()],
            Fault::CollectLearns => {
                self.calls.set(1);
                vec![sum()]
            }
            _ => vec![sum()],
        })
    }

    fn apply(&mut self, summed: &[Tensor], _step: u64) -> Result<()> {
        let fits = summed.len() == 1 || self.fault == Fault::AppliesAnything;
        if !fits || self.fault == Fault::ApplyRefuses {
            return Err(QuantError::Statistics { expected: 1, found: summed.len() });
        }
        self.spoiled = true;
        if self.fault == Fault::AppliesAtRandom {
            let _ = self.memory.fill_(self.serial as f64);
        }
        Ok(())
    }
}

#[test]
fn every_fault_breaks_the_law_of_its_name() {
    let table = [
        (Fault::RefusesAll, "quantize: refused a valid call"),
        (Fault::Shape, "latent keeps its shape"),
        (Fault::Type, "latent keeps its type"),
        (Fault::NoIndex, "a cell has an index"),
        (Fault::FlatIndices, "a cell has as many indices as declared"),
        (Fault::ShortIndices, "indices are int64"),
        (Fault::LossOfEachCell, "loss is a scalar"),
        (Fault::NotANumber, "values are finite"),
        (Fault::IndexTooLarge, "indices lie in 0..K"),
        (Fault::OtherLookup, "lookup(indices) is the latent"),
        (Fault::LookupTakesAll, "lookup refuses an index outside 0..K"),
        (Fault::Restless, "quantize is deterministic and changes nothing"),
        (Fault::NextCode, "quantizing codes gives them back"),
        (Fault::SeesTheBatch, "codes do not depend on the batch"),
        (Fault::CutOff, "gradient reaches the encoder"),
        (Fault::DeadVariable, "gradient reaches every trainable variable"),
        (Fault::OtherVariables, "two of a kind have the same variables"),
        (Fault::Forgets, "the variables are the whole state"),
        (Fault::AppliesAtRandom, "equal statistics change equal quantizers alike"),
        (Fault::CollectRefuses, "collect: refused a valid call"),
        (Fault::UnequalStatistics, "statistics of any batch have the same shapes"),
        (Fault::InfiniteStatistics, "statistics are finite"),
        (Fault::AttachedStatistics, "statistics are cut from the graph"),
        (Fault::CollectLearns, "collect changes nothing"),
        (Fault::AppliesAnything, "apply refuses another number of statistics"),
        (Fault::ApplyRefuses, "apply: refused a valid call"),
        (Fault::ApplySpoils, "lookup(indices) is the latent"),
    ];
    for (fault, law) in table {
        let mut serial = 0;
        let mut make = |path: &nn::Path<'_>| -> Box<dyn Quantizer> {
            serial += 1;
            Box::new(Broken::new(fault, path, serial))
        };
        let broken = quantizer_laws(DIM, &mut make).expect_err(law);
        assert!(broken.starts_with(law), "{fault:?}: expected \"{law}\", found \"{broken}\"");
    }
}

/// What is wrong with a [`Staged`] quantizer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum StageFault {
    Nothing,
    LeavesOutTheFirst,
    LeavesOutInEvaluation,
    LookupTakesTwoLess,
}

/// Two sound stages behind one fault.
struct Staged(Box<dyn Quantizer>, StageFault);

impl Quantizer for Staged {
    fn codes(&self) -> i64 {
        self.0.codes()
    }

    fn depth(&self) -> i64 {
        2
    }

    fn quantize(&self, latent: &Tensor, train: bool) -> Result<Quantized> {
        let q = self.0.quantize(latent, train)?;
        let left_out = match (self.1, train) {
            (StageFault::LeavesOutTheFirst, true) => 0,
            (StageFault::LeavesOutInEvaluation, false) => 1,
            _ => return Ok(q),
        };
        let _ = q.indices.select(3, left_out).fill_(-1);
        Ok(q)
    }

    fn lookup(&self, indices: &Tensor) -> Result<Tensor> {
        let taken =
            if self.1 == StageFault::LookupTakesTwoLess { indices.clamp_min(-1) } else { indices.shallow_clone() };
        self.0.lookup(&taken)
    }
}

#[test]
fn faults_of_stages_break_the_laws_of_their_names() {
    let table = [
        (StageFault::LeavesOutTheFirst, "only the last indices are left out"),
        (StageFault::LeavesOutInEvaluation, "indices lie in 0..K"),
        (StageFault::LookupTakesTwoLess, "lookup refuses an index outside 0..K"),
    ];
    let laws = |fault| {
        let quantizer = Box::new(QuantizerConfig::Vq(VqConfig { codes: 8, ..VqConfig::default() }));
        let config = QuantizerConfig::Residual(ResidualConfig { depth: 2, quantizer, ..ResidualConfig::default() });
        quantizer_laws(DIM, &mut |path| Box::new(Staged(config.build(path, DIM).unwrap(), fault)))
    };
    assert_eq!(laws(StageFault::Nothing), Ok(()));
    for (fault, law) in table {
        let broken = laws(fault).expect_err(law);
        assert!(broken.starts_with(law), "{fault:?}: expected \"{law}\", found \"{broken}\"");
    }
}

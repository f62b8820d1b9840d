//! The standard quantizers keep the laws of their seam; quantizers with one fault each break the law of that name.

use std::cell::Cell;

use tavq_quant::laws::quantizer_laws;
use tavq_quant::{
    Anchor, BatchUpdate, CvqConfig, Distance, EmaConfig, Form, Gradient, QuantError, Quantized, Quantizer,
    QuantizerConfig, Result, SimVqConfig, Start, VqConfig,
};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const DIM: i64 = 5;

fn build(config: &QuantizerConfig) -> Box<dyn Quantizer> {
    // The variables outlive the store: tensors are shared.
    config.build(&VarStore::new(Device::Cpu).root(), DIM).unwrap()
}

fn hold(config: QuantizerConfig) {
    if let Err(broken) = quantizer_laws(&mut || (build(&config), DIM)) {
        panic!("{config:?}: {broken}");
    }
}

const DISTANCES: [Distance; 2] = [Distance::SquaredL2, Distance::Cosine];

#[test]
fn the_plain_codebook_keeps_the_laws() {
    for distance in DISTANCES {
        for form in [Form::Standard, Form::Legacy] {
            for start in [Start::Uniform, Start::FirstBatch] {
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
            hold(QuantizerConfig::Ema(config));
        }
    }
}

#[test]
fn the_online_clustered_codebook_keeps_the_laws() {
    for distance in DISTANCES {
        for anchor in [Anchor::Closest, Anchor::Random, Anchor::ProbRandom] {
            for contrastive in [0.0, 1.0] {
                let config = CvqConfig { codes: 12, distance, anchor, contrastive, ..CvqConfig::default() };
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
}

/// What is wrong with a [`Broken`] quantizer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    RefusesAll,
    Shape,
    Type,
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
}

impl Broken {
    fn new(fault: Fault) -> Self {
        let sound = build(&QuantizerConfig::Vq(VqConfig { codes: 8, ..VqConfig::default() }));
        Self { sound, fault, calls: Cell::new(0), spoiled: false }
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
        Ok(())
    }
}

#[test]
fn every_fault_breaks_the_law_of_its_name() {
    let table = [
        (Fault::RefusesAll, "quantize: refused a valid call"),
        (Fault::Shape, "latent keeps its shape"),
        (Fault::Type, "latent keeps its type"),
        (Fault::FlatIndices, "one index a cell"),
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
        let broken = quantizer_laws(&mut || (Box::new(Broken::new(fault)), DIM)).expect_err(law);
        assert!(broken.starts_with(law), "{fault:?}: expected \"{law}\", found \"{broken}\"");
    }
}

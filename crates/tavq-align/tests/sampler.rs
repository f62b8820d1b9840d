//! The laws of samplers. Alone in its process and in one test: the laws seed libtorch's generator, which all threads share.

use tavq_align::laws::{sampler_laws, selection_laws};
use tavq_align::{AllCodes, CodeSampler, Result, Sampled, SamplerConfig, SubsetCodes};
use tch::{Device, Kind, Tensor};

/// A subset with one thing wrong.
enum Broken {
    WithReplacement,
    RandomInEvaluation,
    Detached,
    WrongPositions,
    Swapped,
    OutOfGrid,
}

impl CodeSampler for Broken {
    fn sample(&self, codes: &Tensor, train: bool) -> Result<Sampled> {
        let (b, n, d) = codes.size3()?;
        let Sampled { codes: picked, positions } = SubsetCodes { count: 9 }.sample(codes, train)?;
        Ok(match self {
            Self::WithReplacement => {
                let positions = Tensor::full([b, 9], 4, (Kind::Int64, Device::Cpu));
                let picked = codes.gather(1, &positions.unsqueeze(-1).expand([b, 9, d], false), false);
                Sampled { codes: picked, positions }
            }
            Self::RandomInEvaluation => SubsetCodes { count: 9 }.sample(codes, true)?,
            Self::Detached => Sampled { codes: picked.detach(), positions },
            Self::WrongPositions => Sampled { codes: picked, positions: (positions + 1).remainder(n) },
            Self::Swapped => Sampled { codes: picked.transpose(0, 1), positions },
            Self::OutOfGrid => Sampled { codes: picked, positions: positions + n },
        })
    }
}

#[test]
fn laws_hold_and_catch_broken_samplers() {
    selection_laws(&AllCodes).unwrap();
    for count in [1, 2, 9, 34, 35, 36, 1000] {
        selection_laws(&SubsetCodes { count }).unwrap();
    }
    let cases = [
        (Broken::WithReplacement, "distinct cells"),
        (Broken::RandomInEvaluation, "deterministic"),
        (Broken::Detached, "differentiable"),
        (Broken::WrongPositions, "a code is the one"),
        (Broken::Swapped, "codes are [B, S, D]"),
        (Broken::OutOfGrid, "positions are cells"),
    ];
    for (broken, law) in cases {
        let found = selection_laws(&broken).unwrap_err();
        assert!(found.starts_with(law), "expected {law}, found {found}");
    }
    // A sampler may change the codes it takes, as a probabilistic one does.
    sampler_laws(&Broken::WrongPositions).unwrap();
    subsets_are_uniform_and_spread();
}

fn subsets_are_uniform_and_spread() {
    let codes = Tensor::zeros([4000, 16, 1], (Kind::Float, Device::Cpu));
    tch::manual_seed(3);
    let positions = SubsetCodes { count: 4 }.sample(&codes, true).unwrap().positions;
    let shares = positions.reshape([-1]).bincount::<Tensor>(None, 16).to_kind(Kind::Double) / 16000.0;
    let worst = (shares - 1.0 / 16.0).abs().max().double_value(&[]);
    assert!(worst < 0.01, "a cell's share is {worst} off");
    // In evaluation: 16 of 256 cells of a 16 x 16 grid touch at least half of the rows and of the columns.
    let codes = Tensor::zeros([1, 256, 1], (Kind::Float, Device::Cpu));
    let cells =
        Vec::<i64>::try_from(SubsetCodes { count: 16 }.sample(&codes, false).unwrap().positions.view(-1)).unwrap();
    let distinct = |key: fn(i64) -> i64| cells.iter().map(|c| key(*c)).collect::<std::collections::BTreeSet<_>>().len();
    assert!(distinct(|c| c / 16) >= 8, "rows of {cells:?}");
    assert!(distinct(|c| c % 16) >= 8, "columns of {cells:?}");
    assert!(SamplerConfig::Subset { count: 0 }.build("align.sampler").is_err());
}

//! Which codes of a grid take part in the transport.

use serde::{Deserialize, Serialize};
use tavq_torch::check_shape;
use tch::{Device, Kind, Tensor};

use crate::{AlignError, CodeSampler, Result, Sampled};

/// Which sampler to use; `kind` names it. The braces make serde refuse keys that a variant does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SamplerConfig {
    /// [`AllCodes`].
    All {},
    /// [`SubsetCodes`].
    Subset {
        /// Codes per image, at least 1.
        count: i64,
    },
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self::All {}
    }
}

impl SamplerConfig {
    /// The sampler named; `field` is the path that an error reports.
    pub fn build(&self, field: &str) -> Result<Box<dyn CodeSampler>> {
        match *self {
            Self::All {} => Ok(Box::new(AllCodes)),
            Self::Subset { count } if count >= 1 => Ok(Box::new(SubsetCodes { count })),
            Self::Subset { count } => Err(AlignError::Config {
                field: format!("{field}.count"),
                expected: "at least 1".to_owned(),
                found: count.to_string(),
            }),
        }
    }
}

/// Every code: the exact baseline.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllCodes;

impl CodeSampler for AllCodes {
    fn sample(&self, codes: &Tensor, _train: bool) -> Result<Sampled> {
        check_shape("codes", codes, &[-1, -1, -1])?;
        let (b, n, _) = codes.size3()?;
        let positions = Tensor::arange(n, (Kind::Int64, codes.device())).unsqueeze(0).expand([b, n], false);
        Ok(Sampled { codes: codes.shallow_clone(), positions })
    }
}

/// `count` codes per image, without replacement, in row-major order; all of them when there are no more.
///
/// In training each image gets its own uniform draw. Otherwise every image gets the same cells, spread over
/// the grid by a stride near N / golden ratio: equal steps of N / count would all fall into one column when
/// the grid's width divides them.
#[derive(Debug, Clone, Copy)]
pub struct SubsetCodes {
    /// Codes per image.
    pub count: i64,
}

impl CodeSampler for SubsetCodes {
    fn sample(&self, codes: &Tensor, train: bool) -> Result<Sampled> {
        check_shape("codes", codes, &[-1, -1, -1])?;
        let (b, n, d) = codes.size3()?;
        let count = self.count.clamp(0, n);
        let positions = if train && count < n {
            // Drawn on the CPU, so that a seed means the same cells on every device.
            let (_, drawn) = Tensor::rand([b, n], (Kind::Float, Device::Cpu)).topk(count, 1, true, false);
            drawn.sort(1, false).0
        } else {
            Tensor::from_slice(&spread(n, count)).unsqueeze(0).expand([b, count], false)
        };
        let positions = positions.to_device(codes.device());
        let picked = codes.gather(1, &positions.unsqueeze(-1).expand([b, count, d], false), false);
        Ok(Sampled { codes: picked, positions })
    }
}

/// `count` distinct cells of `0..n`, ascending.
fn spread(n: i64, count: i64) -> Vec<i64> {
    let golden = (n as f64 * 0.618_033_988_749_895).round() as i64;
    // n - 1 and 1 are coprime to n, so the search ends.
    let stride = (golden.max(1)..n).find(|s| gcd(*s, n) == 1).unwrap_or(1);
    let mut cells: Vec<i64> = (0..count).map(|i| (n / 2 + i * stride) % n).collect();
    cells.sort_unstable();
    cells
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

//! The alignment of one level: map, sampler, cost, transport, loss.

use tavq_torch::check_shape;
use tch::{Kind, Tensor, nn, no_grad};

use crate::config::at_least_one;
use crate::loss::{AlignLoss, contrastive_loss, plain_loss};
use crate::map::CodeMap;
use crate::sinkhorn::solve;
use crate::text::Targets;
use crate::value::envelope;
use crate::{AlignConfig, AlignError, CodeSampler, Cost, LossForm, Result, TextBatch, Transport, all_pairs};

// Costs, kernel and plan of the pairs solved at once in `pair_costs`, in elements of one of them.
const PAIR_BUDGET: i64 = 4 << 20;

/// Aligns the codes of one level with the text units of one granularity.
///
/// Its only trainable part is the map phi from the codes' width D to the texts' width Dt, under the path
/// given at construction. Texts enter as constants.
pub struct LevelAlignment {
    map: CodeMap,
    sampler: Box<dyn CodeSampler>,
    cost: Box<dyn Cost>,
    config: AlignConfig,
    code_dim: i64,
    text_dim: i64,
}

/// A batch of problems on the graph: costs with gradient, masses without.
struct Pairs {
    /// `[P, S, M]`.
    cost: Tensor,
    /// `[P, S]`.
    source: Tensor,
    /// `[P, M]`.
    target: Tensor,
}

impl LevelAlignment {
    /// Builds the map under `path`, with the sampler and cost that `config` names.
    pub fn new(path: &nn::Path, code_dim: i64, text_dim: i64, config: &AlignConfig) -> Result<Self> {
        config.check("align")?;
        let (sampler, cost) = (config.sampler.build("align.sampler")?, config.cost.build());
        Self::with_parts(path, code_dim, text_dim, config, sampler, cost)
    }

    /// As [`Self::new`], with a sampler and a cost of the caller's own; `config.sampler` and `config.cost` are not read.
    pub fn with_parts(
        path: &nn::Path,
        code_dim: i64,
        text_dim: i64,
        config: &AlignConfig,
        sampler: Box<dyn CodeSampler>,
        cost: Box<dyn Cost>,
    ) -> Result<Self> {
        config.check("align")?;
        at_least_one(code_dim, || "align: code width".to_owned())?;
        at_least_one(text_dim, || "align: text width".to_owned())?;
        let map = CodeMap::new(path, code_dim, text_dim, &config.map);
        Ok(Self { map, sampler, cost, config: *config, code_dim, text_dim })
    }

    /// The loss of a batch: codes `[B, D, h, w]` and their B texts. In the contrastive form B * B problems are solved.
    pub fn loss(&self, codes: &Tensor, text: &TextBatch, train: bool) -> Result<AlignLoss> {
        self.check_matched(codes, text)?;
        let points = self.points(codes, train)?;
        let targets = text.targets(self.config.target, points.kind())?;
        let b = text.texts();
        let contrastive = self.config.form == LossForm::Contrastive;
        let pairs = if contrastive { self.pairs(&points, &targets)? } else { self.matched(&points, &targets)? };
        let (values, transport) = self.solve(&pairs)?;
        let (loss, value) = if contrastive {
            let values = values.view([b, b]);
            let loss = contrastive_loss(&values, &targets.empty, self.config.temperature);
            (loss, values.detach().diagonal(0, 0, 1).contiguous())
        } else {
            (plain_loss(&values, &targets.empty), values.detach())
        };
        let error = transport.error.max().double_value(&[]);
        Ok(AlignLoss { loss, value, iterations: transport.iterations, error })
    }

    /// Transport values `[I, T]` f32 of every image (codes `[I, D, h, w]`) with every text, without gradient,
    /// with the sampler's deterministic choice. A text without units costs +inf. Solved in chunks, so that
    /// memory does not grow with `I * T`.
    pub fn pair_costs(&self, codes: &Tensor, text: &TextBatch) -> Result<Tensor> {
        self.check_codes(codes)?;
        text.check(self.text_dim)?;
        no_grad(|| {
            let points = self.points(codes, false)?;
            let (images, s, _) = points.size3()?;
            let (texts, m) = (text.texts(), text.mask.size()[1]);
            let problems = (PAIR_BUDGET / (s * m).max(1)).max(1);
            let (step_t, step_i) = (texts.min(problems), (problems / texts).clamp(1, images));
            let mut rows = Vec::new();
            for i in (0..images).step_by(step_i as usize) {
                let some = points.narrow(0, i, step_i.min(images - i));
                let mut row = Vec::new();
                for t in (0..texts).step_by(step_t as usize) {
                    let targets = text.narrow(t, step_t.min(texts - t)).targets(self.config.target, points.kind())?;
                    let (values, _) = self.solve(&self.pairs(&some, &targets)?)?;
                    let values = values.view([some.size()[0], -1]);
                    row.push(values.masked_fill(&targets.empty.unsqueeze(0), f64::INFINITY).to_kind(Kind::Float));
                }
                rows.push(Tensor::cat(&row, 1));
            }
            Ok(Tensor::cat(&rows, 0))
        })
    }

    /// The plans between **all** cells of each image (codes `[B, D, h, w]`) and its text: plan and cost are
    /// `[B, h * w, M]`, cells in row-major order, without gradient. A text without units has the zero plan.
    pub fn plan(&self, codes: &Tensor, text: &TextBatch) -> Result<Transport> {
        self.check_matched(codes, text)?;
        no_grad(|| {
            let points = self.map.forward(&cells(codes));
            let targets = text.targets(self.config.target, points.kind())?;
            let pairs = self.matched(&points, &targets)?;
            let cost = crate::sinkhorn::masked(&pairs.cost, &pairs.source, &pairs.target);
            solve(&cost, &pairs.source, &pairs.target, &self.config.sinkhorn())
        })
    }

    fn check_codes(&self, codes: &Tensor) -> Result<()> {
        check_shape("codes", codes, &[-1, self.code_dim, -1, -1])?;
        if codes.numel() == 0 {
            let found = format!("{:?}", codes.size());
            return Err(AlignError::Values { what: "codes", expected: "at least one image and one cell", found });
        }
        Ok(())
    }

    fn check_matched(&self, codes: &Tensor, text: &TextBatch) -> Result<()> {
        self.check_codes(codes)?;
        text.check(self.text_dim)?;
        check_shape("text vectors", &text.vectors, &[codes.size()[0], -1, self.text_dim])?;
        Ok(())
    }

    /// phi of the sampled codes, `[B, S, Dt]`.
    fn points(&self, codes: &Tensor, train: bool) -> Result<Tensor> {
        let sampled = self.sampler.sample(&cells(codes), train)?;
        check_shape("sampled codes", &sampled.codes, &[codes.size()[0], -1, self.code_dim])?;
        Ok(self.map.forward(&sampled.codes))
    }

    /// Image i with text i.
    fn matched(&self, points: &Tensor, targets: &Targets) -> Result<Pairs> {
        let (b, s, _) = points.size3()?;
        let cost = self.cost.matrix(points, &targets.vectors)?;
        check_shape("cost", &cost, &[b, s, targets.masses.size()[1]])?;
        let source = self.source(&targets.empty, s, points.kind());
        Ok(Pairs { cost, source, target: targets.masses.shallow_clone() })
    }

    /// Every image with every text, the text's index running fastest.
    fn pairs(&self, points: &Tensor, targets: &Targets) -> Result<Pairs> {
        let (i, s, _) = points.size3()?;
        let (t, m) = targets.masses.size2()?;
        let cost = all_pairs(self.cost.as_ref(), points, &targets.vectors)?.view([i * t, s, m]);
        let repeat = |x: &Tensor| x.unsqueeze(0).expand([i, t, -1], false).reshape([i * t, -1]);
        let source = repeat(&self.source(&targets.empty, s, points.kind()));
        Ok(Pairs { cost, source, target: repeat(&targets.masses) })
    }

    /// Uniform source masses `[T, S]`, 0 against a text without units.
    fn source(&self, empty: &Tensor, s: i64, kind: Kind) -> Tensor {
        let mass = empty.logical_not().to_kind(kind) / (s as f64);
        mass.unsqueeze(-1).expand([-1, s], false)
    }

    fn solve(&self, pairs: &Pairs) -> Result<(Tensor, Transport)> {
        let Pairs { cost, source, target } = pairs;
        let config = self.config.sinkhorn();
        let transport = no_grad(|| solve(&cost.detach(), source, target, &config))?;
        let values = envelope(cost, source, target, &transport, config.epsilon, self.config.value);
        Ok((values, transport))
    }
}

/// `[B, D, h, w]` to `[B, h * w, D]`.
fn cells(codes: &Tensor) -> Tensor {
    codes.flatten(2, 3).transpose(1, 2)
}

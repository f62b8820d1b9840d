//! Laws of [`Quantizer`] and of [`crate::BatchUpdate`].

use std::collections::HashMap;

use tch::nn::{self, VarStore};
use tch::{Device, Kind, Tensor};

use super::{Outcome, finite, gap, hold, noise, run};
use crate::{BatchUpdate, Quantized, Quantizer};

/// Holds a quantizer to its laws. `make` builds one for vectors of width `dim` whose state lives under the given path; it is
/// called several times, each with a store of its own.
///
/// Shapes; indices in range; `lookup(indices)` equals the latent's values; quantizing codes gives most of them back (of one
/// index a cell); equal calls give equal results and change nothing; most of an image's codes do not depend on its batch; the
/// gradient reaches the encoder, and every trainable variable; a scalar finite loss; `lookup` refuses an index outside the
/// codebook; statistics of any batch may be summed, collecting them changes nothing, another number of them is refused,
/// applying them keeps all of this true and draws nothing at random; the variables are the whole state.
///
/// A pass in training may draw at random, and then leave out the last of several indices a cell (-1): the laws seed libtorch's
/// generator before each. Such a quantizer is held to them where no other thread draws at the same time.
///
/// ```
/// use tavq_quant::laws::quantizer_laws;
/// use tavq_quant::{Distance, Quantized, Quantizer, Result, nearest, tile_budget};
/// use tch::{Reduction, Tensor};
///
/// struct Mine {
///     codes: Tensor,
/// }
///
/// impl Quantizer for Mine {
///     fn codes(&self) -> i64 {
///         self.codes.size()[0]
///     }
///     fn quantize(&self, latent: &Tensor, _train: bool) -> Result<Quantized> {
///         let rows = latent.permute([0, 2, 3, 1]).contiguous();
///         let flat = rows.view([-1, self.codes.size()[1]]);
///         let found = nearest(&flat, &self.codes, Distance::SquaredL2, tile_budget(latent.device()))?;
///         let indices = found.indices.view(&rows.size()[..3]);
///         let codes = self.lookup(&indices)?.permute([0, 3, 1, 2]);
///         let loss = latent.f_mse_loss(&codes, Reduction::Mean)?;
///         Ok(Quantized { latent: codes.detach() + latent - latent.detach(), indices, loss })
///     }
///     fn lookup(&self, indices: &Tensor) -> Result<Tensor> {
///         let shape = [indices.size(), vec![-1]].concat();
///         Ok(self.codes.f_index_select(0, &indices.f_view([-1])?)?.f_view(shape.as_slice())?)
///     }
/// }
///
/// let outcome = quantizer_laws(4, &mut |path| Box::new(Mine { codes: path.randn_standard("codes", &[16, 4]) }));
/// assert_eq!(outcome, Ok(()));
/// ```
pub fn quantizer_laws(dim: i64, make: &mut dyn FnMut(&nn::Path<'_>) -> Box<dyn Quantizer>) -> Outcome {
    let fresh = VarStore::new(Device::Cpu);
    let quantizer = make(&fresh.root());
    standing(quantizer.as_ref(), dim)?;
    encoder(quantizer.as_ref(), dim)?;
    codebook(quantizer.as_ref(), &fresh, dim)?;
    let store = VarStore::new(Device::Cpu);
    let mut quantizer = make(&store.root());
    updates(quantizer.as_mut(), dim)?;
    standing(quantizer.as_ref(), dim)?;
    round_trip(quantizer.as_mut(), &store, dim, make)
}

/// One pass; in training under a seed.
fn pass(quantizer: &dyn Quantizer, latent: &Tensor, train: bool) -> std::result::Result<Quantized, String> {
    if train {
        tch::manual_seed(SEED);
    }
    run("quantize", quantizer.quantize(latent, train))
}

const SEED: i64 = 20;

/// Laws that hold at any time.
fn standing(quantizer: &dyn Quantizer, dim: i64) -> Outcome {
    let _guard = tch::no_grad_guard();
    let latent = noise(&[3, dim, 4, 5], 1);
    for train in [false, true] {
        let q = pass(quantizer, &latent, train)?;
        shapes(&q, &latent, quantizer.depth())?;
        range(&q.indices, quantizer, train)?;
        let codes = run("lookup", quantizer.lookup(&q.indices))?;
        let found = gap(&codes.permute([0, 3, 1, 2]), &q.latent);
        hold("lookup(indices) is the latent", found <= 1e-5, || format!("they differ by {found}"))?;
        let found = apart(&pass(quantizer, &latent, train)?, &q);
        hold("quantize is deterministic and changes nothing", found == 0.0, || {
            format!("a second call differs by {found}")
        })?;
        let fixed = pass(quantizer, &q.latent, train)?;
        let found = if quantizer.depth() == 1 { changed(&fixed.latent, &q.latent) } else { 0.0 };
        hold("quantizing codes gives them back", found < 0.5, || format!("a share of {found} differs"))?;
    }
    batches(quantizer, &latent)?;
    refusal(quantizer)
}

/// Largest difference of two passes.
fn apart(a: &Quantized, b: &Quantized) -> f64 {
    gap(&a.latent, &b.latent).max(gap(&a.indices, &b.indices)).max(gap(&a.loss, &b.loss))
}

/// Share of cells with another code. Sound quantizers have a few: updates draw codes together, or into one direction
/// at lengths that a cosine ignores, until the rounding of a score decides, which hangs on the number of vectors.
fn changed(a: &Tensor, b: &Tensor) -> f64 {
    let slack = 1e-4 * b.abs().max().double_value(&[]);
    (a - b).abs().amax([1i64], false).gt(slack).to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
}

fn shapes(q: &Quantized, latent: &Tensor, depth: i64) -> Outcome {
    let size = latent.size();
    hold("latent keeps its shape", q.latent.size() == size, || format!("{:?} for {size:?}", q.latent.size()))?;
    hold("latent keeps its type", q.latent.kind() == latent.kind(), || format!("{:?}", q.latent.kind()))?;
    hold("a cell has an index", depth >= 1, || format!("depth {depth}"))?;
    let mut grid = vec![size[0], size[2], size[3]];
    grid.extend((depth > 1).then_some(depth));
    hold("a cell has as many indices as declared", q.indices.size() == grid, || {
        format!("{:?} for {grid:?}", q.indices.size())
    })?;
    hold("indices are int64", q.indices.kind() == Kind::Int64, || format!("{:?}", q.indices.kind()))?;
    hold("loss is a scalar", q.loss.size().is_empty(), || format!("shape {:?}", q.loss.size()))?;
    hold("values are finite", finite(&q.latent) && finite(&q.loss), || "a value that is not".into())
}

fn range(indices: &Tensor, quantizer: &dyn Quantizer, train: bool) -> Outcome {
    let (codes, depth) = (quantizer.codes(), quantizer.depth());
    let kept = if train && depth > 1 {
        let there = indices.ne(-1).to_kind(Kind::Int);
        let steps = there.narrow(3, 1, depth - 1) - there.narrow(3, 0, depth - 1);
        let holds = steps.max().int64_value(&[]) <= 0 && there.select(3, 0).min().int64_value(&[]) == 1;
        hold("only the last indices are left out", holds, || "an index after one that is -1, or none at all".into())?;
        indices.masked_select(&indices.ne(-1))
    } else {
        indices.shallow_clone()
    };
    let (low, high) = (kept.min().int64_value(&[]), kept.max().int64_value(&[]));
    hold("indices lie in 0..K", low >= 0 && high < codes, || format!("{low}..={high} of {codes} codes"))
}

fn batches(quantizer: &dyn Quantizer, latent: &Tensor) -> Outcome {
    let whole = run("quantize", quantizer.quantize(latent, false))?;
    for i in 0..latent.size()[0] {
        let alone = run("quantize", quantizer.quantize(&latent.narrow(0, i, 1), false))?;
        let found = changed(&alone.latent, &whole.latent.narrow(0, i, 1));
        let law = "codes do not depend on the batch";
        hold(law, found < 0.5, || format!("a share of {found} differs in image {i} alone"))?;
    }
    Ok(())
}

fn refusal(quantizer: &dyn Quantizer) -> Outcome {
    let depth = quantizer.depth();
    let least = if depth == 1 { -1 } else { -2 };
    for index in [least, quantizer.codes()] {
        for place in 0..depth {
            let indices = Tensor::zeros([1, depth], (Kind::Int64, Device::Cpu));
            let _ = indices.select(1, place).fill_(index);
            let refused = quantizer.lookup(&if depth == 1 { indices.view([1]) } else { indices }).is_err();
            hold("lookup refuses an index outside 0..K", refused, || format!("it took {index}"))?;
        }
    }
    Ok(())
}

fn encoder(quantizer: &dyn Quantizer, dim: i64) -> Outcome {
    let latent = noise(&[2, dim, 3, 3], 2).set_requires_grad(true);
    let q = pass(quantizer, &latent, true)?;
    let law = "gradient reaches the encoder";
    hold(law, q.latent.requires_grad(), || "the latent is cut off".into())?;
    // A target of random signs: a sum could vanish by symmetry.
    (&q.latent * noise(&[2, dim, 3, 3], 3)).sum(Kind::Float).backward();
    hold(law, reached(&latent), || "it is absent, zero or not finite".into())
}

fn reached(variable: &Tensor) -> bool {
    let grad = variable.grad();
    grad.defined() && finite(&grad) && grad.abs().sum(Kind::Double).double_value(&[]) > 0.0
}

/// Passes in training, in one of which a variable has to get its gradient: what one leaves out, others do not.
const PASSES: i64 = 32;

fn codebook(quantizer: &dyn Quantizer, store: &VarStore, dim: i64) -> Outcome {
    let mut waiting = store.variables();
    waiting.retain(|_, variable| variable.requires_grad());
    for seed in 0..PASSES {
        if waiting.is_empty() {
            return Ok(());
        }
        tch::manual_seed(seed);
        let q = run("quantize", quantizer.quantize(&noise(&[2, dim, 3, 3], 2), true))?;
        let total = &q.loss + (&q.latent * noise(&[2, dim, 3, 3], 3)).sum(Kind::Float);
        if total.requires_grad() {
            total.backward();
        }
        waiting.retain(|_, variable| !reached(variable));
    }
    let mut names: Vec<_> = waiting.into_keys().collect();
    names.sort();
    hold("gradient reaches every trainable variable", names.is_empty(), || {
        format!("absent, zero or not finite at {}", names.join(", "))
    })
}

/// A copy of the variables is a copy of the quantizer: it answers alike, and learns alike from the same statistics.
fn round_trip(
    quantizer: &mut dyn Quantizer,
    store: &VarStore,
    dim: i64,
    make: &mut dyn FnMut(&nn::Path<'_>) -> Box<dyn Quantizer>,
) -> Outcome {
    let copy_store = VarStore::new(Device::Cpu);
    let mut copy = make(&copy_store.root());
    let (variables, mut copies) = (store.variables(), copy_store.variables());
    let names = |of: &HashMap<String, Tensor>| {
        let mut names: Vec<_> = of.iter().map(|(name, variable)| format!("{name} {:?}", variable.size())).collect();
        names.sort();
        names.join(", ")
    };
    hold("two of a kind have the same variables", names(&variables) == names(&copies), || {
        format!("{} and {}", names(&variables), names(&copies))
    })?;
    for (name, copy) in &mut copies {
        tch::no_grad(|| copy.copy_(&variables[name]));
    }
    let law = "the variables are the whole state";
    let latents = [noise(&[2, dim, 4, 4], 6), noise(&[1, dim, 3, 5], 7)];
    for step in 3..6 {
        for (train, latent) in [(false, &latents[0]), (true, &latents[0]), (true, &latents[1])] {
            let found = apart(&pass(quantizer, latent, train)?, &pass(copy.as_ref(), latent, train)?);
            hold(law, found == 0.0, || format!("a copy of them answers otherwise, by {found}"))?;
        }
        let passes = passes(quantizer, &latents)?;
        let Some(update) = quantizer.batch_update() else { return Ok(()) };
        let total = summed(update, &passes)?;
        run("apply", update.apply(&total, step))?;
        let Some(update) = copy.batch_update() else {
            return hold(law, false, || "a copy of them has no statistics".into());
        };
        run("apply", update.apply(&total, step))?;
        let found = copies.iter().map(|(name, copy)| gap(copy, &variables[name])).fold(0.0, f64::max);
        hold("equal statistics change equal quantizers alike", found == 0.0, || format!("they differ by {found}"))?;
    }
    Ok(())
}

type Passes<'a> = Vec<(&'a Tensor, Quantized)>;

fn passes<'a>(quantizer: &dyn Quantizer, latents: &'a [Tensor]) -> std::result::Result<Passes<'a>, String> {
    latents.iter().map(|z| pass(quantizer, z, true).map(|q| (z, q))).collect()
}

fn updates(quantizer: &mut dyn Quantizer, dim: i64) -> Outcome {
    let latents = [noise(&[2, dim, 4, 4], 4), noise(&[1, dim, 3, 5], 5)];
    for step in 0..3 {
        let passes = passes(quantizer, &latents)?;
        let Some(update) = quantizer.batch_update() else { return Ok(()) };
        let mut total = summed(update, &passes)?;
        total.push(Tensor::zeros([1], (Kind::Float, latents[0].device())));
        let law = "apply refuses another number of statistics";
        hold(law, update.apply(&total, step).is_err(), || format!("it took {}", total.len()))?;
        for (z, q) in &passes {
            let found = gap(&pass(quantizer, z, true)?.latent, &q.latent);
            hold("collect changes nothing", found == 0.0, || format!("the same latent now differs by {found}"))?;
        }
        total.truncate(total.len() - 1);
        let Some(update) = quantizer.batch_update() else { return Ok(()) };
        run("apply", update.apply(&total, step))?;
    }
    Ok(())
}

/// The statistics of several batches, added up.
fn summed(update: &dyn BatchUpdate, passes: &[(&Tensor, Quantized)]) -> std::result::Result<Vec<Tensor>, String> {
    let mut parts = Vec::new();
    for (z, q) in passes {
        let part = run("collect", update.collect(z, q))?;
        hold("statistics are finite", part.iter().all(finite), || "a value that is not".into())?;
        let cut = part.iter().all(|t| !t.requires_grad());
        hold("statistics are cut from the graph", cut, || "they carry gradients".into())?;
        parts.push(part);
    }
    let sizes = |part: &[Tensor]| part.iter().map(Tensor::size).collect::<Vec<_>>();
    let same = parts.windows(2).all(|w| sizes(&w[0]) == sizes(&w[1]));
    let found = || parts.iter().map(|p| format!("{:?}", sizes(p))).collect::<Vec<_>>().join(" and ");
    hold("statistics of any batch have the same shapes", same, found)?;
    let add = |sum: Vec<Tensor>, part: Vec<Tensor>| sum.iter().zip(&part).map(|(a, b)| a + b).collect();
    Ok(parts.into_iter().reduce(add).unwrap_or_default())
}

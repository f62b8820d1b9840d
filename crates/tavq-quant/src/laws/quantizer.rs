//! Laws of [`Quantizer`] and of [`crate::BatchUpdate`].

use tch::{Kind, Tensor};

use super::{Outcome, finite, gap, hold, noise, run};
use crate::{BatchUpdate, Quantized, Quantizer};

/// Holds a quantizer to its laws. `make` gives a fresh one and the width D of its vectors; it is called several times.
///
/// Shapes; indices in range; `lookup(indices)` equals the latent's values; quantizing codes gives most of them back;
/// equal calls give equal results and change nothing; most of an image's codes do not depend on its batch; the latent's
/// gradient reaches the encoder; a scalar finite loss; `lookup` refuses an index outside the codebook; statistics of
/// any batch may be summed, collecting them changes nothing, another number of them is refused, and applying them keeps
/// all of this true.
pub fn quantizer_laws(make: &mut dyn FnMut() -> (Box<dyn Quantizer>, i64)) -> Outcome {
    let (quantizer, dim) = make();
    standing(quantizer.as_ref(), dim)?;
    gradients(quantizer.as_ref(), dim)?;
    let (mut quantizer, dim) = make();
    updates(quantizer.as_mut(), dim)?;
    standing(quantizer.as_ref(), dim)
}

/// Laws that hold at any time.
fn standing(quantizer: &dyn Quantizer, dim: i64) -> Outcome {
    let _guard = tch::no_grad_guard();
    let latent = noise(&[3, dim, 4, 5], 1);
    for train in [false, true] {
        let q = run("quantize", quantizer.quantize(&latent, train))?;
        shapes(&q, &latent)?;
        range(&q.indices, quantizer.codes())?;
        let codes = run("lookup", quantizer.lookup(&q.indices))?;
        let found = gap(&codes.permute([0, 3, 1, 2]), &q.latent);
        hold("lookup(indices) is the latent", found <= 1e-5, || format!("they differ by {found}"))?;
        let again = run("quantize", quantizer.quantize(&latent, train))?;
        let found = gap(&again.latent, &q.latent).max(gap(&again.indices, &q.indices));
        hold("quantize is deterministic and changes nothing", found == 0.0, || {
            format!("a second call differs by {found}")
        })?;
        let fixed = run("quantize", quantizer.quantize(&q.latent, train))?;
        let found = changed(&fixed.latent, &q.latent);
        hold("quantizing codes gives them back", found < 0.5, || format!("a share of {found} differs"))?;
    }
    batches(quantizer, &latent)?;
    refusal(quantizer)
}

/// Share of cells with another code. Sound quantizers have a few: updates draw codes together, or into one direction
/// at lengths that a cosine ignores, until the rounding of a score decides, which hangs on the number of vectors.
fn changed(a: &Tensor, b: &Tensor) -> f64 {
    let slack = 1e-4 * b.abs().max().double_value(&[]);
    (a - b).abs().amax([1i64], false).gt(slack).to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
}

fn shapes(q: &Quantized, latent: &Tensor) -> Outcome {
    let size = latent.size();
    hold("latent keeps its shape", q.latent.size() == size, || format!("{:?} for {size:?}", q.latent.size()))?;
    hold("latent keeps its type", q.latent.kind() == latent.kind(), || format!("{:?}", q.latent.kind()))?;
    let grid = [size[0], size[2], size[3]];
    hold("one index a cell", q.indices.size() == grid, || format!("{:?} for {grid:?}", q.indices.size()))?;
    hold("indices are int64", q.indices.kind() == Kind::Int64, || format!("{:?}", q.indices.kind()))?;
    hold("loss is a scalar", q.loss.size().is_empty(), || format!("shape {:?}", q.loss.size()))?;
    hold("values are finite", finite(&q.latent) && finite(&q.loss), || "a value that is not".into())
}

fn range(indices: &Tensor, codes: i64) -> Outcome {
    let (low, high) = (indices.min().int64_value(&[]), indices.max().int64_value(&[]));
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
    for index in [-1, quantizer.codes()] {
        let refused = quantizer.lookup(&Tensor::from_slice(&[index])).is_err();
        hold("lookup refuses an index outside 0..K", refused, || format!("it took {index}"))?;
    }
    Ok(())
}

fn gradients(quantizer: &dyn Quantizer, dim: i64) -> Outcome {
    let latent = noise(&[2, dim, 3, 3], 2).set_requires_grad(true);
    let q = run("quantize", quantizer.quantize(&latent, true))?;
    let law = "gradient reaches the encoder";
    hold(law, q.latent.requires_grad(), || "the latent is cut off".into())?;
    // A target of random signs: a sum could vanish by symmetry.
    (&q.latent * noise(&[2, dim, 3, 3], 3)).sum(Kind::Float).backward();
    let grad = latent.grad();
    let reached = grad.defined() && finite(&grad) && grad.abs().sum(Kind::Double).double_value(&[]) > 0.0;
    hold(law, reached, || "it is absent, zero or not finite".into())
}

fn updates(quantizer: &mut dyn Quantizer, dim: i64) -> Outcome {
    let latents = [noise(&[2, dim, 4, 4], 4), noise(&[1, dim, 3, 5], 5)];
    for step in 0..3 {
        let passes = latents
            .iter()
            .map(|z| run("quantize", quantizer.quantize(z, true)).map(|q| (z, q)))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let Some(update) = quantizer.batch_update() else { return Ok(()) };
        let mut total = summed(update, &passes)?;
        total.push(Tensor::zeros([1], (Kind::Float, latents[0].device())));
        let law = "apply refuses another number of statistics";
        hold(law, update.apply(&total, step).is_err(), || format!("it took {}", total.len()))?;
        for (z, q) in &passes {
            let found = gap(&run("quantize", quantizer.quantize(z, true))?.latent, &q.latent);
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

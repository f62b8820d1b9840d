//! Laws of [`Backbone`].

use tch::{Kind, Tensor};

use super::{Outcome, finite, gap, hold, noise, run};
use crate::{Backbone, QuantError, Result};

/// Holds a backbone to its laws, on images of `size` (height, width), both multiples of the coarsest stride.
///
/// Levels from fine to coarse, of the declared shapes; `decode` of the last level gives images of the same size;
/// values are finite; evaluation is deterministic and does not depend on the batch; gradients reach the images from
/// every level, and the latent from the reconstruction.
///
/// `encode_through` quantizes each level once and in order, returns the latents it quantized, passes the quantizer's
/// error on at once, and gives what `encode` gives where each latent stays in the place of its codes. Where other codes
/// of a level change a later one, gradients of the later one reach them.
pub fn backbone_laws(backbone: &dyn Backbone, size: (i64, i64)) -> Outcome {
    let images = noise(&[2, 3, size.0, size.1], 1).tanh();
    declared(backbone)?;
    {
        let _guard = tch::no_grad_guard();
        for train in [false, true] {
            shapes(backbone, &images, train)?;
            order(backbone, &images, train)?;
        }
        errors(backbone, &images)?;
        repeats(backbone, &images)?;
        batches(backbone, &images)?;
        identity(backbone, &images)?;
    }
    gradients(backbone, &images)?;
    for level in 1..backbone.levels().len() {
        dependence(backbone, &images, level - 1)?;
    }
    Ok(())
}

fn declared(backbone: &dyn Backbone) -> Outcome {
    let levels = backbone.levels();
    hold("there is a level", !levels.is_empty(), || "none".into())?;
    let ordered = levels.windows(2).all(|w| w[0].stride <= w[1].stride);
    hold("levels go from fine to coarse", ordered, || format!("{levels:?}"))?;
    let positive = levels.iter().all(|l| l.channels > 0 && l.stride > 0);
    hold("widths and strides are positive", positive, || format!("{levels:?}"))
}

fn shapes(backbone: &dyn Backbone, images: &Tensor, train: bool) -> Outcome {
    let size = images.size();
    let found = run("encode", backbone.encode(images, train))?;
    let levels = backbone.levels();
    hold("encode gives the declared levels", found.len() == levels.len(), || {
        format!("{} of {}", found.len(), levels.len())
    })?;
    for (i, (z, level)) in found.iter().zip(levels).enumerate() {
        let expected = [size[0], level.channels, size[2] / level.stride, size[3] / level.stride];
        let law = "a level has its declared shape";
        hold(law, z.size() == expected, || format!("level {i}: expected {expected:?}, found {:?}", z.size()))?;
        hold("values are finite", finite(z), || format!("not in level {i}"))?;
    }
    let back = run("decode", backbone.decode(&found[found.len() - 1], train))?;
    hold("decode gives images of the same size", back.size() == size, || format!("{:?} for {size:?}", back.size()))?;
    hold("values are finite", finite(&back), || "not in the reconstruction".into())
}

/// Stands in for a quantizer: far from every latent, yet smooth, so that rounding of the latent stays rounding.
fn other_codes(_level: usize, latent: &Tensor) -> Result<Tensor> {
    Ok(latent.f_neg()?.f_add_scalar(1.0)?)
}

fn order(backbone: &dyn Backbone, images: &Tensor, train: bool) -> Outcome {
    let mut given = Vec::new();
    let found = backbone.encode_through(images, train, &mut |level, z| {
        given.push((level, z.copy()));
        other_codes(level, z)
    });
    let found = run("encode_through", found)?;
    let order: Vec<usize> = given.iter().map(|(level, _)| *level).collect();
    let in_order = order.iter().copied().eq(0..backbone.levels().len());
    hold("every level is quantized once and in order", in_order, || format!("levels {order:?}"))?;
    let same = found.len() == given.len() && found.iter().zip(&given).all(|(z, (_, g))| gap(z, g) == 0.0);
    hold("the latents that were quantized are returned", same, || "others".into())
}

fn errors(backbone: &dyn Backbone, images: &Tensor) -> Outcome {
    for last in 0..backbone.levels().len() {
        let mut calls = 0;
        let outcome = backbone.encode_through(images, false, &mut |level, z| {
            calls += 1;
            if level == last { Err(QuantError::config("laws", "no call", level)) } else { Ok(z.shallow_clone()) }
        });
        let stops = outcome.is_err() && calls == last + 1;
        let law = "an error of the quantizer ends the pass";
        hold(law, stops, || format!("level {last} failed, {calls} levels were quantized"))?;
    }
    Ok(())
}

/// Every latent, by themselves and through codes, and the reconstruction.
fn evaluate(backbone: &dyn Backbone, images: &Tensor) -> std::result::Result<Vec<Tensor>, String> {
    let mut all = run("encode", backbone.encode(images, false))?;
    let back = run("decode", backbone.decode(&all[all.len() - 1], false))?;
    all.extend(run("encode_through", backbone.encode_through(images, false, &mut other_codes))?);
    all.push(back);
    Ok(all)
}

fn repeats(backbone: &dyn Backbone, images: &Tensor) -> Outcome {
    let (a, b) = (evaluate(backbone, images)?, evaluate(backbone, images)?);
    let found = a.iter().zip(&b).map(|(x, y)| gap(x, y)).fold(0.0, f64::max);
    hold("evaluation is deterministic", found == 0.0, || format!("a second call differs by {found}"))
}

/// Equal but for rounding, which the number of images and the order of additions decide.
fn close(a: &Tensor, b: &Tensor) -> bool {
    gap(a, b) <= 1e-3 * b.abs().max().double_value(&[])
}

fn batches(backbone: &dyn Backbone, images: &Tensor) -> Outcome {
    let whole = evaluate(backbone, images)?;
    for i in 0..images.size()[0] {
        let alone = evaluate(backbone, &images.narrow(0, i, 1))?;
        for (a, w) in alone.iter().zip(&whole) {
            let w = w.narrow(0, i, 1);
            hold("evaluation does not depend on the batch", close(a, &w), || {
                format!("image {i} alone differs by {}", gap(a, &w))
            })?;
        }
    }
    Ok(())
}

fn identity(backbone: &dyn Backbone, images: &Tensor) -> Outcome {
    let plain = run("encode", backbone.encode(images, false))?;
    let through = backbone.encode_through(images, false, &mut |_, z| Ok(z.shallow_clone()));
    for (i, (a, b)) in run("encode_through", through)?.iter().zip(&plain).enumerate() {
        let law = "encode is encode_through with latents for codes";
        hold(law, close(a, b), || format!("level {i} differs by {}", gap(a, b)))?;
    }
    Ok(())
}

/// Whether a random direction of `from` has a gradient in `to`.
fn reaches(from: &Tensor, to: &Tensor) -> bool {
    if !from.requires_grad() {
        return false;
    }
    let direction = noise(&from.size(), 2);
    let grads = Tensor::run_backward(&[(from * direction).sum(Kind::Float)], &[to], true, false);
    let total = || grads[0].abs().sum(Kind::Double).double_value(&[]);
    grads[0].defined() && total().is_finite() && total() > 0.0
}

fn gradients(backbone: &dyn Backbone, images: &Tensor) -> Outcome {
    let images = images.detach().set_requires_grad(true);
    let levels = run("encode", backbone.encode(&images, true))?;
    for (i, z) in levels.iter().enumerate() {
        let law = "gradients reach the images";
        hold(law, reaches(z, &images), || format!("absent, zero or not finite from level {i}"))?;
    }
    let latent = levels[levels.len() - 1].detach().set_requires_grad(true);
    let back = run("decode", backbone.decode(&latent, true))?;
    let law = "gradients reach the latent from the reconstruction";
    hold(law, reaches(&back, &latent), || "absent, zero or not finite".into())
}

/// Codes that a later level is computed from learn from it too.
fn dependence(backbone: &dyn Backbone, images: &Tensor, level: usize) -> Outcome {
    let mut codes = Tensor::new();
    let latents = backbone.encode_through(images, false, &mut |l, z| {
        if l != level {
            return Ok(z.shallow_clone());
        }
        codes = z.detach().f_set_requires_grad(true)?;
        Ok(codes.shallow_clone())
    });
    let latents = run("encode_through", latents)?;
    let changed = backbone.encode_through(images, false, &mut |l, z| {
        if l == level { other_codes(l, z) } else { Ok(z.shallow_clone()) }
    });
    let changed = run("encode_through", changed)?;
    for (i, (z, other)) in latents.iter().zip(&changed).enumerate().skip(level + 1) {
        let depends = !close(z, other);
        let law = "gradients reach the codes that a level depends on";
        hold(law, !depends || reaches(z, &codes), || {
            format!(
                "level {i} changes with the codes of level {level}; its gradient is absent, zero or not finite there"
            )
        })?;
    }
    Ok(())
}

//! Laws of [`Backbone`].

use tch::{Kind, Tensor};

use super::{Outcome, finite, gap, hold, noise, run};
use crate::Backbone;

/// Holds a backbone to its laws, on images of `size` (height, width), both multiples of the coarsest stride.
///
/// Levels from fine to coarse, of the declared shapes; `decode` of the last level gives images of the same size;
/// values are finite; evaluation is deterministic and does not depend on the batch; gradients reach the images from
/// every level, and the latent from the reconstruction.
pub fn backbone_laws(backbone: &dyn Backbone, size: (i64, i64)) -> Outcome {
    let images = noise(&[2, 3, size.0, size.1], 1).tanh();
    declared(backbone)?;
    {
        let _guard = tch::no_grad_guard();
        for train in [false, true] {
            shapes(backbone, &images, train)?;
        }
        repeats(backbone, &images)?;
        batches(backbone, &images)?;
    }
    gradients(backbone, &images)
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

fn evaluate(backbone: &dyn Backbone, images: &Tensor) -> std::result::Result<Vec<Tensor>, String> {
    let mut all = run("encode", backbone.encode(images, false))?;
    let back = run("decode", backbone.decode(&all[all.len() - 1], false))?;
    all.push(back);
    Ok(all)
}

fn repeats(backbone: &dyn Backbone, images: &Tensor) -> Outcome {
    let (a, b) = (evaluate(backbone, images)?, evaluate(backbone, images)?);
    let found = a.iter().zip(&b).map(|(x, y)| gap(x, y)).fold(0.0, f64::max);
    hold("evaluation is deterministic", found == 0.0, || format!("a second call differs by {found}"))
}

fn batches(backbone: &dyn Backbone, images: &Tensor) -> Outcome {
    let whole = evaluate(backbone, images)?;
    for i in 0..images.size()[0] {
        let alone = evaluate(backbone, &images.narrow(0, i, 1))?;
        for (a, w) in alone.iter().zip(&whole) {
            let w = w.narrow(0, i, 1);
            let (found, scale) = (gap(a, &w), w.abs().max().double_value(&[]));
            hold("evaluation does not depend on the batch", found <= 1e-3 * scale, || {
                format!("image {i} alone differs by {found}")
            })?;
        }
    }
    Ok(())
}

fn gradients(backbone: &dyn Backbone, images: &Tensor) -> Outcome {
    let reaches = |from: &Tensor, to: &Tensor| {
        let direction = noise(&from.size(), 2);
        let grads = Tensor::run_backward(&[(from * direction).sum(Kind::Float)], &[to], true, false);
        let total = grads[0].abs().sum(Kind::Double).double_value(&[]);
        total.is_finite() && total > 0.0
    };
    let images = images.detach().set_requires_grad(true);
    let levels = run("encode", backbone.encode(&images, true))?;
    for (i, z) in levels.iter().enumerate() {
        let law = "gradients reach the images";
        hold(law, z.requires_grad() && reaches(z, &images), || format!("absent, zero or not finite from level {i}"))?;
    }
    let latent = levels[levels.len() - 1].detach().set_requires_grad(true);
    let back = run("decode", backbone.decode(&latent, true))?;
    let law = "gradients reach the latent from the reconstruction";
    hold(law, back.requires_grad() && reaches(&back, &latent), || "absent, zero or not finite".into())
}

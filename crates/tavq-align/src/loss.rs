//! From transport values to one loss.

use tch::{Kind, Tensor};

/// The alignment loss of one level.
#[derive(Debug)]
pub struct AlignLoss {
    /// Scalar, with gradient to the map and to the codes.
    pub loss: Tensor,
    /// `[B]`, detached: the transport value of each image against its own text, 0 for a text without units.
    pub value: Tensor,
    /// Sinkhorn iterations of the problem that needed most.
    pub iterations: i64,
    /// Worst L1 error of a plan's marginals.
    pub error: f64,
}

/// Mean of `values` `[B]` over the texts with units; 0 when there is none. `empty` is `[B]` bool.
pub fn plain_loss(values: &Tensor, empty: &Tensor) -> Tensor {
    mean_over(values, empty)
}

/// Symmetric InfoNCE (van den Oord et al. 2018; both directions as in CLIP, Radford et al. 2021, figure 3)
/// with the scores `-W(i, j) / temperature`.
///
/// `values` is `[B, B]`: W of image i (row) and text j (column); image i belongs to text i. Texts without
/// units (`empty`, `[B]` bool) are no candidates and their pairs are left out of the mean. Equal values give
/// ln B, the loss of a uniform guess.
pub fn contrastive_loss(values: &Tensor, empty: &Tensor, temperature: f64) -> Tensor {
    let scores = values * (-1.0 / temperature);
    // Finite, so that a batch without any text keeps a finite gradient.
    let images = scores.masked_fill(&empty.unsqueeze(0), -1e30).log_softmax(1, None::<Kind>);
    let texts = scores.log_softmax(0, None::<Kind>);
    let matched = (images.diagonal(0, 0, 1) + texts.diagonal(0, 0, 1)) * -0.5;
    mean_over(&matched, empty)
}

fn mean_over(values: &Tensor, empty: &Tensor) -> Tensor {
    let count = empty.logical_not().sum(values.kind()).clamp_min(1.0);
    values.masked_fill(empty, 0.0).sum(None::<Kind>) / count
}

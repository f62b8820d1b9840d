//! The entropy loss of lookup-free quantization (Yu et al. 2024, equation 5; Jansen et al. 2019): a vector should choose
//! firmly, the vectors of a batch together should choose every code.
//!
//! A softmax over products with all vectors of signs is a product of D independent bits, so nothing here is of size N x 2^D,
//! and nothing is approximated. The entropy of one vector's choice is the sum of its bits' entropies. The batch's distribution
//! is a sum over vectors of the outer products of the distributions of two halves of the bits: one matrix product of
//! `[2^(D/2), N]` and `[N, 2^(D/2)]`, taken a few vectors at a time, whose gradient is formed at once.

use tch::{Kind, Tensor};

use crate::Result;
use crate::nearest::tile_budget;

/// Mean entropy of a vector's choice minus `diversity` times the entropy of the mean choice, in nats; 0 without vectors.
/// `margin` is `[N, D]`, f32: the logits by which a bit is rather 1 than 0.
pub(crate) fn loss(margin: &Tensor, diversity: f64) -> Result<Tensor> {
    if margin.size()[0] == 0 {
        return Ok(Tensor::f_zeros([0i64; 0], (Kind::Float, margin.device()))?);
    }
    let each = of_bits(margin)?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?.f_mean(Kind::Float)?;
    if diversity == 0.0 {
        return Ok(each);
    }
    // Under autocast the products would be taken in half precision.
    let (value, slope) = tch::autocast(false, || tch::no_grad(|| of_batch(&margin.detach())))?;
    // Carries `slope` to the vectors; its own value is subtracted again.
    let carrier = margin.f_mul(&slope)?.f_sum(Kind::Float)?;
    let batch = carrier.f_sub(&carrier.detach())?.f_add(&value)?;
    Ok(each.f_sub(&batch.f_mul_scalar(diversity)?)?)
}

/// Entropy of each bit: log(1 + exp u) - u sigmoid(u), which is even in u.
fn of_bits(margin: &Tensor) -> Result<Tensor> {
    let u = margin.f_abs()?;
    Ok(u.f_neg()?.f_exp()?.f_log1p()?.f_add(&u.f_mul(&u.f_neg()?.f_sigmoid()?)?)?)
}

/// The entropy of the mean distribution over 2^D codes, and its gradient with respect to `margin`.
fn of_batch(margin: &Tensor) -> Result<(Tensor, Tensor)> {
    let (n, dim) = (margin.size()[0], margin.size()[1]);
    let halves = [Half::new(dim / 2, margin)?, Half::new(dim - dim / 2, margin)?];
    let step = (tile_budget(margin.device()) as i64 / 4 / halves[1].codes()).max(1);
    let tiles = || (0..n).step_by(step as usize).map(|start| margin.f_narrow(0, start, step.min(n - start)));
    let split = |part: &Tensor| -> Result<[Tensor; 2]> {
        let low = halves[0].width();
        Ok([part.f_narrow(1, 0, low)?, part.f_narrow(1, low, dim - low)?])
    };

    let mut share = Tensor::f_zeros([halves[0].codes(), halves[1].codes()], (Kind::Float, margin.device()))?;
    for part in tiles() {
        let [a, b] = split(&part?)?;
        share = share.f_addmm(&halves[0].distribution(&a)?.f_transpose(0, 1)?, &halves[1].distribution(&b)?)?;
    }
    let _ = share.f_div_scalar_(n as f64)?;
    // Where a share is 0 its logarithm meets no vector that chooses the code.
    let log = share.f_clamp_min(f64::from(f32::MIN_POSITIVE))?.f_log()?;
    let value = share.f_mul(&log)?.f_sum(Kind::Float)?.f_neg()?;
    // Shares of every vector add up to 1, so the constant in the derivative -(log + 1) has no effect.
    let by_share = log.f_div_scalar(-(n as f64))?;

    let mut slopes = Vec::new();
    for part in tiles() {
        let [a, b] = split(&part?)?;
        let (p, q) = (halves[0].distribution(&a)?, halves[1].distribution(&b)?);
        let by_p = q.f_mm(&by_share.f_transpose(0, 1)?)?;
        let by_q = p.f_mm(&by_share)?;
        slopes.push(Tensor::f_cat(&[halves[0].slope(&a, &p, &by_p)?, halves[1].slope(&b, &q, &by_q)?], 1)?);
    }
    Ok((value, Tensor::f_cat(&slopes, 0)?))
}

/// All settings of some bits.
struct Half {
    /// `[2^d, d]`, f32, 1 or 0; the first bit is the highest.
    bits: Tensor,
}

impl Half {
    fn new(width: i64, like: &Tensor) -> Result<Self> {
        let all = Tensor::f_arange(1i64 << width, (Kind::Int64, like.device()))?.f_unsqueeze(1)?;
        let places: Vec<i64> = (0..width).rev().map(|bit| 1 << bit).collect();
        let places = Tensor::f_from_slice(&places)?.f_to_device(like.device())?;
        Ok(Self { bits: all.f_bitwise_and_tensor(&places)?.f_ne(0)?.f_to_kind(Kind::Float)? })
    }

    fn codes(&self) -> i64 {
        self.bits.size()[0]
    }

    fn width(&self) -> i64 {
        self.bits.size()[1]
    }

    /// Of margins `[n, d]` the probability of each setting, `[n, 2^d]`.
    fn distribution(&self, margin: &Tensor) -> Result<Tensor> {
        let (one, zero) = (margin.f_log_sigmoid()?, margin.f_neg()?.f_log_sigmoid()?);
        let bits = self.bits.f_transpose(0, 1)?;
        // Terms of one sign: nothing cancels at large margins.
        Ok(one.f_mm(&bits)?.f_add(&zero.f_mm(&bits.f_neg()?.f_add_scalar(1.0)?)?)?.f_exp()?)
    }

    /// The gradient with respect to the margins, from that with respect to the distribution.
    fn slope(&self, margin: &Tensor, distribution: &Tensor, by_distribution: &Tensor) -> Result<Tensor> {
        let flow = distribution.f_mul(by_distribution)?;
        let total = flow.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?;
        Ok(flow.f_mm(&self.bits)?.f_sub(&margin.f_sigmoid()?.f_mul(&total)?)?)
    }
}

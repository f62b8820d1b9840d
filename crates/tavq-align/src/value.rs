//! Transport values with envelope gradients.

use tch::{Tensor, no_grad};

use crate::sinkhorn::{masked, sum_last};
use crate::{Result, SinkhornConfig, Transport, TransportValue, sinkhorn};

/// Transport values `[P]` of `cost` `[P, S, M]`, differentiable in `cost`, with the plans behind them.
///
/// The masses get no gradient. The gradient is the plan, in both forms, and the graph holds the plan only,
/// whatever the iterations:
/// * [`TransportValue::Entropic`]: the dual objective at the potentials found. The envelope theorem makes
///   the plan its exact gradient at the optimum, and the value's error is of second order in the marginals'.
///   The KL term is `sum P ln(P / a b^T) - sum P + sum a b^T`.
/// * [`TransportValue::Sharp`]: `<P, C>`. The plan is its gradient with the plan held constant; what is
///   left out is how the plan itself moves, which vanishes as epsilon goes to 0.
///
/// Shapes, masses and errors as for [`sinkhorn`].
pub fn transport_value(
    cost: &Tensor,
    source: &Tensor,
    target: &Tensor,
    config: &SinkhornConfig,
    value: TransportValue,
) -> Result<(Tensor, Transport)> {
    let transport = sinkhorn(cost, source, target, config)?;
    let kind = transport.plan.kind();
    let (a, b) = (source.detach().to_kind(kind), target.detach().to_kind(kind));
    let values = envelope(&masked(&cost.to_kind(kind), &a, &b), &a, &b, &transport, config.epsilon, value);
    Ok((values, transport))
}

/// `sum P C` with gradient P and the value asked for; `cost` is finite.
pub(crate) fn envelope(
    cost: &Tensor,
    a: &Tensor,
    b: &Tensor,
    transport: &Transport,
    epsilon: f64,
    value: TransportValue,
) -> Tensor {
    let sharp = (cost * &transport.plan).sum_dim_intlist([-1i64, -2].as_slice(), false, None::<tch::Kind>);
    match value {
        TransportValue::Sharp => sharp,
        TransportValue::Entropic => {
            let shift = no_grad(|| {
                // The columns of a plan are exact, so its mass is that of b and the mass terms are known.
                let (mass_a, mass_b) = (sum_last(a), sum_last(b));
                let dual = sum_last(&(&transport.f * a)) + sum_last(&(&transport.g * b));
                dual - (&mass_b - mass_a * &mass_b) * epsilon - sharp.detach()
            });
            sharp + shift
        }
    }
}

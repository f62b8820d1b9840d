use tavq_align::{SinkhornConfig, TransportValue, transport_value};
use tch::{Kind, Tensor};

use crate::common::{Noise, gap};

const TIGHT: SinkhornConfig = SinkhornConfig { epsilon: 0.1, tolerance: 1e-13, max_iterations: 50_000 };

fn gradient(value: &Tensor, leaf: &Tensor) -> Tensor {
    Tensor::run_backward(&[value.sum(Kind::Double)], &[leaf], false, false).remove(0)
}

#[test]
fn the_entropic_gradient_is_right_by_central_differences() {
    let mut noise = Noise(20);
    let (s, m) = (5, 4);
    let (a, b) = (noise.masses(s, &[5, 3]), noise.masses(m, &[4, 2]));
    let cost = noise.uniform(&[2, s, m]).set_requires_grad(true);
    let at = |c: &Tensor| transport_value(c, &a, &b, &TIGHT, TransportValue::Entropic).unwrap();
    let (value, transport) = at(&cost);
    let found = gradient(&value, &cost);
    assert!(found.equal(&transport.plan), "the gradient is the plan");
    let base = cost.detach();
    let h = 1e-5;
    for k in 0..2 * s * m {
        let step = Tensor::zeros_like(&base);
        let _ = step.view(-1).get(k).fill_(h);
        let [up, down] = [&base + &step, &base - &step].map(|c| at(&c).0.sum(Kind::Double).double_value(&[]));
        let (expected, found) = ((up - down) / (2.0 * h), found.view(-1).double_value(&[k]));
        assert!((expected - found).abs() <= 1e-6 * found.abs().max(1e-3), "entry {k}: {expected} against {found}");
    }
}

#[test]
fn values_are_what_they_say() {
    let mut noise = Noise(21);
    let (cost, a, b) = (noise.uniform(&[3, 6, 5]), noise.masses(6, &[6, 4, 6]), noise.masses(5, &[5, 5, 3]));
    let sum = |t: &Tensor| t.sum_dim_intlist([-1i64, -2].as_slice(), false, None::<Kind>);
    let (sharp, transport) = transport_value(&cost, &a, &b, &TIGHT, TransportValue::Sharp).unwrap();
    assert!(gap(&sharp, &sum(&(&transport.plan * &cost))) < 1e-14);
    let (entropic, _) = transport_value(&cost, &a, &b, &TIGHT, TransportValue::Entropic).unwrap();
    let product = a.unsqueeze(-1) * b.unsqueeze(-2);
    let kl = (&transport.plan * (&transport.plan / &product).log()).nan_to_num(0.0, 0.0, 0.0);
    assert!(gap(&entropic, &(&sharp + sum(&kl) * TIGHT.epsilon)) < 1e-12);
    // The KL term also counts the masses where they are not 1.
    let (doubled, t) = transport_value(&cost, &(&a * 2.0), &(&b * 2.0), &TIGHT, TransportValue::Entropic).unwrap();
    let product = product * 4.0;
    let kl = (&t.plan * (&t.plan / &product).log()).nan_to_num(0.0, 0.0, 0.0) - &t.plan + &product;
    assert!(gap(&doubled, &(sum(&(&t.plan * &cost)) + sum(&kl) * TIGHT.epsilon)) < 1e-12);
}

#[test]
fn the_sharp_gradient_is_the_plan_and_padding_has_none() {
    let mut noise = Noise(22);
    let (a, b) = (noise.masses(6, &[6, 4]), noise.masses(5, &[3, 5]));
    let outside = a.eq(0.0).unsqueeze(-1).logical_or(&b.eq(0.0).unsqueeze(-2));
    let cost = noise.uniform(&[2, 6, 5]).masked_fill(&outside, f64::NAN).set_requires_grad(true);
    for form in [TransportValue::Sharp, TransportValue::Entropic] {
        let (value, transport) = transport_value(&cost, &a, &b, &TIGHT, form).unwrap();
        assert!(value.isfinite().all().int64_value(&[]) == 1);
        assert!(gradient(&value, &cost).equal(&transport.plan));
        assert!(!transport.plan.requires_grad());
    }
}

/// At a loose tolerance the dual value is off by the square of what the plan is off by.
#[test]
fn the_entropic_value_forgives_a_loose_tolerance() {
    let mut noise = Noise(23);
    let (cost, a, b) = (noise.uniform(&[1, 12, 9]), noise.masses(12, &[12]), noise.masses(9, &[9]));
    let at = |tolerance, form| {
        let config = SinkhornConfig { epsilon: 0.05, tolerance, max_iterations: 50_000 };
        transport_value(&cost, &a, &b, &config, form).unwrap().0.double_value(&[0])
    };
    let off = |form| (at(2e-2, form) - at(1e-13, form)).abs();
    assert!(off(TransportValue::Entropic) < 1e-4, "{}", off(TransportValue::Entropic));
    assert!(off(TransportValue::Entropic) < off(TransportValue::Sharp));
}

use tavq_align::laws::cost_laws;
use tavq_align::{CosineCost, Cost, Result, SquaredEuclidean, all_pairs};
use tch::{Kind, Tensor};

use crate::common::{Noise, gap};

enum Broken {
    Transposed,
    Relative,
    Detached,
    WrongGradient,
    SinglePrecision,
    NanAtZero,
}

impl Cost for Broken {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let cost = SquaredEuclidean.matrix(x, y)?;
        Ok(match self {
            Self::Transposed => cost.transpose(1, 2),
            Self::Relative => &cost / cost.max(),
            Self::Detached => SquaredEuclidean.matrix(&x.detach(), y)?,
            Self::WrongGradient => &cost + &cost - cost.detach(),
            Self::SinglePrecision => cost.to_kind(Kind::Float),
            Self::NanAtZero => {
                cost + (x / x.square().sum_dim_intlist([-1i64].as_slice(), true, None::<Kind>)).sum(Kind::Double) * 0.0
            }
        })
    }
}

#[test]
fn laws_hold_and_catch_broken_costs() {
    cost_laws(&CosineCost).unwrap();
    cost_laws(&SquaredEuclidean).unwrap();
    let cases = [
        (Broken::Transposed, "costs are [B, S, M]"),
        (Broken::Relative, "an entry depends"),
        (Broken::Detached, "differentiable: the result carries no gradient in x"),
        (Broken::WrongGradient, "the gradient is right"),
        (Broken::SinglePrecision, "the points' kind"),
        (Broken::NanAtZero, "a zero vector has a finite cost"),
    ];
    for (broken, law) in cases {
        let found = cost_laws(&broken).unwrap_err();
        assert!(found.starts_with(law), "expected {law}, found {found}");
    }
}

#[test]
fn values_by_hand() {
    let x = Tensor::from_slice(&[3.0, 4.0, 0.0, 0.0]).view([1, 2, 2]);
    let y = Tensor::from_slice(&[1.0, 0.0, -6.0, -8.0]).view([1, 2, 2]);
    assert!(gap(&CosineCost.matrix(&x, &y).unwrap().view(-1), &Tensor::from_slice(&[0.4, 2.0, 1.0, 1.0])) < 1e-12);
    let squared = SquaredEuclidean.matrix(&x, &y).unwrap().view(-1);
    assert!(gap(&squared, &Tensor::from_slice(&[20.0, 225.0, 1.0, 100.0])) < 1e-12);
}

#[test]
fn all_pairs_are_the_pairs() {
    let mut noise = Noise(1);
    let (x, y) = (noise.signed(&[3, 4, 5]), noise.signed(&[2, 6, 5]));
    for cost in [&CosineCost as &dyn Cost, &SquaredEuclidean] {
        let all = all_pairs(cost, &x, &y).unwrap();
        assert_eq!(all.size(), [3, 2, 4, 6]);
        for i in 0..3 {
            for t in 0..2 {
                let one = cost.matrix(&x.narrow(0, i, 1), &y.narrow(0, t, 1)).unwrap();
                assert!(gap(&one.get(0), &all.get(i).get(t)) < 1e-12);
            }
        }
    }
    assert!(all_pairs(&CosineCost, &x, &noise.signed(&[2, 6, 4])).is_err());
    assert!(CosineCost.matrix(&x, &y).is_err());
}

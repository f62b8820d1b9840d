use proptest::prelude::*;
use tavq_align::{SinkhornConfig, Status, TransportValue, sinkhorn, transport_value};
use tch::{Kind, Tensor};

use crate::common::{Noise, gap};

const CONFIG: SinkhornConfig = SinkhornConfig { epsilon: 0.05, tolerance: 1e-10, max_iterations: 20_000 };

/// Seed, rows and columns, and how many of each are filled in the two problems.
fn shapes() -> impl Strategy<Value = (u64, i64, i64, [i64; 2], [i64; 2])> {
    (any::<u64>(), 1i64..9, 1i64..9).prop_flat_map(|(seed, s, m)| {
        let filled = |n: i64| [1..=n, 1..=n];
        (Just(seed), Just(s), Just(m), filled(s), filled(m))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_are_plans((seed, s, m, filled_s, filled_m) in shapes()) {
        let mut noise = Noise(seed);
        let (cost, a, b) = (noise.signed(&[2, s, m]), noise.masses(s, &filled_s), noise.masses(m, &filled_m));
        let found = sinkhorn(&cost, &a, &b, &CONFIG).unwrap();
        prop_assert_eq!(found.status, Status::Converged);
        prop_assert!(found.plan.min().double_value(&[]) >= 0.0);
        let rows = found.plan.sum_dim_intlist([-1i64].as_slice(), false, None::<Kind>);
        let columns = found.plan.sum_dim_intlist([-2i64].as_slice(), false, None::<Kind>);
        prop_assert!(gap(&rows, &a) < 1e-9 && gap(&columns, &b) < 1e-9);
    }

    #[test]
    fn order_and_direction_do_not_matter((seed, s, m, filled_s, filled_m) in shapes()) {
        let mut noise = Noise(seed);
        let (cost, a, b) = (noise.uniform(&[2, s, m]), noise.masses(s, &filled_s), noise.masses(m, &filled_m));
        let plan = sinkhorn(&cost, &a, &b, &CONFIG).unwrap().plan;
        let flipped = sinkhorn(&cost.flip([1, 2]), &a.flip([1]), &b.flip([1]), &CONFIG).unwrap().plan;
        prop_assert!(gap(&plan.flip([1, 2]), &flipped) < 1e-9);
        let turned = sinkhorn(&cost.transpose(1, 2), &b, &a, &CONFIG).unwrap().plan;
        prop_assert!(gap(&plan.transpose(1, 2), &turned) < 1e-8);
    }

    #[test]
    fn values_are_ordered((seed, s, m, filled_s, filled_m) in shapes()) {
        let mut noise = Noise(seed);
        let (cost, a, b) = (noise.uniform(&[2, s, m]), noise.masses(s, &filled_s), noise.masses(m, &filled_m));
        let at = |form| transport_value(&cost, &a, &b, &CONFIG, form).unwrap().0;
        let (sharp, entropic) = (at(TransportValue::Sharp), at(TransportValue::Entropic));
        let product = (&cost * a.unsqueeze(-1) * b.unsqueeze(-2)).sum_dim_intlist([-1i64, -2].as_slice(), false, None::<Kind>);
        let at_most = |x: &Tensor, y: &Tensor| (x - y).max().double_value(&[]) < 1e-8;
        // KL >= 0, and the product of the masses is a plan without KL.
        prop_assert!(at_most(&sharp, &entropic) && at_most(&entropic, &product));
    }
}

use proptest::prelude::*;
use tavq_metrics::{MetricError, RetrievalReport, RetrievalScores, retrieval, subtract_text_means, sum_levels};
use tch::{Device, Kind, Tensor};

fn matrix(n: i64, values: &[f64]) -> Tensor {
    Tensor::from_slice(values).view([n, -1])
}

fn scores(recall_at_1: f64, recall_at_5: f64, median_rank: f64) -> RetrievalScores {
    RetrievalScores { recall_at_1, recall_at_5, median_rank }
}

#[test]
fn perfect_worst_and_constant() {
    let options = (Kind::Double, Device::Cpu);
    for n in [1i64, 2, 5, 6, 40] {
        let perfect = retrieval(&(1.0 - Tensor::eye(n, options))).unwrap();
        let chance = scores(1.0 / n as f64, (5.0 / n as f64).min(1.0), (n as f64 + 1.0) / 2.0);
        assert_eq!((perfect.image_to_text, perfect.text_to_image), (scores(1.0, 1.0, 1.0), scores(1.0, 1.0, 1.0)));
        assert_eq!((perfect.chance, perfect.pairs), (chance, n as usize));
        let worst = retrieval(&Tensor::eye(n, options)).unwrap().image_to_text;
        assert_eq!(worst, scores(f64::from(n == 1), f64::from(n <= 5), n as f64));
        let constant = retrieval(&Tensor::full([n, n], 0.3, options)).unwrap();
        for found in [constant.image_to_text, constant.text_to_image] {
            let off = [(found.recall_at_1, chance.recall_at_1), (found.recall_at_5, chance.recall_at_5)];
            assert!(off.iter().all(|(x, y)| (x - y).abs() < 1e-12), "constant costs are chance: {found:?}");
            assert_eq!(found.median_rank, chance.median_rank);
        }
    }
}

#[test]
fn ranks_by_hand() {
    // Rows are images. Image 0 finds its text first, image 1 third, image 2 tied with one other for the second place.
    let found = retrieval(&matrix(3, &[0.1, 0.5, 0.9, 0.2, 0.7, 0.6, 0.3, 0.4, 0.4])).unwrap();
    assert_eq!(found.image_to_text.recall_at_1, 1.0 / 3.0);
    assert_eq!(found.image_to_text.median_rank, 2.5);
    // Columns: 0.1 is first of (0.1, 0.2, 0.3), 0.7 last of (0.5, 0.7, 0.4), 0.4 first of (0.9, 0.6, 0.4).
    assert_eq!(found.text_to_image.recall_at_1, 2.0 / 3.0);
    assert_eq!(found.text_to_image.median_rank, 1.0);
}

#[test]
fn a_hub_loses_its_lead() {
    // Text 0 is cheap for everyone; relative to its mean every text prefers its own image.
    let costs = matrix(3, &[0.1, 0.8, 0.9, 0.2, 0.6, 0.9, 0.2, 0.8, 0.7]);
    assert_eq!(retrieval(&costs).unwrap().image_to_text.recall_at_1, 1.0 / 3.0);
    let centred = subtract_text_means(&costs).unwrap();
    assert_eq!(retrieval(&centred).unwrap().image_to_text.recall_at_1, 1.0);
    assert_eq!(retrieval(&centred).unwrap().text_to_image, retrieval(&costs).unwrap().text_to_image);
}

#[test]
fn a_text_that_cannot_be_retrieved_stands_last() {
    let inf = f64::INFINITY;
    let costs = matrix(3, &[0.1, inf, 0.2, 0.2, inf, 0.3, 0.4, inf, 0.3]);
    let found = retrieval(&subtract_text_means(&costs).unwrap()).unwrap();
    assert_eq!(found.image_to_text.recall_at_1, 2.0 / 3.0);
    // Its own images are all tied.
    assert_eq!(found.text_to_image.recall_at_1, (1.0 / 3.0 + 1.0) / 3.0);
    let sum = sum_levels(&[costs.shallow_clone(), costs.zeros_like()]).unwrap();
    assert!(sum.equal(&costs));
}

#[test]
fn levels_add_up_and_reports_are_written() {
    let (x, y) = (matrix(2, &[0.0, 1.0, 2.0, 3.0]), matrix(2, &[0.5, 0.25, 1.0, -1.0]));
    assert!(sum_levels(&[x.shallow_clone(), y]).unwrap().equal(&matrix(2, &[0.5, 1.25, 3.0, 2.0])));
    let report = retrieval(&x).unwrap();
    let text = serde_json::to_string(&report).unwrap();
    assert!(text.starts_with(r#"{"image_to_text":{"recall_at_1":0.5,"recall_at_5":1.0,"median_rank":1.5}"#), "{text}");
    assert_eq!(serde_json::from_str::<RetrievalReport>(&text).unwrap(), report);
}

#[test]
fn bad_input_is_one_typed_error() {
    let square = matrix(2, &[0.0, 1.0, 2.0, 3.0]);
    let shape = |e: MetricError| assert!(matches!(e, MetricError::Shape(_)), "{e}");
    shape(retrieval(&square.narrow(0, 0, 1)).unwrap_err());
    shape(retrieval(&square.view(-1)).unwrap_err());
    shape(subtract_text_means(&square.view(-1)).unwrap_err());
    shape(sum_levels(&[square.shallow_clone(), square.narrow(1, 0, 1)]).unwrap_err());
    assert!(matches!(sum_levels(&[]).unwrap_err(), MetricError::Values { .. }));
    let nan = retrieval(&(&square * f64::NAN)).unwrap_err().to_string();
    assert_eq!(nan, "costs: expected at least one pair and no NaN, found NaN");
    assert!(retrieval(&Tensor::zeros([0, 0], (Kind::Double, Device::Cpu))).is_err());
}

/// Square costs of few distinct values, so that ties are common.
fn costs() -> impl Strategy<Value = (i64, Vec<f64>)> {
    (1usize..9).prop_flat_map(|n| {
        let values = prop::collection::vec((0u8..12).prop_map(f64::from), n * n);
        (Just(n as i64), values)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shifts_scales_and_renumbering_change_nothing((n, values) in costs(), shift in -8i8..8, by in 0i64..8) {
        let costs = matrix(n, &values);
        let report = retrieval(&costs).unwrap();
        prop_assert_eq!(retrieval(&(&costs * 4.0 + f64::from(shift))).unwrap(), report);
        let order = Tensor::from_slice(&(0..n).map(|i| (i + by) % n).rev().collect::<Vec<_>>());
        let renumbered = retrieval(&costs.index_select(0, &order).index_select(1, &order)).unwrap();
        let turned = retrieval(&costs.transpose(0, 1)).unwrap();
        for (x, y) in [
            (renumbered.image_to_text, report.image_to_text),
            (renumbered.text_to_image, report.text_to_image),
            (turned.image_to_text, report.text_to_image),
        ] {
            prop_assert!((x.recall_at_1 - y.recall_at_1).abs() < 1e-12 && (x.recall_at_5 - y.recall_at_5).abs() < 1e-12);
            prop_assert_eq!(x.median_rank, y.median_rank);
        }
    }

    #[test]
    fn scores_are_in_range_and_ordered((n, values) in costs()) {
        let report = retrieval(&matrix(n, &values)).unwrap();
        for s in [report.image_to_text, report.text_to_image, report.chance] {
            prop_assert!(0.0 <= s.recall_at_1 && s.recall_at_1 <= s.recall_at_5 && s.recall_at_5 <= 1.0 + 1e-12);
            prop_assert!(1.0 <= s.median_rank && s.median_rank <= n as f64);
        }
    }

    /// A cheaper right answer is never worse.
    #[test]
    fn lowering_the_right_cost_never_hurts((n, values) in costs(), i in 0i64..8) {
        let costs = matrix(n, &values);
        let before = retrieval(&costs).unwrap();
        let lower = costs.copy();
        let mut entry = lower.get(i % n).get(i % n);
        let _ = entry.g_sub_scalar_(3.0);
        let after = retrieval(&lower).unwrap();
        prop_assert!(after.image_to_text.recall_at_1 >= before.image_to_text.recall_at_1 - 1e-12);
        prop_assert!(after.text_to_image.median_rank <= before.text_to_image.median_rank);
    }
}

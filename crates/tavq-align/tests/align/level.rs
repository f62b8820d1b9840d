use tavq_align::{
    AlignConfig, AlignError, CosineCost, LevelAlignment, LossForm, MapConfig, SamplerConfig, SubsetCodes, TargetMasses,
    TextBatch, TransportValue,
};
use tch::{Device, Kind, Tensor, nn};

use crate::common::{Noise, gap};

const D: i64 = 6;
const DT: i64 = 5;

/// A level whose map is filled from `noise`.
fn level(noise: &mut Noise, config: &AlignConfig) -> (nn::VarStore, LevelAlignment) {
    let store = nn::VarStore::new(Device::Cpu);
    let level = LevelAlignment::new(&(store.root() / "level"), D, DT, config).unwrap();
    tch::no_grad(|| {
        for mut t in store.trainable_variables() {
            t.copy_(&(noise.signed(&t.size()) * 0.7));
        }
    });
    (store, level)
}

fn codes(noise: &mut Noise, images: i64) -> Tensor {
    noise.signed(&[images, D, 4, 3]).to_kind(Kind::Float)
}

/// Texts of these many units, padded to `m` with `padding`.
fn texts(noise: &mut Noise, units: &[i64], m: i64, padding: f64) -> TextBatch {
    let t = units.len() as i64;
    let slots = Tensor::arange(m, (Kind::Int64, Device::Cpu)).unsqueeze(0);
    let mask = slots.lt_tensor(&Tensor::from_slice(units).unsqueeze(1));
    let outside = mask.logical_not();
    let vectors = noise.signed(&[t, m, DT]).masked_fill(&outside.unsqueeze(-1), padding);
    let counts = (noise.uniform(&[t, m]) * 4.0 + 1.0).floor().masked_fill(&outside, padding);
    TextBatch { vectors: vectors.to_kind(Kind::Float), mask, counts: counts.to_kind(Kind::Float) }
}

fn forms() -> Vec<AlignConfig> {
    let mut all = Vec::new();
    for form in [LossForm::Plain, LossForm::Contrastive] {
        for value in [TransportValue::Sharp, TransportValue::Entropic] {
            for target in [TargetMasses::Uniform, TargetMasses::Counts] {
                all.push(AlignConfig { form, value, target, ..AlignConfig::default() });
            }
        }
    }
    all
}

#[test]
fn padding_is_never_read() {
    for config in forms() {
        let run = |m: i64, padding: f64| {
            let mut noise = Noise(30);
            let (store, level) = level(&mut noise, &config);
            let codes = codes(&mut noise, 3).set_requires_grad(true);
            // Units are drawn before the padding, so that all runs see the same ones.
            let mut text = texts(&mut noise, &[7, 7, 7], 7, 0.0);
            let inside = Tensor::from_slice(&[7i64, 3, 1]).unsqueeze(1);
            let slots = Tensor::arange(7, (Kind::Int64, Device::Cpu)).unsqueeze(0);
            text.mask = slots.lt_tensor(&inside).constant_pad_nd([0, m - 7]);
            let fill = |t: &Tensor, pad: &[i64]| t.constant_pad_nd(pad);
            let outside = text.mask.logical_not();
            text.vectors = fill(&text.vectors, &[0, 0, 0, m - 7]).masked_fill(&outside.unsqueeze(-1), padding);
            text.counts = fill(&text.counts, &[0, m - 7]).masked_fill(&outside, padding);
            let found = level.loss(&codes, &text, true).unwrap();
            found.loss.backward();
            let map = store.variables()["level.out.weight"].grad();
            let pairs = level.pair_costs(&codes, &text).unwrap();
            let plan = level.plan(&codes, &text).unwrap().plan.narrow(2, 0, 7);
            [found.loss.detach().view(-1), found.value, codes.grad(), map, pairs, plan]
        };
        let clean = run(7, 0.0);
        assert!(
            clean.iter().all(|t| t.isfinite().all().int64_value(&[]) == 1 && t.abs().max().double_value(&[]) > 0.0)
        );
        for (m, padding) in [(7, f64::NAN), (7, f64::INFINITY), (11, 3.0), (11, f64::NAN)] {
            for (x, y) in clean.iter().zip(run(m, padding)) {
                assert!(gap(x, &y) < 2e-6, "{config:?} {m} {padding}");
            }
        }
    }
}

#[test]
fn the_loss_is_made_of_pair_costs() {
    for config in forms() {
        let mut noise = Noise(31);
        let (_store, level) = level(&mut noise, &config);
        let (codes, text) = (codes(&mut noise, 4), texts(&mut noise, &[5, 2, 8, 8], 8, 0.0));
        let found = level.loss(&codes, &text, false).unwrap();
        let pairs = level.pair_costs(&codes, &text).unwrap();
        assert_eq!(pairs.size(), [4, 4]);
        assert!(gap(&pairs.diagonal(0, 0, 1), &found.value) < 1e-6);
        let scores = &pairs * (-1.0 / config.temperature);
        let diagonal = |t: Tensor| t.diagonal(0, 0, 1).mean(Kind::Float).double_value(&[]);
        let expected = match config.form {
            LossForm::Plain => found.value.mean(Kind::Float).double_value(&[]),
            LossForm::Contrastive => {
                -0.5 * (diagonal(scores.log_softmax(0, Kind::Float)) + diagonal(scores.log_softmax(1, Kind::Float)))
            }
        };
        assert!((expected - found.loss.double_value(&[])).abs() < 1e-5);
        assert!(found.error < 1e-2 && found.iterations >= 1);
    }
}

#[test]
fn pair_costs_are_the_same_in_chunks() {
    let mut noise = Noise(32);
    let (_store, level) = level(&mut noise, &AlignConfig::default());
    // 48 * 600 elements a pair: about 145 of the 360 pairs fit the budget.
    let codes = noise.signed(&[20, D, 8, 6]).to_kind(Kind::Float);
    let text = texts(&mut noise, &[600; 18], 600, 0.0);
    let all = level.pair_costs(&codes, &text).unwrap();
    for (i, t) in [(0, 0), (7, 3), (19, 17)] {
        let one = TextBatch {
            vectors: text.vectors.narrow(0, t, 1),
            mask: text.mask.narrow(0, t, 1),
            counts: text.counts.narrow(0, t, 1),
        };
        let alone = level.pair_costs(&codes.narrow(0, i, 1), &one).unwrap().double_value(&[0, 0]);
        assert!((alone - all.double_value(&[i, t])).abs() < 1e-6);
    }
}

#[test]
fn gradients_reach_map_and_codes_and_never_the_texts() {
    for config in forms() {
        for map in [MapConfig::Linear {}, MapConfig::Hidden { width: 7 }] {
            let mut noise = Noise(33);
            let (store, level) = level(&mut noise, &AlignConfig { map, ..config });
            let codes = codes(&mut noise, 3).set_requires_grad(true);
            let mut text = texts(&mut noise, &[4, 6, 5], 6, 0.0);
            text.vectors = text.vectors.set_requires_grad(true);
            let found = level.loss(&codes, &text, true).unwrap();
            assert!(!found.value.requires_grad() && found.loss.size().is_empty() && found.value.size() == [3]);
            found.loss.backward();
            assert_eq!(codes.grad().size(), codes.size());
            assert!(codes.grad().abs().max().double_value(&[]) > 0.0);
            assert!(!text.vectors.grad().defined(), "texts are constants");
            let names: Vec<_> = store.variables().into_keys().collect();
            assert_eq!(names.len(), if map == (MapConfig::Linear {}) { 2 } else { 4 }, "{names:?}");
            for (name, t) in store.variables() {
                assert!(name.starts_with("level."), "{name}");
                assert!(t.grad().defined() && t.grad().isfinite().all().int64_value(&[]) == 1, "{name}");
            }
        }
    }
}

/// The plain loss by central differences through the map, in the form whose gradient is exact.
#[test]
fn the_gradient_of_the_codes_is_right() {
    let config = AlignConfig {
        value: TransportValue::Entropic,
        tolerance: 1e-6,
        max_iterations: 1000,
        epsilon: 0.2,
        ..AlignConfig::default()
    };
    let mut noise = Noise(34);
    let (_store, level) = level(&mut noise, &config);
    let base = codes(&mut noise, 2);
    let text = texts(&mut noise, &[4, 3], 4, 0.0);
    let leaf = base.copy().set_requires_grad(true);
    level.loss(&leaf, &text, false).unwrap().loss.backward();
    let found = leaf.grad();
    let h = 1e-2;
    for k in [0, 13, 50, 100] {
        let step = Tensor::zeros_like(&base);
        let _ = step.view(-1).get(k).fill_(h);
        let [up, down] =
            [&base + &step, &base - &step].map(|c| level.loss(&c, &text, false).unwrap().loss.double_value(&[]));
        let (expected, found) = ((up - down) / (2.0 * h), found.view(-1).double_value(&[k]));
        assert!((expected - found).abs() < 2e-4, "entry {k}: {expected} against {found}");
    }
}

/// The reason why texts have no map: whatever constant the codes are mapped to, distinct texts keep their distance.
#[test]
fn a_constant_map_cannot_reach_zero() {
    let store = nn::VarStore::new(Device::Cpu);
    let level = LevelAlignment::new(&store.root(), D, DT, &AlignConfig::default()).unwrap();
    let vectors = Tensor::eye(DT, (Kind::Float, Device::Cpu)).narrow(0, 0, 2).unsqueeze(0);
    let ones = Tensor::ones([1, 2], (Kind::Float, Device::Cpu));
    let text = TextBatch { vectors, mask: ones.shallow_clone(), counts: ones };
    let codes = codes(&mut Noise(35), 1);
    let _ = tch::no_grad(|| store.variables()["out.weight"].shallow_clone().fill_(0.0));
    let mut bias = store.variables()["out.bias"].shallow_clone();
    let mut best = f64::INFINITY;
    for k in 0..64 {
        let angle = f64::from(k) / 64.0 * std::f64::consts::TAU;
        let constant = Tensor::from_slice(&[angle.cos(), angle.sin(), 0.0, 0.0, 0.0]).to_kind(Kind::Float);
        tch::no_grad(|| bias.copy_(&constant));
        best = best.min(level.loss(&codes, &text, true).unwrap().value.double_value(&[0]));
    }
    // The best constant lies between the two orthogonal vectors, at cosine 1 / sqrt 2 from each.
    assert!((best - (1.0 - 0.5f64.sqrt())).abs() < 1e-4, "{best}");
    // Distinct codes do reach it: half of the cells on each vector.
    tch::no_grad(|| {
        let _ = bias.fill_(0.0);
        let eye = Tensor::eye(D, (Kind::Float, Device::Cpu)).narrow(0, 0, DT);
        store.variables()["out.weight"].shallow_clone().copy_(&eye);
    });
    let half = Tensor::from_slice(&[1.0f32, 0.0]).repeat_interleave_self_int(6, None, None).view([1, 1, 4, 3]);
    let split = Tensor::cat(&[&half, &(1.0 - &half), &Tensor::zeros([1, D - 2, 4, 3], (Kind::Float, Device::Cpu))], 1);
    assert!(level.loss(&split, &text, true).unwrap().value.double_value(&[0]) < 1e-6);
}

#[test]
fn descent_on_the_codes_lowers_the_loss() {
    for config in forms() {
        let mut noise = Noise(36);
        let (_store, level) = level(&mut noise, &config);
        let text = texts(&mut noise, &[4, 6, 5], 6, 0.0);
        let mut codes = codes(&mut noise, 3).set_requires_grad(true);
        let mut losses = Vec::new();
        for _ in 0..30 {
            codes.zero_grad();
            let loss = level.loss(&codes, &text, true).unwrap().loss;
            loss.backward();
            losses.push(loss.double_value(&[]));
            let step = codes.grad() * 2.0;
            let _ = tch::no_grad(|| codes.g_sub_(&step));
        }
        let (first, last) = (losses[0], losses[29]);
        assert!(last < 0.9 * first, "{config:?}: {first} to {last}");
    }
}

#[test]
fn the_contrastive_loss_of_no_information_is_chance() {
    let config = AlignConfig { form: LossForm::Contrastive, ..AlignConfig::default() };
    let mut noise = Noise(37);
    let (_store, level) = level(&mut noise, &config);
    for b in [1i64, 2, 7] {
        let same_codes = codes(&mut noise, 1).repeat([b, 1, 1, 1]);
        let text = texts(&mut noise, &vec![5; b as usize], 5, 0.0);
        let one = texts(&mut noise, &[5], 5, 0.0);
        let same_text = TextBatch {
            vectors: one.vectors.repeat([b, 1, 1]),
            mask: one.mask.repeat([b, 1]),
            counts: one.counts.repeat([b, 1]),
        };
        let loss = level.loss(&same_codes, &same_text, true).unwrap().loss.double_value(&[]);
        assert!((loss - (b as f64).ln()).abs() < 1e-5, "{b}: {loss}");
        // Equal images tell nothing about different texts: the texts' direction is at chance, the other not below it.
        let half = level.loss(&same_codes, &text, true).unwrap().loss.double_value(&[]);
        assert!(half >= (b as f64).ln() - 1e-5, "{b}: {half}");
    }
}

#[test]
fn texts_without_units_are_left_out() {
    for config in forms() {
        let mut noise = Noise(38);
        let (_store, level) = level(&mut noise, &config);
        let all = codes(&mut noise, 3);
        let text = texts(&mut noise, &[5, 0, 4], 5, f64::NAN);
        let leaf = all.copy().set_requires_grad(true);
        let found = level.loss(&leaf, &text, true).unwrap();
        found.loss.backward();
        assert!(leaf.grad().isfinite().all().int64_value(&[]) == 1, "{config:?}");
        assert_eq!(found.value.double_value(&[1]), 0.0);
        let pairs = level.pair_costs(&all, &text).unwrap();
        assert!(pairs.select(1, 1).eq(f64::INFINITY).all().int64_value(&[]) == 1);
        assert!(pairs.select(1, 0).isfinite().all().int64_value(&[]) == 1);
        assert_eq!(level.plan(&all, &text).unwrap().plan.get(1).abs().max().double_value(&[]), 0.0);
        if config.form == LossForm::Plain {
            let mean = (found.value.double_value(&[0]) + found.value.double_value(&[2])) / 2.0;
            assert!((found.loss.double_value(&[]) - mean).abs() < 1e-6);
        }
        let none = texts(&mut noise, &[0, 0, 0], 5, f64::NAN);
        let leaf = all.copy().set_requires_grad(true);
        let found = level.loss(&leaf, &none, true).unwrap();
        assert_eq!(found.loss.double_value(&[]), 0.0);
        found.loss.backward();
        assert_eq!(leaf.grad().abs().max().double_value(&[]), 0.0);
    }
}

#[test]
fn the_order_of_units_and_images_does_not_matter() {
    for config in forms() {
        let mut noise = Noise(39);
        let (_store, level) = level(&mut noise, &config);
        let (codes, text) = (codes(&mut noise, 3), texts(&mut noise, &[6, 6, 6], 6, 0.0));
        let found = level.loss(&codes, &text, false).unwrap();
        let units = Tensor::from_slice(&[3i64, 0, 5, 1, 4, 2]);
        let images = Tensor::from_slice(&[2i64, 0, 1]);
        let permuted = TextBatch {
            vectors: text.vectors.index_select(1, &units).index_select(0, &images),
            mask: text.mask.index_select(1, &units).index_select(0, &images),
            counts: text.counts.index_select(1, &units).index_select(0, &images),
        };
        let other = level.loss(&codes.index_select(0, &images).flip([2, 3]), &permuted, false).unwrap();
        assert!((found.loss.double_value(&[]) - other.loss.double_value(&[])).abs() < 1e-5, "{config:?}");
        assert!(gap(&found.value.index_select(0, &images), &other.value) < 1e-5);
    }
}

#[test]
fn the_plan_covers_all_cells_whatever_the_sampler() {
    let config = AlignConfig { sampler: SamplerConfig::Subset { count: 4 }, tolerance: 1e-5, ..AlignConfig::default() };
    let mut noise = Noise(40);
    let (_store, level) = level(&mut noise, &config);
    let (codes, text) = (codes(&mut noise, 2), texts(&mut noise, &[5, 3], 5, 0.0));
    let found = level.plan(&codes, &text).unwrap();
    assert_eq!(found.plan.size(), [2, 12, 5]);
    assert_eq!(found.cost.size(), [2, 12, 5]);
    let rows = found.plan.sum_dim_intlist([-1i64].as_slice(), false, None::<Kind>);
    assert!(gap(&rows, &rows.full_like(1.0 / 12.0)) < 1e-5);
    // Row-major: the plan of the flipped picture is the flipped plan.
    let flipped = level.plan(&codes.flip([3]), &text).unwrap().plan.view([2, 4, 3, 5]).flip([2]).view([2, 12, 5]);
    assert!(gap(&found.plan, &flipped) < 1e-5);
    assert_eq!(level.pair_costs(&codes, &text).unwrap().size(), [2, 2]);
}

#[test]
fn own_parts_plug_in_and_bad_shapes_are_refused() {
    let store = nn::VarStore::new(Device::Cpu);
    let parts = (Box::new(SubsetCodes { count: 3 }), Box::new(CosineCost));
    let level = LevelAlignment::with_parts(&store.root(), D, DT, &AlignConfig::default(), parts.0, parts.1).unwrap();
    let mut noise = Noise(41);
    let (codes, text) = (codes(&mut noise, 2), texts(&mut noise, &[5, 3], 5, 0.0));
    level.loss(&codes, &text, false).unwrap();
    let shape = |e: AlignError| assert!(matches!(e, AlignError::Shape(_)), "{e}");
    shape(level.loss(&codes.narrow(1, 0, 5), &text, false).unwrap_err());
    shape(level.loss(&codes.narrow(0, 0, 1), &text, false).unwrap_err());
    shape(level.plan(&codes.flatten(2, 3), &text).unwrap_err());
    let other = |change: fn(&mut TextBatch)| {
        let mut text = texts(&mut Noise(42), &[5, 3], 5, 0.0);
        change(&mut text);
        level.loss(&codes, &text, false).unwrap_err()
    };
    shape(other(|t| t.vectors = t.vectors.narrow(2, 0, 4)));
    shape(other(|t| t.mask = t.mask.narrow(1, 0, 4)));
    shape(other(|t| t.counts = t.counts.narrow(0, 0, 1)));
    let empty = other(|t| {
        (t.vectors, t.mask, t.counts) = (t.vectors.narrow(1, 0, 0), t.mask.narrow(1, 0, 0), t.counts.narrow(1, 0, 0));
    });
    assert!(matches!(empty, AlignError::Values { .. }), "{empty}");
    for bad in [codes.narrow(2, 0, 0), codes.narrow(0, 0, 0)] {
        assert!(matches!(level.pair_costs(&bad, &text).unwrap_err(), AlignError::Values { .. }));
    }
    assert!(LevelAlignment::new(&store.root(), 0, DT, &AlignConfig::default()).is_err());
    let nan = level.loss(&(&codes * f64::NAN), &text, false).unwrap_err();
    assert!(nan.to_string().starts_with("cost: expected finite"), "{nan}");
    let (_store, counting) =
        self::level(&mut noise, &AlignConfig { target: TargetMasses::Counts, ..AlignConfig::default() });
    let negative = TextBatch { counts: &text.counts * -1.0, vectors: text.vectors, mask: text.mask };
    assert!(counting.loss(&codes, &negative, false).unwrap_err().to_string().starts_with("text counts"));
}

//! tmp
use std::time::Instant;
use tavq_align::*;
use tch::{Device, Kind, Tensor, nn};
fn cpu() -> f64 { std::fs::read_to_string("/proc/thread-self/schedstat").unwrap().split(' ').next().unwrap().parse().unwrap() }
fn time(name: &str, mut f: impl FnMut()) {
    f();
    let mut t: Vec<f64> = (0..40).map(|_| { let s = Instant::now(); let c = cpu(); f(); let _ = s; (cpu() - c) / 1e6 }).collect();
    t.sort_by(f64::total_cmp);
    println!("{name}: best {:.2} ms, p25 {:.2} ms", t[0], t[10]);
}
fn main() {
    let threads: i32 = std::env::args().nth(1).unwrap().parse().unwrap(); tch::set_num_threads(threads);
    tch::manual_seed(0);
    let (b, s, m, d) = (24i64, 64i64, 40i64, 384i64);
    let opt = (Kind::Float, Device::Cpu);
    let centre = Tensor::randn([60, d], opt) + Tensor::randn([1, d], opt);
    let pick = |n: i64| centre.index_select(0, &Tensor::randint(60, [b * n], (Kind::Int64, Device::Cpu))).view([b, n, d]);
    let text = pick(m);
    let sets = [("untrained", Tensor::randn([b, s, d], opt)), ("aligned", pick(s) + Tensor::randn([b, s, d], opt) * 0.7)];
    for (name, x) in &sets {
        let cost = all_pairs(&CosineCost, x, &text).unwrap().view([b * b, s, m]);
        let a = Tensor::full([b * b, s], 1.0 / s as f64, opt);
        let bb = Tensor::full([b * b, m], 1.0 / m as f64, opt);
        for epsilon in [0.05, 0.1] {
            for tolerance in [1e-2, 1e-3] {
                let config = SinkhornConfig { epsilon, tolerance, max_iterations: 2000 };
                let t = sinkhorn(&cost, &a, &bb, &config).unwrap();
                println!("  {name} eps {epsilon} tol {tolerance}: {} iterations, {:?}, error {:.1e}", t.iterations, t.status, t.error.max().double_value(&[]));
                time("    sinkhorn", || { sinkhorn(&cost, &a, &bb, &config).unwrap(); });
            }
        }
        let leaf = cost.copy().set_requires_grad(true);
        for epsilon in [0.05, 0.1] {
            let config = SinkhornConfig { epsilon, ..Default::default() };
            time(&format!("  {name} transport_value fwd+bwd eps {epsilon}"), || {
                let (v, _) = transport_value(&leaf, &a, &bb, &config, TransportValue::Sharp).unwrap();
                v.sum(Kind::Float).backward();
            });
        }
    }
    let store = nn::VarStore::new(Device::Cpu);
    let mask = Tensor::ones([b, m], opt);
    let batch = TextBatch { vectors: text, counts: mask.shallow_clone(), mask };
    let codes = Tensor::randn([b, 64, 8, 8], opt).set_requires_grad(true);
    for form in [LossForm::Plain, LossForm::Contrastive] {
        let level = LevelAlignment::new(&(store.root() / format!("{form:?}")), 64, d, &AlignConfig { form, ..Default::default() }).unwrap();
        time(&format!("level {form:?} fwd"), || { level.loss(&codes, &batch, true).unwrap(); });
        time(&format!("level {form:?} fwd+bwd"), || level.loss(&codes, &batch, true).unwrap().loss.backward());
        time(&format!("level {form:?} pair_costs"), || { level.pair_costs(&codes, &batch).unwrap(); });
    }
}

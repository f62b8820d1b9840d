//! scratch
use std::path::Path;
use tavq_encode::{Bert, BertOptions, UnitEncoder};
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let text = std::fs::read_to_string(&a[2]).unwrap();
    let units: Vec<&str> = text.lines().collect();
    for budget in [512, 1024, 1024, 2048] {
        let o = BertOptions { token_budget: Some(budget), ..BertOptions::default() };
        let bert = Bert::load_with(Path::new(&a[1]), tch::Device::Cpu, o).unwrap();
        let _ = bert.encode(&units[..20]).unwrap();
        let c = cpu();
        let _ = bert.encode(&units).unwrap();
        let c = cpu() - c;
        println!("budget {budget}: {c:.2} cpu s, {:.0} units/s", units.len() as f64 / c);
    }
}

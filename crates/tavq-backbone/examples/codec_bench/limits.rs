//! What the machine allows on these threads: the best rate of products, by itself and inside a convolution.

use std::time::Instant;

use serde_json::{Value, json};
use tch::Tensor;

use crate::{Outcome, Setting};

pub(crate) fn measure(setting: &Setting) -> Outcome<Value> {
    let on = (setting.kind, setting.device);
    let n = 2048;
    let (a, b) = (Tensor::f_randn([n, n], on)?, Tensor::f_randn([n, n], on)?);
    let product = best(setting, || Ok(a.f_mm(&b)?))?;
    let image = Tensor::f_randn([1, 128, 256, 256], on)?;
    let kernel = Tensor::f_randn([128, 128, 3, 3], on)?;
    let conv = best(setting, || Ok(image.f_conv2d(&kernel, None::<&Tensor>, [1; 2], [1; 2], [1; 2], 1)?))?;
    Ok(json!({
        "status": "done",
        "product": 2.0 * (n as f64).powi(3) / product,
        "convolution": 2.0 * (128.0 * 256.0f64).powi(2) * 9.0 / conv,
    }))
}

/// Least seconds of several runs.
fn best(setting: &Setting, run: impl Fn() -> Outcome<Tensor>) -> Outcome<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        setting.wait();
        let start = Instant::now();
        let _ = run()?;
        setting.wait();
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

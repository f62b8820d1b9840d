//! How far two results of one piece of work lie apart.

use std::path::Path;

use serde_json::{Value, json};
use tavq_torch::TensorFile;
use tch::{Kind, Tensor};

use crate::quant::Search;
use crate::{Outcome, Setting};

/// Largest difference of each tensor of the file `one` to that in `other`: of gradients and distances as a share of the
/// largest entry, of indices as [`Search::apart`] of what they choose, of others as it is. Of codes, and of the gradient of the
/// vectors, one row in a thousand is left out: where two neighbours are equally near up to rounding, either may be taken.
pub(crate) fn compare(setting: &Setting, request: &Value) -> Outcome<Value> {
    let open = |key: &str| -> Outcome<TensorFile> {
        Ok(TensorFile::open(Path::new(request[key].as_str().ok_or("compare needs two files")?))?)
    };
    let (one, other) = (open("one")?, open("other")?);
    if one.names() != other.names() {
        return Err(format!("one result has {:?}, the other {:?}", one.names(), other.names()).into());
    }
    let mut gaps = serde_json::Map::new();
    for name in one.names() {
        let (a, b) = (one.get(&name)?, other.get(&name)?);
        let gap = if name == "indices" {
            Search::new(setting, &request["work"])?.apart(&a, &b)?
        } else if name == "codebook" {
            most(&(b - a))?
        } else if name == "gradient.latent" {
            most(&(&b - a))? / largest(&b)?
        } else if name.starts_with("gradient") || name == "distances" {
            largest(&(&b - a))? / largest(&b)?
        } else {
            largest(&(b.f_view_as(&a)? - a))?
        };
        // JSON has no NaN.
        gaps.insert(name, json!(if gap.is_finite() { gap } else { f64::MAX }));
    }
    Ok(json!({ "status": "done", "gaps": gaps }))
}

/// The largest entry but for one row in a thousand; rows lie along the second axis.
fn most(tensor: &Tensor) -> Outcome<f64> {
    let rows = tensor.f_to_kind(Kind::Double)?.f_abs()?.f_amax([1i64].as_slice(), false)?.f_view([-1])?;
    let left_out = rows.size()[0] / 1000;
    let (values, _) = rows.f_topk(left_out + 1, 0, true, true)?;
    Ok(values.f_double_value(&[left_out])?)
}

fn largest(tensor: &Tensor) -> Outcome<f64> {
    Ok(tensor.f_to_kind(Kind::Double)?.f_abs()?.f_max()?.f_double_value(&[])?)
}

//! The laws of [`UnitEncoder`] as functions that any implementation can be held to.

use tch::{Kind, Tensor};

use crate::UnitEncoder;

// Rows may differ by this much between batches: sums of f32 in another order.
const TOLERANCE: f64 = 1e-5;

/// Holds an encoder to its laws; `Err` names the broken one.
///
/// * shape: `[n, D]` f32 on the CPU, finite, also for no unit at all and for an empty unit;
/// * order: permuting the units permutes the rows, equal units have equal rows;
/// * batching: a unit's row does not depend on the units beside it, within 1e-5;
/// * determinism: the same call gives the same bits;
/// * sight: different units have different rows.
pub fn unit_encoder_laws(encoder: &dyn UnitEncoder) -> Result<(), String> {
    let long = "a small wooden boat with a torn sail drifts past the harbour wall at dusk ".repeat(6);
    let units = ["red", "a dark blue apron", &long, "", "The café’s sign reads “老街” 🙂.", "dog", "red"];
    let rows = encode(encoder, &units)?;
    let _ = encode(encoder, &[])?;

    if !bits_equal(&rows, &encode(encoder, &units)?) {
        return Err("determinism: two equal calls gave different rows".to_owned());
    }
    let reversed: Vec<&str> = units.iter().rev().copied().collect();
    let back = encode(encoder, &reversed)?.flip([0]);
    near("order: rows of the reversed units", &rows, &back)?;
    near("order: rows of two equal units", &rows.narrow(0, 0, 1), &rows.narrow(0, units.len() as i64 - 1, 1))?;
    for (i, unit) in units.iter().enumerate() {
        let alone = encode(encoder, &[unit])?;
        near(&format!("batching: unit {i} alone and among others"), &alone, &rows.narrow(0, i as i64, 1))?;
    }
    let gap = largest_difference(&rows.narrow(0, 0, 1), &rows.narrow(0, 5, 1));
    if gap <= TOLERANCE {
        return Err(format!("sight: \"red\" and \"dog\" differ by {gap:e} only"));
    }
    Ok(())
}

fn encode(encoder: &dyn UnitEncoder, units: &[&str]) -> Result<Tensor, String> {
    let rows = encoder.encode(units).map_err(|e| format!("encodes {} units: {e}", units.len()))?;
    let expected = vec![units.len() as i64, encoder.dim()];
    if encoder.dim() < 1 || rows.size() != expected {
        return Err(format!("shape: expected {expected:?}, found {:?}", rows.size()));
    }
    if rows.kind() != Kind::Float || rows.device() != tch::Device::Cpu {
        return Err(format!("shape: expected f32 on the CPU, found {:?} on {:?}", rows.kind(), rows.device()));
    }
    if rows.isfinite().all().int64_value(&[]) == 0 {
        return Err("shape: a row is not finite".to_owned());
    }
    Ok(rows)
}

fn near(what: &str, a: &Tensor, b: &Tensor) -> Result<(), String> {
    let gap = largest_difference(a, b);
    if gap <= TOLERANCE { Ok(()) } else { Err(format!("{what} differ by {gap:e}")) }
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

fn bits_equal(a: &Tensor, b: &Tensor) -> bool {
    a.view_dtype(Kind::Int).equal(&b.view_dtype(Kind::Int))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;
    use tch::Device;

    // Bytes of the unit, hashed into D numbers; then broken in one way.
    struct Toy(&'static str);

    impl UnitEncoder for Toy {
        fn dim(&self) -> i64 {
            4
        }
        fn encode(&self, units: &[&str]) -> Result<Tensor> {
            let mut values = Vec::new();
            for (i, unit) in units.iter().enumerate() {
                let unit = if self.0 == "blind" { "" } else { unit };
                let longest = units.iter().map(|u| u.len()).max().unwrap_or(0);
                for d in 0..4u64 {
                    let mut h = d + 1;
                    for b in unit.bytes() {
                        h = h.wrapping_mul(0x100_0000_01b3) ^ u64::from(b);
                    }
                    let mut v = (h % 1000) as f32 / 1000.0;
                    match self.0 {
                        "order" if i == 1 => v += 0.5,
                        "batching" => v += longest as f32,
                        "nan" if unit.is_empty() => v = f32::NAN,
                        _ => {}
                    }
                    values.push(v);
                }
            }
            let width = if self.0 == "shape" { 2 } else { 4 };
            let kind = if self.0 == "kind" { Kind::Double } else { Kind::Float };
            let rows = Tensor::from_slice(&values).view([-1, width]).to_kind(kind);
            Ok(if self.0 == "random" { &rows + rows.rand_like() * 1e-6 } else { rows })
        }
    }

    #[test]
    fn a_sound_encoder_passes() {
        unit_encoder_laws(&Toy("")).unwrap();
    }

    #[test]
    fn each_broken_encoder_is_named() {
        for (broken, law) in [
            ("order", "order"),
            ("batching", "batching"),
            ("blind", "sight"),
            ("nan", "shape: a row is not finite"),
            ("shape", "shape: expected"),
            ("kind", "shape: expected f32"),
            ("random", "determinism"),
        ] {
            let error = unit_encoder_laws(&Toy(broken)).unwrap_err();
            assert!(error.starts_with(law), "{broken}: {error}");
        }
        assert_eq!(Toy("").encode(&[]).unwrap().size(), [0, 4]);
        assert_eq!(Toy("").encode(&["a"]).unwrap().device(), Device::Cpu);
    }
}

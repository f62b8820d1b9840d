//! Sums over the ranks of a process group. One process is a group of its own.

use tch::Tensor;

/// A process group, reduced to what training needs.
pub trait Collective: Send {
    /// This process, from 0.
    fn rank(&self) -> usize;
    /// Number of processes, at least 1.
    fn world(&self) -> usize;
    /// Replaces each tensor by its sum over the ranks, in place. Every rank calls with the same shapes.
    fn sum(&self, tensors: &mut [Tensor]) -> Result<(), tch::TchError>;
}

/// The group of one process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Solo;

impl Collective for Solo {
    fn rank(&self) -> usize {
        0
    }
    fn world(&self) -> usize {
        1
    }
    fn sum(&self, _tensors: &mut [Tensor]) -> Result<(), tch::TchError> {
        Ok(())
    }
}

/// Holds a group to the laws of [`Collective`]; every rank calls it. `Err` names the broken law.
pub fn collective_laws(group: &dyn Collective) -> Result<(), String> {
    let (rank, world) = (group.rank(), group.world());
    if world == 0 || rank >= world {
        return Err(format!("rank in range: rank {rank} of {world}"));
    }
    let mut tensors = [Tensor::from_slice(&[1.0f64, rank as f64]), Tensor::from_slice(&[2.0f32])];
    group.sum(&mut tensors).map_err(|e| format!("sum works: {e}"))?;
    let expected = [world as f64, (world * (world - 1) / 2) as f64];
    for (i, e) in expected.iter().enumerate() {
        let found = tensors[0].double_value(&[i as i64]);
        if found != *e {
            return Err(format!("sum over ranks: expected {e}, found {found}"));
        }
    }
    let found = tensors[1].double_value(&[0]);
    if found != 2.0 * world as f64 {
        return Err(format!("every tensor is summed: expected {}, found {found}", 2 * world));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Doubling;
    impl Collective for Doubling {
        fn rank(&self) -> usize {
            0
        }
        fn world(&self) -> usize {
            1
        }
        fn sum(&self, tensors: &mut [Tensor]) -> Result<(), tch::TchError> {
            for t in tensors {
                let _ = t.g_mul_scalar_(2.0);
            }
            Ok(())
        }
    }

    #[test]
    fn laws_hold_for_solo_and_catch_a_wrong_sum() {
        collective_laws(&Solo).unwrap();
        assert!(collective_laws(&Doubling).unwrap_err().starts_with("sum over ranks"));
    }
}

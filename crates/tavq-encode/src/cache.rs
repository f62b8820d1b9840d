//! A memory of unit vectors: across captions nine words in ten and half of the phrases repeat.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use tch::{Kind, Tensor};

use crate::{Result, UnitEncoder};

/// A unit encoder that remembers what it has encoded.
///
/// Rows are kept in two generations. A row that is asked for joins the young one; when that is full, the old
/// one is dropped and the young one becomes old. So the last `capacity` distinct units are always there, at most twice
/// as many are held, and no list is kept in order of use.
pub struct CachedEncoder {
    encoder: Box<dyn UnitEncoder>,
    capacity: usize,
    generations: Mutex<Generations>,
}

type Rows = HashMap<String, Arc<[f32]>>;

#[derive(Default)]
struct Generations {
    young: Rows,
    old: Rows,
}

impl CachedEncoder {
    /// Remembers at least the last `capacity` distinct units, at 4 D bytes each and their text; 0 remembers nothing
    /// between calls.
    pub fn new(encoder: Box<dyn UnitEncoder>, capacity: usize) -> Self {
        Self { encoder, capacity, generations: Mutex::default() }
    }
}

impl std::fmt::Debug for CachedEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachedEncoder").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl Generations {
    fn get(&mut self, unit: &str, capacity: usize) -> Option<Arc<[f32]>> {
        if let Some(row) = self.young.get(unit) {
            return Some(row.clone());
        }
        let (unit, row) = self.old.remove_entry(unit)?;
        self.put(unit, row.clone(), capacity);
        Some(row)
    }

    fn put(&mut self, unit: String, row: Arc<[f32]>, capacity: usize) {
        if self.young.len() >= capacity {
            self.old = mem::take(&mut self.young);
        }
        if capacity > 0 {
            self.young.insert(unit, row);
        }
    }
}

impl UnitEncoder for CachedEncoder {
    fn dim(&self) -> i64 {
        self.encoder.dim()
    }

    fn encode(&self, units: &[&str]) -> Result<Tensor> {
        // The encoder runs outside the lock; two threads may then encode one unit twice, which changes nothing.
        let lock = || self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known: HashMap<&str, Arc<[f32]>> = HashMap::new();
        let mut new: Vec<&str> = Vec::new();
        {
            let mut generations = lock();
            let mut asked = std::collections::HashSet::new();
            for &unit in units {
                if !asked.insert(unit) {
                    continue;
                }
                match generations.get(unit, self.capacity) {
                    Some(row) => drop(known.insert(unit, row)),
                    None => new.push(unit),
                }
            }
        }
        let width = self.dim();
        if !new.is_empty() {
            let rows = self.encoder.encode(&new)?;
            tavq_torch::check_shape("vectors of the unit encoder", &rows, &[new.len() as i64, width])?;
            let mut flat = vec![0f32; rows.numel()];
            rows.f_to_kind(Kind::Float)?.f_copy_data(&mut flat, rows.numel())?;
            let mut generations = lock();
            // A width of 0 would make no chunks; `check_shape` has compared it with real rows.
            for (&unit, row) in new.iter().zip(flat.chunks_exact((width as usize).max(1))) {
                let row: Arc<[f32]> = row.into();
                generations.put(unit.to_owned(), row.clone(), self.capacity);
                known.insert(unit, row);
            }
        }
        let mut flat = Vec::with_capacity(units.len() * width as usize);
        for unit in units {
            if let Some(row) = known.get(unit) {
                flat.extend_from_slice(row);
            }
        }
        Ok(Tensor::f_from_slice(&flat)?.f_view([units.len() as i64, width])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit_encoder_laws;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Toy(Arc<AtomicUsize>);

    impl UnitEncoder for Toy {
        fn dim(&self) -> i64 {
            2
        }
        fn encode(&self, units: &[&str]) -> Result<Tensor> {
            self.0.fetch_add(units.len(), Ordering::Relaxed);
            let row = |u: &&str| [u.len() as f32, u.bytes().map(f32::from).sum()];
            Ok(Tensor::from_slice(&units.iter().flat_map(row).collect::<Vec<_>>()).view([-1, 2]))
        }
    }

    fn cached(capacity: usize) -> (CachedEncoder, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        (CachedEncoder::new(Box::new(Toy(count.clone())), capacity), count)
    }

    #[test]
    fn the_laws_hold_at_any_capacity() {
        for capacity in [0, 1, 2, 100] {
            unit_encoder_laws(&cached(capacity).0).unwrap();
        }
    }

    #[test]
    fn a_known_unit_is_not_encoded_again() {
        let (encoder, count) = cached(100);
        let plain = Toy(Arc::default());
        for units in [&["a", "b", "a"][..], &["b", "c"], &["c", "a", "b"], &[]] {
            assert_eq!(encoder.encode(units).unwrap(), plain.encode(units).unwrap());
        }
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_last_units_are_kept_and_memory_is_bounded() {
        let (encoder, count) = cached(4);
        let names: Vec<String> = (0..50).map(|i| i.to_string()).collect();
        for name in &names {
            let _ = encoder.encode(&[name, "always"]).unwrap();
        }
        assert_eq!(count.load(Ordering::Relaxed), 51);
        for name in &names[47..] {
            let _ = encoder.encode(&[name]).unwrap();
        }
        assert_eq!(count.load(Ordering::Relaxed), 51);
        let held = encoder.generations.lock().unwrap();
        assert!(held.young.len() + held.old.len() <= 8);
    }
}

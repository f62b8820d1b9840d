//! Numbers that start on a cache line. The widest vectors fill one: read from anywhere else, each would take two.

use std::ops::{Deref, DerefMut};

use ndarray::{Array1, Array2, s};

const LINE: usize = 64;

/// A slice of zeros to begin with, of a length that stays.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    /// Longer than the slice by up to a line.
    room: Vec<T>,
    start: usize,
    length: usize,
}

impl<T: Copy + Default> Aligned<T> {
    pub(crate) fn new(length: usize) -> Self {
        let spare = LINE / size_of::<T>();
        let room = vec![T::default(); length + spare];
        let start = room.as_ptr().align_offset(LINE).min(spare);
        Self { room, start, length }
    }
}

impl<T> Aligned<T> {
    /// The slice as a matrix of rows of this length, where it lies.
    pub(crate) fn into_matrix(self, columns: usize) -> Option<Array2<T>> {
        let rows = self.length.checked_div(columns)?;
        let values = Array1::from_vec(self.room).slice_move(s![self.start..self.start + self.length]);
        values.into_shape_with_order((rows, columns)).ok()
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.room[self.start..self.start + self.length]
    }
}

impl<T> DerefMut for Aligned<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.room[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn starts_on_a_line<T: Copy + Default + PartialEq + std::fmt::Debug>() {
        for length in 0..100 {
            let mut found = Aligned::<T>::new(length);
            assert_eq!((found.as_ptr() as usize % LINE, found.len()), (0, length));
            assert!(found.iter_mut().all(|value| *value == T::default()));
        }
    }

    #[test]
    fn zeros_that_start_on_a_line() {
        starts_on_a_line::<f64>();
        starts_on_a_line::<f32>();
    }

    #[test]
    fn a_matrix_lies_where_the_slice_lay() {
        let mut values = Aligned::<f64>::new(6);
        values.copy_from_slice(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let start = values.as_ptr();
        let matrix = values.into_matrix(3).unwrap();
        assert_eq!((matrix.as_ptr(), &matrix), (start, &array![[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]));
        assert!(matrix.is_standard_layout());
        assert_eq!(Aligned::<f64>::new(5).into_matrix(3), None);
        assert_eq!(Aligned::<f64>::new(5).into_matrix(0), None);
    }
}

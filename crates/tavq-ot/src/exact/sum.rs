//! A sum that tells a negative number from rounding.

/// A sum in twice the precision of f64 (two-sum: Knuth 1969), with what bounds its own error.
#[derive(Default)]
pub(crate) struct Sum {
    high: f64,
    low: f64,
    magnitude: f64,
    terms: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, value: f64) {
        let high = self.high + value;
        let part = high - self.high;
        self.low += (self.high - (high - part)) + (value - part);
        self.high = high;
        self.magnitude += value.abs();
        self.terms += 1.0;
    }

    /// Whether the sum is below zero whatever its rounding.
    pub(crate) fn is_negative(&self) -> bool {
        self.high + self.low < -(self.terms * f64::EPSILON).powi(2) * self.magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_sees_what_rounding_hides_and_no_more() {
        let sum = |values: &[f64]| {
            let mut sum = Sum::default();
            values.iter().for_each(|&value| sum.add(value));
            sum
        };
        assert!(sum(&[1e20, -1.0, -1e20]).is_negative());
        assert!(!sum(&[1e20, 1.0, -1e20]).is_negative());
        assert!(!sum(&[0.1, 0.2, -0.2, -0.1]).is_negative());
        assert!(!sum(&[1e150, 3.0, -1e150, -3.0]).is_negative());
        assert!(!Sum::default().is_negative());
    }
}

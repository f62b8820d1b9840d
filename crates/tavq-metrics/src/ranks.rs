//! Where the right answer stands among the candidates of each query.

/// The standing of one query's right answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Standing {
    /// Candidates that cost strictly less.
    pub(crate) below: usize,
    /// Other candidates that cost exactly the same.
    pub(crate) tied: usize,
}

impl Standing {
    /// Of candidate `right` among `costs`; +inf ties with +inf.
    pub(crate) fn of(costs: impl Iterator<Item = f64> + Clone, right: f64) -> Self {
        let below = costs.clone().filter(|c| *c < right).count();
        // The right answer equals itself.
        let tied = costs.filter(|c| *c == right).count().saturating_sub(1);
        Self { below, tied }
    }

    /// Probability of standing among the first `k` when ties are broken at random.
    pub(crate) fn recall(self, k: usize) -> f64 {
        let places = k.saturating_sub(self.below) as f64;
        (places / (self.tied + 1) as f64).min(1.0)
    }

    /// Expected place, from 1, when ties are broken at random.
    pub(crate) fn rank(self) -> f64 {
        self.below as f64 + 1.0 + self.tied as f64 / 2.0
    }
}

/// The median, the mean of the two middle values for an even count; 0 for none.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[half],
        _ => (values[half - 1] + values[half]) / 2.0,
    }
}

//! From times to ratios to met or missed.

use serde_json::{Value, json};

use super::plan::{Case, Comparison, Contender, Work};
use crate::bench::{least, median};

/// What one contender needed in one case, over all rounds.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    pub(crate) contender: Contender,
    /// Of a per-iteration case: of the lower number of iterations, then of the higher.
    seconds: [Vec<f64>; 2],
    /// The last answer.
    pub(crate) answer: Value,
}

impl Timing {
    pub(crate) fn new(contender: Contender) -> Self {
        Self { contender, seconds: [Vec::new(), Vec::new()], answer: Value::Null }
    }

    /// Takes an answer; `part` is 1 for the higher number of iterations of a per-iteration case.
    pub(crate) fn add(&mut self, part: usize, answer: Value) {
        let seconds = answer["seconds"].as_array().into_iter().flatten().filter_map(Value::as_f64);
        self.seconds[part].extend(seconds);
        self.answer = answer;
    }

    /// Seconds spent so far.
    pub(crate) fn spent(&self) -> f64 {
        self.seconds.iter().flatten().sum()
    }

    /// Whether the answer is the one that was asked for.
    pub(crate) fn valid(&self) -> bool {
        let status = self.answer["status"].as_str().unwrap_or_default();
        !self.seconds[0].is_empty() && matches!(status, "converged" | "fixed" | "no tolerance")
    }

    /// Smallest and median seconds.
    pub(crate) fn seconds(&self, work: Work) -> Option<[f64; 2]> {
        if !self.valid() {
            return None;
        }
        let Some([low, high]) = work.counts(self.contender) else {
            return Some([least(&self.seconds[0])?, median(&self.seconds[0])?]);
        };
        let each =
            |of: fn(&[f64]) -> Option<f64>| Some((of(&self.seconds[1])? - of(&self.seconds[0])?) / (high - low) as f64);
        let found = [each(least)?, each(median)?];
        (found[0] > 0.0).then_some(found)
    }

    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        self.answer[key].as_f64()
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.answer[key].as_str().unwrap_or_default()
    }

    pub(crate) fn to_json(&self, work: Work) -> Value {
        let mut answer = self.answer.clone();
        answer["solver"] = json!(self.contender.label());
        answer["seconds"] = json!(self.seconds);
        answer["min"] = json!(self.seconds(work).map(|found| found[0]));
        answer["median"] = json!(self.seconds(work).map(|found| found[1]));
        answer
    }
}

/// One line of a table of comparisons.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) ours: Option<(Contender, f64)>,
    pub(crate) peer: Contender,
    pub(crate) seconds: Option<f64>,
    pub(crate) ratio: Option<f64>,
    /// The bar, where this peer is the one that it is for, and whether it is met.
    pub(crate) bar: Option<(f64, bool)>,
}

/// A line for each peer. The bar stands in that of the fastest peer, and is missed when ours has no valid time.
pub(crate) fn rows(comparison: &Comparison, work: Work, timings: &[Timing]) -> Vec<Row> {
    let time = |contender: &Contender| {
        let timing = timings.iter().find(|timing| timing.contender == *contender)?;
        Some((*contender, timing.seconds(work)?[0]))
    };
    let faster = |a: &(Contender, f64), b: &(Contender, f64)| a.1.total_cmp(&b.1);
    let ours = comparison.ours.iter().filter_map(time).min_by(faster);
    let fastest = comparison.peers.iter().filter_map(time).min_by(faster);
    let row = |peer: &Contender| {
        let seconds = time(peer).map(|(_, seconds)| seconds);
        let ratio = ours.zip(seconds).map(|((_, ours), theirs)| theirs / ours);
        let held = fastest.is_some_and(|(contender, _)| contender == *peer);
        let bar = comparison.bar.filter(|_| held).map(|bar| (bar, ratio.is_some_and(|ratio| ratio >= bar)));
        Row { ours, peer: *peer, seconds, ratio, bar }
    };
    comparison.peers.iter().map(row).collect()
}

/// Largest relative difference between the values that the contenders of a case found.
pub(crate) fn spread(timings: &[Timing]) -> f64 {
    let values: Vec<f64> = timings.iter().filter(|t| t.valid()).filter_map(|t| t.number("value")).collect();
    let (low, high) = (least(&values).unwrap_or(0.0), values.iter().copied().fold(0.0, f64::max));
    if high > 0.0 { (high - low) / high } else { 0.0 }
}

/// Whether automatic acceleration takes at most a tenth longer than none, for each form that has both times.
pub(crate) fn auto_holds(case: &Case, timings: &[Timing], forms: &[[&str; 4]]) -> Vec<(String, bool)> {
    let time = |solver: &str| {
        let timing = timings.iter().find(|timing| timing.contender.solver == solver)?;
        Some(timing.seconds(case.work)?[0])
    };
    let check = |[plain, auto, ..]: &[&str; 4]| {
        let (plain_time, auto_time) = (time(plain)?, time(auto)?);
        let form = plain.split('+').next().unwrap_or(plain);
        Some((format!("{} {form}: {:.2}x plain", case.name, auto_time / plain_time), auto_time <= 1.1 * plain_time))
    };
    forms.iter().filter_map(check).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::ot::plan::Who;

    const OURS: Contender = Contender { who: Who::Ours, solver: "log+auto" };
    const SLOW: Contender = Contender { who: Who::Pot, solver: "sinkhorn_log" };
    const FAST: Contender = Contender { who: Who::Ott, solver: "lse" };

    pub(crate) fn timing(contender: Contender, seconds: &[f64], status: &str) -> Timing {
        let mut timing = Timing::new(contender);
        timing.add(0, json!({ "seconds": seconds, "status": status, "value": 1.0 }));
        timing
    }

    #[test]
    fn the_bar_is_for_the_fastest_valid_peer() {
        let comparison = Comparison { ours: vec![OURS], peers: vec![SLOW, FAST], bar: Some(3.0) };
        let work = Work::Tolerance(1e-6);
        let mut timings = vec![
            timing(OURS, &[2.0, 1.0, 9.0], "converged"),
            timing(SLOW, &[20.0], "converged"),
            timing(FAST, &[2.9], "converged"),
        ];
        let found = rows(&comparison, work, &timings);
        assert_eq!((found[0].ratio, found[0].bar), (Some(20.0), None));
        assert_eq!((found[1].ratio, found[1].bar), (Some(2.9), Some((3.0, false))));
        timings[2] = timing(FAST, &[2.9], "iteration_limit");
        let found = rows(&comparison, work, &timings);
        assert_eq!((found[0].bar, found[1].seconds), (Some((3.0, true)), None));
        timings[0] = timing(OURS, &[1.0], "stalled");
        assert_eq!(rows(&comparison, work, &timings)[0].bar, Some((3.0, false)));
    }

    #[test]
    fn an_iteration_is_a_difference_of_the_smallest_times() {
        let mut timing = Timing::new(FAST);
        timing.add(0, json!({ "seconds": [1.5, 1.0, 2.0], "status": "fixed" }));
        timing.add(1, json!({ "seconds": [5.0, 3.0, 4.0], "status": "fixed" }));
        assert_eq!(timing.seconds(Work::Iteration(10, 20)), Some([0.2, 0.25]));
        assert_eq!(timing.spent(), 16.5);
        timing.add(1, json!({ "status": "failed", "note": "why" }));
        assert_eq!((timing.seconds(Work::Iteration(10, 20)), timing.text("note")), (None, "why"));
    }

    #[test]
    fn values_that_differ_are_seen() {
        let mut timings = vec![timing(OURS, &[1.0], "converged"), timing(FAST, &[1.0], "converged")];
        assert_eq!(spread(&timings), 0.0);
        timings[1].answer["value"] = json!(1.25);
        assert_eq!(spread(&timings), 0.2);
    }

    #[test]
    fn auto_may_not_lose_to_plain() {
        let case = &crate::bench::ot::plan::groups(true)[1].cases[0];
        let plain = Contender { who: Who::Ours, solver: "log+none" };
        let timings = [timing(OURS, &[1.2], "converged"), timing(plain, &[1.0], "converged")];
        let found = auto_holds(case, &timings, &crate::bench::ot::plan::FORMS);
        assert_eq!(found, [("n = 256 log: 1.20x plain".to_owned(), false)]);
    }
}

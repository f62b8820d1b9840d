//! From times and bytes to ratios to a page of results, in Markdown.

use std::fmt::Write;

use anyhow::Result;
use serde_json::Value;

use super::plan::{Case, Group};
use super::session::{Session, TOLERANCE, Timing};
use crate::bench::page::{table, time, verdict};

pub(crate) struct Facts<'a> {
    pub(crate) command: String,
    pub(crate) machine: String,
    pub(crate) versions: String,
    pub(crate) gpu: bool,
    pub(crate) measured: &'a [Measured],
}

/// A case and what its contenders needed.
type Timed = (Case, Vec<Timing>);

/// A mode with what was measured in it.
pub(crate) struct Measured {
    mode: String,
    /// Operations a second of a large product and of a convolution.
    limits: Value,
    groups: Vec<(Group, Vec<Timed>)>,
}

impl Measured {
    pub(crate) fn of(session: &mut Session<'_>, mode: String, groups: &[Group]) -> Result<Self> {
        let limits = session.limits()?;
        let mut all = Vec::new();
        for group in groups {
            let mut cases = Vec::new();
            for case in &group.cases {
                if !session.takes(case) {
                    continue;
                }
                eprintln!("{mode}: {}: {}", group.title, case.name);
                cases.push((case.clone(), session.run(case)?));
            }
            all.push((group.clone(), cases));
        }
        Ok(Self { mode, limits, groups: all })
    }

    /// The better of the two rates that the machine allows.
    fn peak(&self) -> Option<f64> {
        self.limits["product"].as_f64().into_iter().chain(self.limits["convolution"].as_f64()).reduce(f64::max)
    }
}

/// A line of a table, and what became of its bar.
struct Line {
    cells: Vec<String>,
    met: Option<bool>,
}

pub(crate) fn page(facts: &Facts<'_>) -> String {
    let (mut tables, mut verdicts) = (String::new(), Vec::new());
    for measured in facts.measured {
        let _ = write!(tables, "\n## {}\n\n{}\n", measured.mode, limits(measured));
        for (group, cases) in &measured.groups {
            let _ = write!(tables, "\n### {}: {}\n\n{}\n\n", measured.mode, group.title, group.about);
            let lines: Vec<Line> =
                cases.iter().flat_map(|(case, timings)| times(case, timings, measured.peak())).collect();
            let held: Vec<Line> = cases.iter().flat_map(|(case, timings)| bytes(case, timings)).collect();
            verdicts.extend(lines.iter().chain(&held).filter_map(|line| line.met));
            let heads = ["work", "tavq", "GFLOP/s", "of the peak", "beside", "", "difference", "ratio", "bar", ""];
            tables += &table(&heads, lines.into_iter().map(|line| line.cells));
            if !held.is_empty() {
                let heads = ["memory of", "tavq", "whole process", "beside", "", "whole process", "ratio", "bar", ""];
                let _ = write!(tables, "\n{}", table(&heads, held.into_iter().map(|line| line.cells)));
            }
        }
    }
    let met = verdicts.iter().filter(|met| **met).count();
    let gpu = if facts.gpu {
        ""
    } else {
        " The check on a GPU (`cargo xtask bench codec --device cuda`: f32 and bf16, batch 16, beside eager PyTorch and \
         torch.compile) is not part of this page."
    };
    format!(
        "# The codec and the quantizers beside other libraries\n\nWritten by `{}`.\n\n* Machine: {}\n* Versions: {}\n\n\
         All load the same weights and vectors, and nothing is timed before the results agree to {TOLERANCE:e} (gradients and \
         distances as a share of the largest). Contenders take turns in the same run; times are medians, with the first run \
         excluded. A ratio says how many times as long, or as much memory, the other takes; a bar is what it must be at least, \
         for the fastest peer. Operations are those of the plain network; memory is the peak beyond what was resident before \
         the run, in a process of its own. tavq keeps freed memory (`tavq_torch::keep_freed_memory`), as the `tavq` command \
         does.{gpu} **{met} of {} bars are met.**\n{tables}",
        facts.command,
        facts.machine,
        facts.versions,
        verdicts.len()
    )
}

fn limits(measured: &Measured) -> String {
    let rate = |key: &str| measured.limits[key].as_f64().map_or("–".into(), |rate| format!("{:.1}", rate / 1e9));
    format!(
        "Limits: a product of two 2048 x 2048 matrices reaches {} GFLOP/s, a 3x3 convolution of 128 channels at 256 px {} GFLOP/s; \
         the larger counts as the peak.",
        rate("product"),
        rate("convolution")
    )
}

fn times(case: &Case, timings: &[Timing], peak: Option<f64>) -> Vec<Line> {
    let Some((ours, peers)) = timings.split_first() else { return Vec::new() };
    let said = |timing: &Timing| {
        let Some(seconds) = timing.median() else { return "–".to_owned() };
        case.images
            .map_or_else(|| time(seconds), |images| format!("{:.3} images/s ({})", images / seconds, time(seconds)))
    };
    let rate = ours.flops.zip(ours.median()).map(|(flops, seconds)| flops / seconds);
    let share = rate.zip(peak).map_or("–".into(), |(rate, peak)| format!("{:.0} %", 100.0 * rate / peak));
    let own = [case.name.clone(), said(ours), rate.map_or("–".into(), |rate| format!("{:.1}", rate / 1e9)), share];
    let fastest = peers.iter().filter_map(Timing::median).min_by(f64::total_cmp);
    let line = |peer: &Timing| {
        let ratio = ours.median().zip(peer.median()).map(|(ours, theirs)| theirs / ours);
        let bar = case.bar.time.filter(|_| fastest.is_some() && peer.median() == fastest);
        finish(&own, [peer.contender.label(), said(peer), gap(peer)], ratio, bar)
    };
    if peers.is_empty() {
        return vec![finish(&own, ["–", "–", "–"].map(str::to_owned), None, None)];
    }
    peers.iter().map(line).collect()
}

/// The largest of the differences to ours.
fn gap(timing: &Timing) -> String {
    let gaps = timing.gaps.as_object().into_iter().flatten().filter_map(|(_, gap)| gap.as_f64());
    gaps.reduce(f64::max).map_or("–".to_owned(), |gap| format!("{gap:.0e}"))
}

fn bytes(case: &Case, timings: &[Timing]) -> Vec<Line> {
    let Some((ours, peers)) = timings.split_first() else { return Vec::new() };
    let said = |timing: &Timing| {
        let Some([before, peak]) = timing.memory else { return ["–".to_owned(), "–".to_owned()] };
        [peak - before, peak].map(|bytes| format!("{:.0} MB", bytes / 1e6))
    };
    if ours.memory.is_none() {
        return Vec::new();
    }
    let [extra, whole] = said(ours);
    let own = [case.name.clone(), extra, whole];
    let leanest = peers.iter().filter_map(Timing::extra).min_by(f64::total_cmp);
    let line = |peer: &Timing| {
        let ratio = ours.extra().zip(peer.extra()).map(|(ours, theirs)| theirs / ours);
        let bar = case.bar.memory.filter(|_| leanest.is_some() && peer.extra() == leanest);
        let [extra, whole] = said(peer);
        finish(&own, [peer.contender.label(), extra, whole], ratio, bar)
    };
    if peers.is_empty() {
        return vec![finish(&own, ["–", "–", "–"].map(str::to_owned), None, None)];
    }
    peers.iter().map(line).collect()
}

fn finish<const N: usize>(own: &[String], peer: [String; N], ratio: Option<f64>, bar: Option<f64>) -> Line {
    let met = bar.map(|bar| ratio.is_some_and(|ratio| ratio >= bar));
    let mut cells = own.to_vec();
    cells.extend(peer);
    cells.push(ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")));
    cells.push(bar.map_or("–".to_owned(), |bar| bar.to_string()));
    cells.push(verdict(met).to_owned());
    Line { cells, met }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{OURS, groups};
    use serde_json::json;

    use super::*;

    fn timing(case: &Case, which: usize, seconds: &[f64], extra: f64) -> Timing {
        let contender = if which == 0 { OURS } else { case.peers[which - 1] };
        let flops = (which == 0).then_some(1e9);
        Timing {
            contender,
            seconds: seconds.into(),
            memory: Some([1e6, 1e6 + extra]),
            gaps: json!({ "a": 1e-7, "b": 2e-5 }),
            flops,
        }
    }

    #[test]
    fn bars_are_for_the_fastest_and_the_leanest() {
        let case = groups(true)[0].cases[0].clone();
        let found = times(
            &case,
            &[timing(&case, 0, &[1.0, 9.0, 1.1], 0.0), timing(&case, 1, &[1.2], 0.0), timing(&case, 2, &[1.0], 0.0)],
            Some(2e9),
        );
        assert_eq!(found.iter().map(|line| line.met).collect::<Vec<_>>(), [None, Some(false)]);
        assert_eq!((&*found[0].cells[2], &*found[0].cells[3], &*found[0].cells[7]), ("0.9", "45 %", "1.09"));
        assert_eq!(found[0].cells[6], "2e-5");
        let step = groups(true)[1].cases[0].clone();
        let timings = [timing(&step, 0, &[1.0], 5e6), timing(&step, 1, &[5.0], 60e6)];
        assert_eq!(times(&step, &timings, None)[0].met, Some(true));
        let held = bytes(&step, &timings);
        assert_eq!((held[0].met, &*held[0].cells[6]), (Some(true), "12.00"));
        let lean = [timing(&step, 0, &[1.0], 5e6), timing(&step, 1, &[4.0], 40e6)];
        assert_eq!((times(&step, &lean, None)[0].met, bytes(&step, &lean)[0].met), (Some(false), Some(false)));
    }

    #[test]
    fn a_case_without_peers_has_a_line_and_no_bar() {
        let case = groups(false)[2].cases.last().unwrap().clone();
        let alone = [timing(&case, 0, &[2.0], 1e6)];
        let (found, held) = (times(&case, &alone, None), bytes(&case, &alone));
        assert_eq!((found.len(), found[0].met, &*found[0].cells[1]), (1, None, "2.00 s"));
        assert_eq!((held.len(), &*held[0].cells[1]), (1, "1 MB"));
    }
}

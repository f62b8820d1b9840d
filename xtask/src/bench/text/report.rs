//! The page of results, in Markdown.

use std::fmt::Write;

use super::plan::Case;
use super::{Long, Measured, Timing};
use crate::bench::page::{table, time, verdict};

pub(crate) struct Facts<'a> {
    pub(crate) command: String,
    pub(crate) machine: String,
    pub(crate) versions: String,
    pub(crate) texts: String,
    pub(crate) measured: &'a [Measured],
    pub(crate) longs: &'a [Long],
}

/// A line of a table, and what became of the case's bar.
struct Line {
    cells: Vec<String>,
    met: Option<bool>,
}

pub(crate) fn page(facts: &Facts<'_>) -> String {
    let mut tables = String::new();
    let mut verdicts = Vec::new();
    for Measured { mode, cases } in facts.measured {
        let lines: Vec<Line> =
            cases.iter().flat_map(|(case, timings)| lines(case, timings, mode.threads == 1)).collect();
        verdicts.extend(lines.iter().filter_map(|line| line.met));
        let heads = ["work", "", "speed", "beside", "speed", "ratio", "bar", ""];
        let _ = write!(tables, "\n## {}\n\n{}", mode.name(), table(&heads, lines.into_iter().map(|line| line.cells)));
    }
    let met = verdicts.iter().filter(|met| **met).count();
    format!(
        "# Splitting and encoding beside other libraries\n\nWritten by `{}`.\n\n* Texts: {}\n* Machine: {}\n* Versions: {}\n\n\
         All work on the same texts in the same run and take turns; speeds are of the smallest times, with loading and warming \
         up excluded. A ratio says how many times as fast ours is; a bar is for the fastest peer, or a speed of ours on one \
         core. No package ships weights for spaCy: its tagger and parser have the shape of en_core_web_sm and random weights. \
         The encoder is all-MiniLM-L6-v2 in f32. **{met} of {} bars are met.**\n{tables}{}",
        facts.command,
        facts.texts,
        facts.machine,
        facts.versions,
        verdicts.len(),
        longs(facts.longs)
    )
}

fn lines(case: &Case, timings: &[Timing], one_core: bool) -> Vec<Line> {
    let Some((ours, peers)) = timings.split_first() else { return Vec::new() };
    let speed = |timing: &Timing| match (timing.answer["work"].as_f64(), timing.least()) {
        (Some(work), Some(seconds)) => case.unit.speed(work, seconds),
        _ => format!("failed ({})", timing.answer["note"].as_str().unwrap_or("no answer").replace('|', "/")),
    };
    let fastest = peers.iter().filter_map(Timing::rate).fold(0.0, f64::max);
    let line = |peer: &Timing| {
        let ratio = ours.rate().zip(peer.rate()).map(|(ours, theirs)| ours / theirs);
        let bar = case.bar.filter(|_| peer.rate() == Some(fastest));
        let met = bar.map(|bar| ratio.is_some_and(|ratio| ratio >= bar));
        Line {
            cells: vec![
                case.name.to_owned(),
                ours.contender.label.to_owned(),
                speed(ours),
                peer.contender.label.to_owned(),
                speed(peer),
                ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")),
                bar.map_or("–".to_owned(), |bar| bar.to_string()),
                verdict(met).to_owned(),
            ],
            met,
        }
    };
    let floor = case.floor.filter(|_| one_core).map(|floor| {
        let met = Some(ours.rate().is_some_and(|rate| rate >= floor));
        let mut cells = vec![case.name.to_owned(), ours.contender.label.to_owned(), speed(ours)];
        cells.extend(["–", "–", "–"].map(str::to_owned));
        cells.extend([case.unit.speed(floor, 1.0), verdict(met).to_owned()]);
        Line { cells, met }
    });
    floor.into_iter().chain(peers.iter().map(line)).collect()
}

/// Time and memory of long texts.
fn longs(longs: &[Long]) -> String {
    let lines = longs.iter().map(|Long { megabytes, answer }| {
        let seconds = answer["seconds"][0].as_f64().unwrap_or(f64::NAN);
        let (bytes, memory) = (answer["work"].as_f64().unwrap_or(f64::NAN), answer["memory_mb"].as_f64());
        vec![
            format!("{megabytes} MB"),
            time(seconds),
            format!("{:.2} MB/s", bytes / seconds / 1e6),
            memory.map_or("–".to_owned(), |memory| format!("{memory:.0} MB")),
            memory.map_or("–".to_owned(), |memory| format!("{:.1}", memory * 1e6 / bytes)),
        ]
    });
    let heads = ["one text of", "time", "speed", "memory beyond the text", "bytes a byte of text"];
    format!(
        "\n## Long texts\n\nThe texts again and again as one, split by one thread; the whole tree is in memory.\n\n{}",
        table(&heads, lines)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::text::plan::splitting;

    fn timing(case: &Case, which: usize, seconds: f64, work: f64) -> Timing {
        let contender = if which == 0 { case.ours } else { case.peers[which - 1] };
        Timing { contender, seconds: vec![seconds, 2.0 * seconds], answer: json!({ "status": "done", "work": work }) }
    }

    #[test]
    fn bars_are_for_the_fastest_peer_and_for_the_floor() {
        let case = &Case { bar: Some(100.0), ..splitting().swap_remove(0) };
        let found = lines(case, &[timing(case, 0, 1.0, 6e6), timing(case, 1, 10.0, 1e6)], true);
        assert_eq!(found.iter().map(|line| line.met).collect::<Vec<_>>(), [Some(true), Some(false)]);
        assert_eq!(found[1].cells[5], "60.00");
        let mut failed = timing(case, 1, 1.0, 1.0);
        failed.answer = json!({ "status": "failed", "note": "why" });
        let found = lines(case, &[timing(case, 0, 1.0, 4e6), failed], true);
        assert_eq!(found.iter().map(|line| line.met).collect::<Vec<_>>(), [Some(false), None]);
        assert!(found[1].cells[4].contains("why"));
    }
}

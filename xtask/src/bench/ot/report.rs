//! The page of results, in Markdown.

use std::fmt::Write;

use serde_json::Value;

use super::plan::{Case, Contender, FORMS, Group, Work};
use super::verdict::{Row, Timing, auto_holds, rows, spread};
use crate::bench::page::{table, time};

/// All timings of one mode, in the order of the groups and their cases.
pub(crate) struct Measured {
    pub(crate) mode: String,
    pub(crate) groups: Vec<Vec<Vec<Timing>>>,
}

/// What is said above the tables.
pub(crate) struct Facts {
    pub(crate) machine: String,
    pub(crate) versions: String,
    pub(crate) command: String,
    pub(crate) limits: Value,
}

pub(crate) fn page(facts: &Facts, groups: &[Group], measured: &[Measured]) -> String {
    let mut out = format!(
        "# tavq-ot beside other libraries\n\nWritten by `{}`.\n\n* Machine: {}\n* Versions: {}\n\n\
         All solve the same inputs in the same run and take turns. Times are the smallest of all turns, compilation, tuning and \
         warming up excluded; errors are measured on what came out. A ratio says how many times as long the other library takes; \
         a bar is what it must be at least. {}\n",
        facts.command,
        facts.machine,
        facts.versions,
        tally(groups, measured)
    );
    for (g, group) in groups.iter().enumerate() {
        let _ = write!(out, "\n## {}\n\n{}\n", group.title, group.about);
        for mode in measured {
            let timings = &mode.groups[g];
            let _ = write!(out, "\n### {}: {}\n\n{}", mode.mode, group.title, comparisons(group, timings));
        }
        if let Some(mode) = measured.first() {
            out.push_str(&extras(group, &mode.groups[g], &facts.limits));
        }
    }
    out
}

/// How many bars are met, and the names of the missed.
fn tally(groups: &[Group], measured: &[Measured]) -> String {
    let (mut met, mut missed) = (0, Vec::new());
    for mode in measured {
        for (group, timings) in groups.iter().zip(&mode.groups) {
            for (case, timings) in group.cases.iter().zip(timings) {
                for row in case.comparisons.iter().flat_map(|c| rows(c, case.work, timings)) {
                    match row.bar {
                        Some((_, true)) => met += 1,
                        Some((bar, false)) => {
                            let ratio = row.ratio.map_or("no time".to_owned(), |ratio| format!("{ratio:.2}"));
                            missed.push(format!(
                                "{}, {}, {}, {}: {ratio} of {bar}",
                                mode.mode,
                                group.name,
                                case.name,
                                row.peer.label()
                            ));
                        }
                        None => {}
                    }
                }
            }
        }
    }
    let all = met + missed.len();
    let list: String = missed.iter().map(|line| format!("\n* missed: {line}")).collect();
    format!("**{met} of {all} bars are met.**{}{list}", if list.is_empty() { "" } else { "\n" })
}

fn comparisons(group: &Group, timings: &[Vec<Timing>]) -> String {
    let lines = group.cases.iter().zip(timings).flat_map(|(case, timings)| {
        let rows = case.comparisons.iter().flat_map(|comparison| rows(comparison, case.work, timings));
        rows.map(|row| line(case, &row, timings)).collect::<Vec<_>>()
    });
    table(&["case", "tavq-ot", "time", "peer", "time", "ratio", "bar", ""], lines)
}

fn line(case: &Case, row: &Row, timings: &[Timing]) -> Vec<String> {
    let none = || "–".to_owned();
    let find = |contender: Contender| timings.iter().find(|timing| timing.contender == contender);
    let (ours, our_time) = match row.ours {
        Some((contender, seconds)) => {
            (contender.solver.replace('+', " "), time(seconds) + &detail(find(contender), case))
        }
        None => (none(), none()),
    };
    let theirs = find(row.peer);
    let their_time = match (row.seconds, theirs) {
        (Some(seconds), theirs) => time(seconds) + &detail(theirs, case),
        (None, Some(theirs)) => format!("{} ({})", theirs.text("status"), reason(theirs)),
        (None, None) => "not asked".to_owned(),
    };
    let mut peer = row.peer.label();
    if let Some(way) = theirs.map(|theirs| theirs.text("note")).filter(|way| !way.is_empty() && row.seconds.is_some()) {
        peer = peer.replace("tuned", way);
    }
    let bar = row.bar.map_or_else(none, |(bar, _)| format!("{bar}"));
    let verdict = row.bar.map_or("", |(_, met)| if met { "met" } else { "**missed**" });
    let ratio = row.ratio.map_or_else(none, |ratio| format!("{ratio:.2}"));
    vec![case.name.clone(), ours, our_time, peer, their_time, ratio, bar, verdict.to_owned()]
}

fn reason(timing: &Timing) -> String {
    match timing.text("note") {
        "" => format!("error {:.1e}", timing.number("error").unwrap_or(f64::NAN)),
        note => note.replace('|', "/"),
    }
}

/// Iterations and error, where they tell something.
fn detail(timing: Option<&Timing>, case: &Case) -> String {
    let (Some(timing), Work::Tolerance(_)) = (timing, case.work) else { return String::new() };
    let error = timing.number("error").map(|error| format!("{error:.1e}"));
    let iterations = timing.number("iterations").filter(|&count| count > 0.0).map(|count| format!("{count} it."));
    let parts: Vec<String> = [iterations, error].into_iter().flatten().collect();
    format!(" ({})", parts.join(", "))
}

/// What one mode tells beyond the comparisons.
fn extras(group: &Group, timings: &[Vec<Timing>], limits: &Value) -> String {
    match group.name {
        "iteration" => bounds(group, timings, limits),
        "sharp" | "blurred" => variants(group, timings),
        "batch" => variants(group, timings),
        "exact" => {
            let worst = timings.iter().map(|timings| spread(timings)).fold(0.0, f64::max);
            let verdict = if worst <= 1e-9 { "as they must" } else { "**more than the 1e-9 allowed**" };
            format!("\nThe values of all who solved a case differ by at most {worst:.1e}, {verdict}.\n")
        }
        "points" => memory(group, timings),
        _ => String::new(),
    }
}

/// All of ours, whether compared or not.
fn variants(group: &Group, timings: &[Vec<Timing>]) -> String {
    let mut lines = Vec::new();
    let mut checks = Vec::new();
    for (case, timings) in group.cases.iter().zip(timings) {
        for timing in timings.iter().filter(|timing| timing.contender.who == super::plan::Who::Ours) {
            let seconds = timing.seconds(case.work);
            let cell = |k: usize| seconds.map_or("–".to_owned(), |seconds| time(seconds[k]));
            let number = |key: &str| timing.number(key).unwrap_or(f64::NAN);
            let solver = timing.contender.solver.replace('+', " ");
            let error = format!("{:.1e}", number("error"));
            let status = timing.text("status").replace('_', " ");
            lines.push(vec![
                case.name.clone(),
                solver,
                cell(0),
                cell(1),
                number("iterations").to_string(),
                error,
                status,
            ]);
        }
        checks.extend(auto_holds(case, timings, &FORMS));
    }
    let heads = ["case", "tavq-ot, one core", "smallest", "median", "iterations", "error", "status"];
    let mut out = format!("\n{}", table(&heads, lines));
    if !checks.is_empty() {
        let said: Vec<String> = checks.iter().map(|(text, _)| text.clone()).collect();
        let verdict = if checks.iter().all(|(_, holds)| *holds) { "met" } else { "**missed**" };
        let _ = write!(
            out,
            "\nThe automatic choice may take at most 1.1 times as long as plain: {verdict} ({}).\n",
            said.join(", ")
        );
    }
    out
}

/// How near an iteration comes to what the machine allows.
fn bounds(group: &Group, timings: &[Vec<Timing>], limits: &Value) -> String {
    let limit = |key: &str| limits[key].as_f64().unwrap_or(f64::NAN);
    let mut lines = Vec::new();
    for (case, timings) in group.cases.iter().zip(timings) {
        let n: f64 = case.input.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(f64::NAN);
        let entries = n * n;
        let bandwidth = limit(if n > 2000.0 { "read_4096" } else { "read_1024" });
        for (solver, bytes, work, made_of) in [
            ("log+none", 8.0, limit("exp_f64"), "1 exp"),
            ("log+f32+none", 4.0, limit("exp_f32"), "1 exp"),
            ("scaling+none", 8.0, 4.0 / limit("flops"), "4 flops"),
            ("scaling+f32+none", 4.0, 2.0 / limit("flops"), "4 flops"),
        ] {
            let timing = timings.iter().find(|timing| timing.contender.solver == solver);
            let Some([found, _]) = timing.and_then(|timing| timing.seconds(case.work)) else { continue };
            let (memory, compute) = (bytes * entries / bandwidth, work * entries);
            let least = memory.max(compute);
            lines.push(vec![
                case.name.clone(),
                solver.replace('+', " "),
                format!("{bytes} B: {}", time(memory)),
                format!("{made_of}: {}", time(compute)),
                time(found),
                format!("{:.2}", found / least),
            ]);
        }
    }
    let heads = ["case", "tavq-ot", "reading, an entry", "computing, an entry", "measured", "times the larger limit"];
    format!(
        "\nLimits, one core ({}): reads {:.1} GB/s at 8 MB and {:.1} GB/s at 134 MB, triad {:.1} GB/s at 134 MB an array; one exp \
         in {:.3} ns (f64), {:.3} ns (f32); {:.1} Gflop/s (f64). An iteration reads each entry once.\n\n{}",
        limits["vectors"].as_str().unwrap_or("?"),
        limit("read_1024") / 1e9,
        limit("read_4096") / 1e9,
        limit("triad_4096") / 1e9,
        limit("exp_f64") * 1e9,
        limit("exp_f32") * 1e9,
        limit("flops") / 1e9,
        table(&heads, lines)
    )
}

fn memory(group: &Group, timings: &[Vec<Timing>]) -> String {
    let mut out = String::new();
    for (case, timings) in group.cases.iter().zip(timings) {
        if let Some(peak) = timings.iter().filter_map(|timing| timing.number("peak_mb")).next_back() {
            let verdict = if peak < 100.0 { "met" } else { "**missed**" };
            let _ = write!(
                out,
                "\n{}: the process of tavq-ot never had more than {peak:.0} MB; bar 100 MB: {verdict}.\n",
                case.name
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::ot::plan::{Who, groups};
    use crate::bench::ot::verdict::tests::timing;

    #[test]
    fn a_page_names_what_is_missed_and_why_something_did_not_run() {
        let group = groups(true).swap_remove(1);
        let peer = |solver, who| Contender { who, solver };
        let timings = vec![
            timing(peer("log+auto", Who::Ours), &[1.0], "converged"),
            timing(peer("sinkhorn", Who::Pot), &[2.0], "converged"),
            timing(peer("sinkhorn_log", Who::Pot), &[], "not run"),
        ];
        let measured = [Measured { mode: "One core".into(), groups: vec![vec![timings]] }];
        let facts = Facts { machine: "m".into(), versions: "v".into(), command: "c".into(), limits: Value::Null };
        let text = page(&facts, &[group], &measured);
        assert!(
            text.contains("**0 of 1 bars are met.**\n\n* missed: One core, sharp, n = 256, POT sinkhorn: 2.00 of 3"),
            "{text}"
        );
        assert!(
            text.contains("| POT sinkhorn | 2.00 s (NaN it.") || text.contains("| POT sinkhorn | 2.00 s ("),
            "{text}"
        );
        assert!(text.contains("| 2.00 | 3 | **missed** |"), "{text}");
        assert!(text.contains("| POT sinkhorn_log | not run"), "{text}");
        let columns = |line: &str| line.matches(" | ").count();
        let lines: Vec<&str> =
            text.lines().filter(|line| line.starts_with("| n = 256 | log auto | 1.00 s (")).collect();
        assert!(lines.iter().all(|line| columns(line) == 7), "{lines:?}");
    }
}

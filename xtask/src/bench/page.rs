//! Parts of the pages of results.

/// A table in Markdown.
pub(crate) fn table(heads: &[&str], lines: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let mut out = line(&heads) + &line(&vec!["---".to_owned(); heads.len()]);
    out.extend(lines.into_iter().map(|cells| line(&cells)));
    out
}

/// Seconds with three digits and a fitting unit.
pub(crate) fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

/// What became of a bar.
pub(crate) fn verdict(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        assert_eq!([12.34, 0.1234, 1.234e-3, 9e-7].map(time), ["12.3 s", "123 ms", "1.23 ms", "0.90 µs"]);
    }
}

//! The fence around the members' manifests: each dependency is declared once, in the root, and the root's lints hold everywhere.
//!
//! A line scanner that knows the few shapes in use and refuses every other: what it does not understand is a violation,
//! so it cannot be evaded by writing TOML in another way.

/// What a member's manifest breaks, with line numbers.
pub(crate) fn violations(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut section = Section::Other;
    let mut lints = false;
    for (at, line) in text.lines().enumerate() {
        let line = without_comment(line);
        if line.is_empty() {
            continue;
        }
        if line.starts_with('[') {
            section = Section::of(line);
            if let Section::Refused = section {
                found.push((at + 1, format!("write dependencies as `name.workspace = true`, not as {line}")));
            }
            continue;
        }
        match section {
            Section::Dependencies if !is_inherited(line) => {
                found.push((at + 1, format!("a dependency that does not come from [workspace.dependencies]: {line}")));
            }
            Section::Lints => lints |= line.replace(' ', "") == "workspace=true",
            _ => {}
        }
    }
    if !lints {
        found.push((text.lines().count().max(1), "[lints] workspace = true is missing".to_owned()));
    }
    found
}

#[derive(Clone, Copy)]
enum Section {
    /// `[dependencies]` and its kin, also below `[target.*]`.
    Dependencies,
    Lints,
    /// `[dependencies.name]`: a dependency spread over lines.
    Refused,
    Other,
}

impl Section {
    fn of(header: &str) -> Self {
        let name = header.trim_matches(['[', ']']).replace([' ', '"', '\''], "");
        let is_table = |part: &str| ["dependencies", "dev-dependencies", "build-dependencies"].contains(&part);
        if name == "lints" {
            Self::Lints
        } else if name.rsplit('.').next().is_some_and(is_table) {
            Self::Dependencies
        } else if name.split('.').any(is_table) {
            Self::Refused
        } else {
            Self::Other
        }
    }
}

/// `name.workspace = true` or `name = { workspace = true, features = [...], optional = ... }`, on one line.
fn is_inherited(line: &str) -> bool {
    let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    let Some((name, value)) = line.split_once('=') else { return false };
    if name.ends_with(".workspace") {
        return value == "true";
    }
    let Some(table) = value.strip_prefix('{').and_then(|value| value.strip_suffix('}')) else { return false };
    let own = ["version=", "path=", "git=", "registry=", "package="];
    let mut keys = table.split(',');
    keys.clone().any(|key| key == "workspace=true") && !keys.any(|key| own.iter().any(|own| key.starts_with(own)))
}

/// The line without a comment. No string in these tables holds a `#`; one that did would be refused, not passed.
fn without_comment(line: &str) -> &str {
    line.split_once('#').map_or(line, |(line, _)| line).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"x\"\nversion.workspace = true\n[lints]\nworkspace = true\n\n\
         [dependencies]\nserde.workspace = true # why\nimage = { workspace = true, features = [\"png\", \"webp\"] }\n\
         [target.'cfg(unix)'.dev-dependencies]\ntempfile.workspace = true\n[features]\nlaws = [\"dep:proptest\"]\n\
         [[bin]]\nname = \"x\"\n";

    #[test]
    fn inherited_dependencies_pass() {
        assert_eq!(violations(GOOD), []);
    }

    #[test]
    fn own_versions_paths_and_spread_tables_are_found() {
        for bad in [
            "serde = \"1\"",
            "serde = { version = \"1\" }",
            "serde = { workspace = true, version = \"1\" }",
            "serde = { path = \"../serde\" }",
            "serde.version = \"1\"",
            "serde.workspace = false",
            "serde = {",
        ] {
            for table in ["dependencies", "dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
                let text = format!("{GOOD}[{table}]\n{bad}\n");
                let found = violations(&text);
                assert_eq!(found.len(), 1, "{bad}: {found:?}");
                assert_eq!(found[0].0, text.lines().count());
            }
        }
        let found = violations(&format!("{GOOD}[dependencies.serde]\nversion = \"1\"\n"));
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn missing_lints_are_found() {
        assert_eq!(violations(&GOOD.replace("[lints]\nworkspace = true", "")).len(), 1);
        assert_eq!(violations(&GOOD.replace("[lints]\nworkspace = true", "[lints]\nworkspace = false")).len(), 1);
    }
}

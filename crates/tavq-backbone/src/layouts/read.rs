//! Reading parts of a configuration with errors that name the key.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::LayoutError;

/// One part of a configuration; `place` is its path.
pub(super) fn part<T: DeserializeOwned>(place: &str, value: &Value) -> Result<T, LayoutError> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let inner = e.path().to_string();
        let field = match (place, inner.as_str()) {
            ("", inner) => inner.to_owned(),
            (place, ".") => place.to_owned(),
            (place, inner) => format!("{place}.{inner}"),
        };
        LayoutError::Read { field, message: e.into_inner().to_string() }
    })
}

/// Refuses a value that this network has only one of.
pub(super) fn only<T: PartialEq + std::fmt::Debug>(field: &str, expected: &T, found: &T) -> Result<(), LayoutError> {
    if expected == found {
        return Ok(());
    }
    Err(LayoutError::config(field, format!("{expected:?}"), format!("{found:?}")))
}

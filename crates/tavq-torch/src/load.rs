//! Copies a file's tensors into the variables of a `VarStore`, all of them or none.

use std::collections::HashSet;

use tch::Tensor;
use tch::nn::VarStore;

use crate::{FileError, TensorFile};

/// Loads every variable of `store` from the tensor named `prefix` + its own name.
///
/// Nothing is copied unless every variable has a tensor of its shape and every tensor under the prefix
/// has a variable; the error lists all that do not. Values are converted to the variable's own type and device.
pub fn load_variables(store: &VarStore, file: &TensorFile, prefix: &str) -> Result<(), FileError> {
    load(sorted(store), file, file.names(), prefix)
}

/// Loads the parts of `store` that a file has, each whole: a part is what names have before their first dot. Gives the parts
/// that the file has not, which stay as they are.
///
/// A part with a tensor too many or too few is refused as in [`load_variables`], and one that `store` has not.
pub fn load_parts(store: &VarStore, file: &TensorFile) -> Result<Vec<String>, FileError> {
    let names = file.names();
    let part = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let there: HashSet<String> = names.iter().map(|name| part(name)).collect();
    let (mine, others): (Vec<_>, Vec<_>) = sorted(store).into_iter().partition(|(name, _)| there.contains(&part(name)));
    load(mine, file, names, "")?;
    let mut left: Vec<String> = others.iter().map(|(name, _)| part(name)).collect();
    left.dedup();
    Ok(left)
}

fn sorted(store: &VarStore) -> Vec<(String, Tensor)> {
    let mut variables: Vec<_> = store.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    variables
}

fn load(
    variables: Vec<(String, Tensor)>,
    file: &TensorFile,
    names: Vec<String>,
    prefix: &str,
) -> Result<(), FileError> {
    let mut problems = Vec::new();
    let mut known = HashSet::new();
    for (name, variable) in &variables {
        let full = format!("{prefix}{name}");
        match file.shape(&full) {
            None => problems.push(format!("{full}: missing, expected shape {:?}", variable.size())),
            Some(found) if found != variable.size() => {
                problems.push(format!("{full}: expected shape {:?}, found {found:?}", variable.size()));
            }
            Some(_) if variable.is_floating_point() && !is_floating(file, &full) => {
                problems.push(format!("{full}: expected floating-point values, found others"));
            }
            Some(_) => {}
        }
        known.insert(full);
    }
    for name in names {
        if name.starts_with(prefix) && !known.contains(&name) {
            problems.push(format!("{name}: not expected, found shape {:?}", file.shape(&name).unwrap_or_default()));
        }
    }
    if !problems.is_empty() {
        return Err(FileError::Tensors { path: file.path().to_path_buf(), problems });
    }
    for (name, mut variable) in variables {
        let value = file.get(&format!("{prefix}{name}"))?;
        tch::no_grad(|| variable.f_copy_(&value)).map_err(|e| file.problem(format!("{prefix}{name}: {e}")))?;
    }
    Ok(())
}

fn is_floating(file: &TensorFile, name: &str) -> bool {
    file.dtype(name).is_some_and(|dtype| matches!(dtype.as_str(), "f16" | "bf16" | "f32" | "f64"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_tensors;
    use tch::{Device, Kind};

    #[test]
    fn lists_every_problem_and_copies_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let one = |n: &[i64]| Tensor::ones(n, (Kind::Float, Device::Cpu));
        write_tensors(&path, &[("m.a".into(), one(&[2])), ("m.b".into(), one(&[3])), ("m.x".into(), one(&[1]))], &[])
            .unwrap();
        let file = TensorFile::open(&path).unwrap();
        let store = VarStore::new(Device::Cpu);
        let a = store.root().zeros("a", &[2]);
        let _b = store.root().zeros("b", &[4]);
        let _c = store.root().zeros("c", &[1]);
        let text = load_variables(&store, &file, "m.").unwrap_err().to_string();
        for part in
            ["m.b: expected shape [4], found [3]", "m.c: missing, expected shape [", "m.x: not expected, found shape ["]
        {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(a.sum(Kind::Float).double_value(&[]), 0.0);
    }

    #[test]
    fn parts_are_loaded_whole_or_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let two = Tensor::from_slice(&[1.0f32, 2.0]);
        write_tensors(&path, &[("net.a".into(), two.copy()), ("net.b".into(), two)], &[]).unwrap();
        let file = TensorFile::open(&path).unwrap();
        let store = VarStore::new(Device::Cpu);
        let (root, names) = (store.root(), ["taps", "align"]);
        let others: Vec<Tensor> = names.iter().map(|part| (&root / *part).ones("w", &[3])).collect();
        let a = (&root / "net").zeros("a", &[2]);
        let text = load_parts(&store, &file).unwrap_err().to_string();
        assert!(text.contains("net.b: not expected") && !text.contains("taps"), "{text}");
        let _b = (&root / "net").zeros("b", &[2]);
        assert_eq!(load_parts(&store, &file).unwrap(), ["align", "taps"]);
        assert_eq!(a.double_value(&[1]), 2.0);
        assert_eq!(others[0].sum(Kind::Float).double_value(&[]), 3.0);
        let _c = (&root / "net").zeros("c", &[2]);
        assert!(load_parts(&store, &file).unwrap_err().to_string().contains("net.c: missing"));
    }

    #[test]
    fn keeps_the_variables_own_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        write_tensors(&path, &[("a".into(), Tensor::from_slice(&[1.5f64, 2.5]))], &[]).unwrap();
        let store = VarStore::new(Device::Cpu);
        let a = store.root().zeros("a", &[2]);
        load_variables(&store, &TensorFile::open(&path).unwrap(), "").unwrap();
        assert_eq!((a.kind(), a.double_value(&[1])), (Kind::Float, 2.5));
    }
}

//! What the known names build: storages, tensors, and the containers that Python writes by name.

use std::io::Read;

use crate::error::Result;
use crate::machine::Machine;
use crate::node::{Id, Known, Node, TensorInfo};

/// Most axes of a tensor, as in PyTorch.
const AXES: usize = 64;
/// Most bytes of a storage's key.
const KEY: usize = 255;

/// The storage that a persistent id means: `("storage", type, key, device, elements)`, and in old files a view of another.
pub(crate) fn storage<R: Read>(machine: &mut Machine<'_, R>, id: Id) -> Result<u32> {
    let bad = |m: &Machine<'_, R>, found: Id| m.unlike("(\"storage\", type, key, device, elements)", found);
    let Node::Tuple(items) = machine.arena.get(id) else { return Err(bad(machine, id)) };
    let (kind, dtype, key, elements, view) = match items[..] {
        [kind, dtype, key, _, elements] => (kind, dtype, key, elements, None),
        [kind, dtype, key, _, elements, view] => (kind, dtype, key, elements, Some(view)),
        _ => return Err(bad(machine, id)),
    };
    match machine.arena.get(kind) {
        Node::Text(kind) if &**kind == "storage" => {}
        _ => return Err(bad(machine, kind)),
    }
    let Node::Known(Known::Storage(dtype)) = *machine.arena.get(dtype) else {
        return Err(machine.unlike("the type of a storage", dtype));
    };
    let Node::Text(key) = machine.arena.get(key) else { return Err(machine.unlike("the key of a storage", key)) };
    if key.len() > KEY {
        return Err(machine.bad("a short key of a storage", format!("{} bytes", key.len())));
    }
    let key = key.to_string();
    let elements = whole(machine, elements, "the elements of a storage")?;
    if let Some(view) = view
        && !matches!(machine.arena.get(view), Node::None)
    {
        return Err(machine.unlike("a storage that is no view of another (written by PyTorch before 0.4)", view));
    }
    machine.storages.name(key, dtype, elements)
}

/// What a known function gives.
pub(crate) fn build<R: Read>(machine: &mut Machine<'_, R>, known: Known, arguments: &[Id]) -> Result<Id> {
    let node = match (known, arguments) {
        (Known::OrderedDict, []) => Node::Dict(Vec::new()),
        (Known::OrderedDict, [items]) => Node::Dict(pairs(machine, *items)?),
        (Known::Set, []) => Node::Set(Vec::new()),
        (Known::Set, [items]) => Node::Set(items_of(machine, *items)?),
        (Known::List, []) => Node::List(Vec::new()),
        (Known::List, [items]) => Node::List(items_of(machine, *items)?),
        (Known::Size, [items]) => Node::Tuple(items_of(machine, *items)?),
        (Known::Encode, [_, _]) => Node::Bytes,
        (Known::Parameter, [tensor, ..]) => {
            return match machine.arena.get(*tensor) {
                Node::Tensor(_) => Ok(*tensor),
                _ => Err(machine.unlike("a tensor to make a parameter of", *tensor)),
            };
        }
        (Known::Tensor, [storage, offset, shape, strides, ..]) => {
            Node::Tensor(Box::new(tensor(machine, *storage, *offset, *shape, *strides)?))
        }
        _ => {
            let found = format!("{known:?} with {}", arguments.len());
            return Err(machine.bad("a known function with its arguments", found));
        }
    };
    machine.arena.add(node)
}

fn tensor<R: Read>(
    machine: &mut Machine<'_, R>,
    storage: Id,
    offset: Id,
    shape: Id,
    strides: Id,
) -> Result<TensorInfo> {
    let Node::Storage(storage) = *machine.arena.get(storage) else {
        return Err(machine.unlike("the storage of a tensor", storage));
    };
    let offset = whole(machine, offset, "the offset of a tensor")?;
    let (shape, strides) = (sizes(machine, shape)?, sizes(machine, strides)?);
    if shape.len() != strides.len() {
        return Err(machine.bad("a stride for each axis", format!("{} for {}", strides.len(), shape.len())));
    }
    let (key, dtype, elements) = machine.storages.described(storage);
    TensorInfo { storage, dtype, shape, strides, offset }.checked(key, elements)
}

fn sizes<R: Read>(machine: &mut Machine<'_, R>, id: Id) -> Result<Vec<u64>> {
    let items = items_of(machine, id)?;
    if items.len() > AXES {
        return Err(machine.bad("at most 64 axes", items.len().to_string()));
    }
    // Kept as numbers of eight bytes.
    machine.charge(2 * items.len())?;
    items.into_iter().map(|item| whole(machine, item, "sizes and strides of at least 0")).collect()
}

fn whole<R: Read>(machine: &Machine<'_, R>, id: Id, expected: &'static str) -> Result<u64> {
    match machine.arena.get(id) {
        Node::Int(n) if *n >= 0 => Ok(n.unsigned_abs()),
        Node::Int(n) => Err(machine.bad(expected, n.to_string())),
        _ => Err(machine.unlike(expected, id)),
    }
}

/// A copy of a container's items, charged before it is made.
fn items_of<R: Read>(machine: &mut Machine<'_, R>, id: Id) -> Result<Vec<Id>> {
    let count = match machine.arena.get(id) {
        Node::List(items) | Node::Tuple(items) | Node::Set(items) => items.len(),
        _ => return Err(machine.unlike("a list or tuple", id)),
    };
    machine.charge(count)?;
    match machine.arena.get(id) {
        Node::List(items) | Node::Tuple(items) | Node::Set(items) => Ok(items.clone()),
        _ => Ok(Vec::new()),
    }
}

fn pairs<R: Read>(machine: &mut Machine<'_, R>, id: Id) -> Result<Vec<(Id, Id)>> {
    let items = items_of(machine, id)?;
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        match items_of(machine, item)?[..] {
            [key, value] => out.push((key, value)),
            _ => return Err(machine.unlike("a pair of key and value", item)),
        }
    }
    Ok(out)
}

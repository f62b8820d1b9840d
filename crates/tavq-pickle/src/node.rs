//! What a pickle builds: an arena of plain objects that refer to each other by number.
//!
//! An object that contains itself is a number in its own list, and one that is referred to a billion times exists once;
//! nothing is walked or freed by recursion.

use crate::dtype::Dtype;
use crate::error::{Problem, Result};

/// Number of an object in its arena.
pub(crate) type Id = u32;

/// Most objects of one file: a checkpoint with ten thousand tensors has about a quarter of a million.
const MOST: usize = 1 << 22;

/// One object.
#[derive(Debug)]
pub(crate) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits; nothing here needs its value.
    Huge,
    /// Nothing here needs the value of a number that is no integer, or of bytes.
    Float,
    Text(Box<str>),
    Bytes,
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    /// Keys may repeat; the last one counts.
    Dict(Vec<(Id, Id)>),
    /// A storage that a persistent id named.
    Storage(u32),
    Tensor(Box<TensorInfo>),
    Known(Known),
    /// An unknown global, or whatever it would have built; the number is its name's.
    Opaque(u32),
}

/// The names that are known. Each stands for a small function of this crate, never for the code of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    OrderedDict,
    Set,
    List,
    Size,
    /// `_codecs.encode`: how old protocols write bytes.
    Encode,
    Tensor,
    Parameter,
    Storage(Dtype),
}

impl Known {
    pub(crate) fn of(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("builtins" | "__builtin__", "set" | "frozenset") => Self::Set,
            ("builtins" | "__builtin__", "list") => Self::List,
            ("torch", "Size") => Self::Size,
            ("_codecs", "encode") => Self::Encode,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Self::Tensor,
            ("torch._utils", "_rebuild_parameter") => Self::Parameter,
            ("torch", name) => Self::Storage(Dtype::of_storage(name)?),
            _ => return None,
        })
    }
}

/// A tensor as a file describes it: a strided view of a storage, checked to lie inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    pub(crate) storage: u32,
    /// Type of the values.
    pub dtype: Dtype,
    /// Sizes.
    pub shape: Vec<u64>,
    /// Elements between neighbours of each axis.
    pub(crate) strides: Vec<u64>,
    /// Elements before the first value.
    pub(crate) offset: u64,
}

impl TensorInfo {
    /// Number of values.
    pub fn values(&self) -> u64 {
        // Cannot overflow: `checked` has multiplied the same numbers.
        self.shape.iter().product()
    }

    /// Bytes of the values.
    pub fn bytes(&self) -> u64 {
        self.values() * self.dtype.size()
    }

    /// Checks that every value lies inside a storage of `elements` elements.
    pub(crate) fn checked(self, name: &str, elements: u64) -> Result<Self> {
        let bad = |expected: String, found: String| Problem::Storage { storage: name.to_owned(), expected, found };
        let values = self.shape.iter().try_fold(self.dtype.size(), |n, d| n.checked_mul(*d));
        let last = self.shape.iter().zip(&self.strides).try_fold(self.offset, |n, (d, s)| {
            // Of an axis of size 0 there is no last element, and the tensor is empty.
            d.saturating_sub(1).checked_mul(*s).and_then(|step| n.checked_add(step))
        });
        let shape = || format!("shape {:?}, strides {:?}, offset {}", self.shape, self.strides, self.offset);
        let (Some(values), Some(last)) = (values, last) else {
            return Err(bad("sizes whose product fits 64 bits".to_owned(), shape()));
        };
        if values > 0 && last >= elements {
            return Err(bad(format!("a tensor within {elements} elements"), shape()));
        }
        Ok(self)
    }

    /// Whether the values lie one after the other, in order.
    pub(crate) fn contiguous(&self) -> bool {
        let mut step = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(d, s)| {
            let fits = *d == 1 || *s == step;
            step *= d;
            fits
        })
    }
}

/// The objects.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    nodes: Vec<Node>,
    /// Names of unknown globals.
    pub(crate) names: Vec<String>,
}

impl Arena {
    pub(crate) fn add(&mut self, node: Node) -> Result<Id> {
        if self.nodes.len() >= MOST {
            return Err(Problem::Limit { what: "objects", most: MOST as u64 });
        }
        self.nodes.push(node);
        Ok((self.nodes.len() - 1) as Id)
    }

    /// Numbers come from [`Arena::add`] alone, so there is always an object.
    pub(crate) fn get(&self, id: Id) -> &Node {
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut Node> {
        self.nodes.get_mut(id as usize)
    }

    /// What an object is, for messages.
    pub(crate) fn kind(&self, id: Id) -> String {
        match self.get(id) {
            Node::None => "None".to_owned(),
            Node::Bool(_) => "a truth value".to_owned(),
            Node::Int(_) | Node::Huge => "an integer".to_owned(),
            Node::Float => "a number".to_owned(),
            Node::Text(_) => "a text".to_owned(),
            Node::Bytes => "bytes".to_owned(),
            Node::List(_) => "a list".to_owned(),
            Node::Tuple(_) => "a tuple".to_owned(),
            Node::Set(_) => "a set".to_owned(),
            Node::Dict(_) => "a dict".to_owned(),
            Node::Storage(_) => "a storage".to_owned(),
            Node::Tensor(_) => "a tensor".to_owned(),
            Node::Known(_) => "the name of a type or function".to_owned(),
            Node::Opaque(name) => {
                format!("an object of {}", self.names.get(*name as usize).map_or("?", String::as_str))
            }
        }
    }
}

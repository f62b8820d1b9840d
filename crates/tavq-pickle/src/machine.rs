//! The pickle machine, reduced to data: it fills an [`Arena`] and calls nothing.
//!
//! Opcodes are those of protocols 0 to 5. What Python would import is looked up in [`Known`], whose few names stand for
//! functions of this crate; any other name is an error, or with [`Unknown::Placeholder`] an inert object that swallows
//! whatever is done to it. Whatever takes memory is charged to one account, so that no few bytes of a file can grow into
//! gigabytes.

use std::collections::HashMap;
use std::io::Read;

use crate::Unknown;
use crate::error::{Problem, Result, shown};
use crate::input::Input;
use crate::node::{Arena, Id, Known, Node};
use crate::storage::Storages;
use crate::torch;

/// Most work of one pickle: an instruction or a copied number costs 1. A checkpoint with ten thousand tensors takes
/// about a quarter of a million.
const MOST: u64 = 1 << 23;

/// One pickle being read.
pub(crate) struct Machine<'a, R> {
    pub(crate) input: &'a mut Input<R>,
    pub(crate) arena: &'a mut Arena,
    pub(crate) storages: &'a mut Storages,
    unknown: Unknown,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    charged: u64,
}

impl<'a, R: Read> Machine<'a, R> {
    pub(crate) fn new(
        input: &'a mut Input<R>,
        arena: &'a mut Arena,
        storages: &'a mut Storages,
        unknown: Unknown,
    ) -> Self {
        Self { input, arena, storages, unknown, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), charged: 0 }
    }

    /// Reads one pickle to its end and gives its object.
    pub(crate) fn run(mut self) -> Result<Id> {
        loop {
            let opcode = self.input.byte("an instruction")?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
    }

    pub(crate) fn bad(&self, expected: &'static str, found: impl Into<String>) -> Problem {
        self.input.bad(expected, found)
    }

    /// What was wanted, and the kind of object that was there.
    pub(crate) fn unlike(&self, expected: &'static str, found: Id) -> Problem {
        self.bad(expected, self.arena.kind(found))
    }

    pub(crate) fn charge(&mut self, work: usize) -> Result<()> {
        self.charged = self.charged.saturating_add(work as u64);
        if self.charged > MOST { Err(Problem::Limit { what: "instructions of a pickle", most: MOST }) } else { Ok(()) }
    }

    fn push(&mut self, id: Id) -> Result<()> {
        self.charge(1)?;
        self.stack.push(id);
        Ok(())
    }

    fn put(&mut self, node: Node) -> Result<()> {
        let id = self.arena.add(node)?;
        self.push(id)
    }

    /// The topmost object above the last mark.
    fn pop(&mut self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(id) if self.stack.len() > floor => {
                let id = *id;
                self.stack.pop();
                Ok(id)
            }
            _ => Err(self.bad("an object on the stack", "none")),
        }
    }

    fn peek(&mut self) -> Result<Id> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(id)
    }

    /// Everything above the last mark, and the mark.
    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let Some(height) = self.marks.pop() else { return Err(self.bad("a mark on the stack", "none")) };
        Ok(self.stack.split_off(height.min(self.stack.len())))
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            // Protocol and frames say nothing that is needed.
            0x80 => match self.input.byte("a protocol number")? {
                0..=5 => Ok(()),
                other => Err(self.bad("a protocol from 0 to 5", other.to_string())),
            },
            0x95 => self.input.array::<8>("a frame's length").map(drop),
            b'(' => {
                self.charge(1)?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop).or_else(|e| self.marks.pop().map(drop).ok_or(e)),
            b'1' => self.pop_mark().map(drop),
            b'2' => self.peek().and_then(|id| self.push(id)),
            b'N' => self.put(Node::None),
            0x88 => self.put(Node::Bool(true)),
            0x89 => self.put(Node::Bool(false)),
            b'I' | b'J' | b'K' | b'M' | b'L' | 0x8a | 0x8b | b'F' | b'G' => self.number(opcode),
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d => self.text(opcode),
            b'B' | b'C' | 0x8e | 0x96 => self.bytes(opcode),
            b']' | b'l' | b'a' | b'e' | b')' | b't' | 0x85..=0x87 | b'}' | b'd' | b's' | b'u' | 0x8f..=0x91 => {
                self.container(opcode)
            }
            b'g' | b'h' | b'j' | b'p' | b'q' | b'r' | 0x94 => self.remember(opcode),
            b'c' | b'i' | 0x93 => self.global(opcode),
            b'R' | b'o' | 0x81 | 0x92 | b'b' => self.call(opcode),
            b'Q' => {
                let id = self.pop()?;
                let storage = torch::storage(self, id)?;
                self.put(Node::Storage(storage))
            }
            b'P' => Err(self.bad("a storage", "a persistent id of text")),
            0x82..=0x84 => Err(self.bad("tensors and plain containers only", "an extension code")),
            0x97 | 0x98 => Err(self.bad("tensors and plain containers only", "a buffer outside the pickle")),
            other => Err(self.bad("an instruction", format!("the byte {other:#04x}"))),
        }
    }

    fn number(&mut self, opcode: u8) -> Result<()> {
        let node = match opcode {
            b'K' => Node::Int(self.input.byte("an integer")?.into()),
            b'M' => Node::Int(u16::from_le_bytes(self.input.array("an integer")?).into()),
            b'J' => Node::Int(i32::from_le_bytes(self.input.array("an integer")?).into()),
            b'G' => self.input.array::<8>("a number").map(|_| Node::Float)?,
            0x8a | 0x8b => {
                let length = match opcode {
                    0x8a => self.input.byte("a length")?.into(),
                    _ => u32::from_le_bytes(self.input.array("a length")?).into(),
                };
                long(&self.input.take(length, "an integer")?)
            }
            _ => {
                let line = self.input.line()?;
                match (opcode, line.as_str()) {
                    (b'I', "00") => Node::Bool(false),
                    (b'I', "01") => Node::Bool(true),
                    (b'F', _) => match line.parse::<f64>() {
                        Ok(_) => Node::Float,
                        Err(_) => return Err(self.bad("a number", shown(&line))),
                    },
                    _ => {
                        let digits = line.strip_suffix('L').unwrap_or(&line);
                        let whole = digits.strip_prefix('-').unwrap_or(digits);
                        if whole.is_empty() || !whole.bytes().all(|b| b.is_ascii_digit()) {
                            return Err(self.bad("an integer", shown(&line)));
                        }
                        digits.parse().map_or(Node::Huge, Node::Int)
                    }
                }
            }
        };
        self.put(node)
    }

    /// A length of 1, 4 or 8 bytes.
    fn length(&mut self, bytes: u8) -> Result<u64> {
        Ok(match bytes {
            1 => self.input.byte("a length")?.into(),
            4 => u32::from_le_bytes(self.input.array("a length")?).into(),
            _ => u64::from_le_bytes(self.input.array("a length")?),
        })
    }

    fn text(&mut self, opcode: u8) -> Result<()> {
        let text = match opcode {
            b'V' => self.input.line()?,
            b'S' => {
                let line = self.input.line()?;
                let inner = ['\'', '"'].iter().find_map(|q| line.strip_prefix(*q)?.strip_suffix(*q));
                match inner {
                    Some(inner) if !inner.contains('\\') => inner.to_owned(),
                    _ => return Err(self.bad("a quoted text without escapes", shown(&line))),
                }
            }
            _ => {
                let length = self.length(match opcode {
                    b'U' | 0x8c => 1,
                    0x8d => 8,
                    _ => 4,
                })?;
                let bytes = self.input.take(length, "a text")?;
                match String::from_utf8(bytes) {
                    Ok(text) => text,
                    // Texts of Python 2 have no encoding.
                    Err(_) if matches!(opcode, b'T' | b'U') => return self.put(Node::Bytes),
                    Err(_) => return Err(self.bad("a text in UTF-8", "other bytes")),
                }
            }
        };
        self.put(Node::Text(text.into()))
    }

    fn bytes(&mut self, opcode: u8) -> Result<()> {
        let length = self.length(match opcode {
            b'C' => 1,
            b'B' => 4,
            _ => 8,
        })?;
        self.input.take(length, "bytes")?;
        self.put(Node::Bytes)
    }

    fn container(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            b']' => self.put(Node::List(Vec::new())),
            b')' => self.put(Node::Tuple(Vec::new())),
            b'}' => self.put(Node::Dict(Vec::new())),
            0x8f => self.put(Node::Set(Vec::new())),
            b'l' => self.pop_mark().and_then(|items| self.put(Node::List(items))),
            b't' => self.pop_mark().and_then(|items| self.put(Node::Tuple(items))),
            0x91 => self.pop_mark().and_then(|items| self.put(Node::Set(items))),
            b'd' => {
                let pairs = self.pop_mark().and_then(|items| self.pairs(&items))?;
                self.put(Node::Dict(pairs))
            }
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0x84..opcode {
                    items.insert(0, self.pop()?);
                }
                self.put(Node::Tuple(items))
            }
            b'a' => self.pop().and_then(|item| self.extend(vec![item])),
            b'e' | 0x90 => self.pop_mark().and_then(|items| self.extend(items)),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])
            }
            _ => self.pop_mark().and_then(|items| self.set_items(&items)),
        }
    }

    fn pairs(&self, items: &[Id]) -> Result<Vec<(Id, Id)>> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.bad("a value for each key", "a key alone"));
        }
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    /// Adds to the list or set on top of the stack.
    fn extend(&mut self, items: Vec<Id>) -> Result<()> {
        let top = self.peek()?;
        match self.arena.get_mut(top) {
            Some(Node::List(list) | Node::Set(list)) => list.extend(items),
            Some(Node::Opaque(_)) => {}
            _ => return Err(self.unlike("a list or set to add to", top)),
        }
        Ok(())
    }

    /// Adds to the dict on top of the stack.
    fn set_items(&mut self, items: &[Id]) -> Result<()> {
        let pairs = self.pairs(items)?;
        let top = self.peek()?;
        match self.arena.get_mut(top) {
            Some(Node::Dict(dict)) => dict.extend(pairs),
            Some(Node::Opaque(_)) => {}
            _ => return Err(self.unlike("a dict to add to", top)),
        }
        Ok(())
    }

    fn remember(&mut self, opcode: u8) -> Result<()> {
        let place = match opcode {
            b'g' | b'p' => {
                let line = self.input.line()?;
                line.parse().map_err(|_| self.bad("a number of the memo", shown(&line)))?
            }
            b'h' | b'q' => self.input.byte("a number of the memo")?.into(),
            b'j' | b'r' => u32::from_le_bytes(self.input.array("a number of the memo")?).into(),
            _ => self.memo.len() as u64,
        };
        if matches!(opcode, b'g' | b'h' | b'j') {
            let Some(id) = self.memo.get(&place) else { return Err(self.bad("an object in the memo", "none")) };
            return self.push(*id);
        }
        self.charge(1)?;
        let id = self.peek()?;
        self.memo.insert(place, id);
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Result<()> {
        let (module, name) = if opcode == 0x93 {
            let (name, module) = (self.pop()?, self.pop()?);
            match (self.arena.get(module), self.arena.get(name)) {
                (Node::Text(module), Node::Text(name)) => {
                    let both = (module.to_string(), name.to_string());
                    self.charge((both.0.len() + both.1.len()) / 64)?;
                    both
                }
                _ => return Err(self.bad("two texts that name a global", "something else")),
            }
        } else {
            (self.input.line()?, self.input.line()?)
        };
        let known = Known::of(&module, &name);
        let node = match (known, self.unknown) {
            (Some(known), _) => Node::Known(known),
            (None, Unknown::Refuse) => return Err(Problem::Global(shown(&format!("{module}.{name}")))),
            (None, Unknown::Placeholder) => {
                self.charge(64)?;
                self.arena.names.push(shown(&format!("{module}.{name}")));
                Node::Opaque((self.arena.names.len() - 1) as u32)
            }
        };
        if opcode == b'i' {
            // A class with its arguments: what is known here is never written so.
            self.pop_mark()?;
            let Node::Opaque(_) = node else { return Err(self.bad("a class", "the name of a known function")) };
        }
        self.put(node)
    }

    /// What Python would call, or set the attributes of.
    fn call(&mut self, opcode: u8) -> Result<()> {
        let (callee, arguments) = match opcode {
            b'o' => {
                let items = self.pop_mark()?;
                let Some((class, _)) = items.split_first() else { return Err(self.bad("a class", "nothing")) };
                (*class, None)
            }
            0x92 => {
                let (_, _, class) = (self.pop()?, self.pop()?, self.pop()?);
                (class, None)
            }
            _ => {
                let arguments = self.pop()?;
                (self.pop()?, Some(arguments))
            }
        };
        match (self.arena.get(callee), opcode, arguments) {
            // A placeholder swallows everything and stays what it is.
            (Node::Opaque(_), ..) => self.push(callee),
            // An ordered dict with attributes: PyTorch's own metadata, without a use here.
            (Node::Dict(_), b'b', _) => self.push(callee),
            (Node::Known(known), b'R' | 0x81, Some(arguments)) => {
                let known = *known;
                let Node::Tuple(arguments) = self.arena.get(arguments) else {
                    return Err(self.unlike("a tuple of arguments", arguments));
                };
                let arguments = arguments.clone();
                self.charge(arguments.len())?;
                let built = torch::build(self, known, &arguments)?;
                self.push(built)
            }
            (_, b'b', _) => Err(self.unlike("a dict whose attributes are set", callee)),
            _ => Err(self.unlike("a known function to call", callee)),
        }
    }
}

/// A little-endian integer in two's complement.
fn long(bytes: &[u8]) -> Node {
    if bytes.len() > 8 {
        return Node::Huge;
    }
    let negative = bytes.last().is_some_and(|b| *b >= 0x80);
    let mut whole = if negative { [0xff; 8] } else { [0; 8] };
    for (to, from) in whole.iter_mut().zip(bytes) {
        *to = *from;
    }
    Node::Int(i64::from_le_bytes(whole))
}

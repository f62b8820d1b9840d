//! An open file: which of the two formats it is, its objects, and its tensors by name.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use zip::{CompressionMethod, ZipArchive};

use crate::PickleError;
use crate::error::{Problem, Result, shown};
use crate::input::Input;
use crate::machine::Machine;
use crate::node::{Arena, Id, Node, TensorInfo};
use crate::storage::{Place, Reader, Storages};

/// What a global that is not known means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// The file is refused, and the error names it.
    #[default]
    Refuse,
    /// It and all that it would build is an inert object that can only be named. Nothing is executed either way.
    Placeholder,
}

/// Which of PyTorch's formats a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// Since PyTorch 1.6: a zip archive with `data.pkl` and one member a storage.
    Zip,
    /// Before: a few pickles, then the storages.
    Legacy,
}

/// A `.pt` or `.ckpt` file whose objects were read; the values of tensors are read when they are asked for.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    container: Container,
    length: u64,
    arena: Arena,
    root: Id,
    storages: Storages,
    reader: Reader,
}

/// What the parts give that know neither path nor length.
struct Parts {
    container: Container,
    arena: Arena,
    root: Id,
    storages: Storages,
    swap: bool,
}

/// The first number in files of the old format.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Most bytes that are read of the values of a file, as a multiple of its length: tensors may share a storage.
const SHARED: u64 = 4;
const SMALL: u64 = 1 << 26;

impl Archive {
    /// Opens a file and reads its objects. Memory is bounded whatever the file claims.
    pub fn open(path: &Path, unknown: Unknown) -> std::result::Result<Self, PickleError> {
        let open = || -> Result<Self> {
            let file = File::open(path)?;
            let meta = file.metadata()?;
            if meta.is_dir() {
                return Err(Problem::Format("a folder".to_owned()));
            }
            let parts = parts(&file, meta.len(), unknown)?;
            let Parts { container, arena, root, storages, swap } = parts;
            let reader = Reader::new(file, swap);
            Ok(Self { path: path.to_owned(), container, length: meta.len(), arena, root, storages, reader })
        };
        open().map_err(|problem| PickleError { path: path.to_owned(), problem })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which format the file has.
    pub fn container(&self) -> Container {
        self.container
    }

    /// An error of this file.
    pub fn error(&self, problem: Problem) -> PickleError {
        PickleError { path: self.path.clone(), problem }
    }

    /// The names of unknown globals that became placeholders, sorted, each once.
    pub fn placeholders(&self) -> Vec<String> {
        let mut names: Vec<String> = self.arena.names.clone();
        names.sort();
        names.dedup();
        names
    }

    /// The texts among the keys of the outermost dict; empty when it is none.
    pub fn keys(&self) -> Vec<&str> {
        let Node::Dict(pairs) = self.arena.get(self.root) else { return Vec::new() };
        pairs.iter().filter_map(|(key, _)| self.text(*key)).collect()
    }

    /// An integer under a key of the outermost dict.
    pub fn integer(&self, key: &str) -> Option<i64> {
        match self.arena.get(self.child(self.root, key)?) {
            Node::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The tensors of the dict under `key` of the outermost dict, or of that one itself, by name and in order. Plain
    /// values among them are left out; anything else is an error.
    pub fn state(&self, key: Option<&str>) -> std::result::Result<Vec<(String, TensorInfo)>, PickleError> {
        let place = key.unwrap_or("the outermost object");
        let state = || {
            let id = match key {
                None => self.root,
                Some(name) => {
                    self.child(self.root, name).ok_or_else(|| content(name, "a dict of tensors", "no such key"))?
                }
            };
            let Node::Dict(pairs) = self.arena.get(id) else {
                return Err(content(place, "a dict of tensors", &self.arena.kind(id)));
            };
            let mut out: Vec<(String, TensorInfo)> = Vec::new();
            let mut places = std::collections::HashMap::new();
            for (key, value) in pairs {
                let Some(name) = self.text(*key) else {
                    return Err(content(place, "names", &self.arena.kind(*key)));
                };
                match self.arena.get(*value) {
                    Node::Tensor(info) => match places.get(name) {
                        // A key that comes again replaces the first one, as in Python.
                        Some(at) => out[*at] = (name.to_owned(), (**info).clone()),
                        None => {
                            places.insert(name, out.len());
                            out.push((name.to_owned(), (**info).clone()));
                        }
                    },
                    Node::Opaque(_) => {
                        let place = format!("{place}: {}", shown(name));
                        return Err(content(&place, "a tensor", &self.arena.kind(*value)));
                    }
                    _ => {}
                }
            }
            self.afford(&out)?;
            Ok(out)
        };
        state().map_err(|problem| self.error(problem))
    }

    /// Every tensor of the file, in order; the name is the keys and places on the way to it, joined by dots.
    pub fn all(&self) -> std::result::Result<Vec<(String, TensorInfo)>, PickleError> {
        let mut out = Vec::new();
        // Containers met before are passed over: objects may be shared, and may contain themselves.
        let mut seen = HashSet::new();
        let mut open = vec![(String::new(), self.root)];
        while let Some((name, id)) = open.pop() {
            let join = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
            match self.arena.get(id) {
                Node::Tensor(info) => out.push((name, (**info).clone())),
                Node::List(items) | Node::Tuple(items) | Node::Set(items)
                    if seen.insert(id) && name.len() <= LONGEST =>
                {
                    open.extend(items.iter().enumerate().rev().map(|(i, item)| (join(&i.to_string()), *item)));
                }
                Node::Dict(pairs) if seen.insert(id) && name.len() <= LONGEST => {
                    open.extend(pairs.iter().rev().map(|(key, value)| (join(&self.label(*key)), *value)));
                }
                _ => {}
            }
        }
        Ok(out)
    }

    /// The values of a tensor in order, little endian.
    pub fn read(&mut self, info: &TensorInfo) -> std::result::Result<Vec<u8>, PickleError> {
        let bytes =
            self.afford(&[(String::new(), info.clone())]).and_then(|()| self.reader.tensor(&self.storages, info));
        bytes.map_err(|problem| self.error(problem))
    }

    /// Bounds what the tensors hold together: strides of 0 and shared storages could make terabytes of a small file.
    fn afford(&self, tensors: &[(String, TensorInfo)]) -> Result<()> {
        let most = self.length.saturating_mul(SHARED).max(SMALL);
        let total = tensors.iter().fold(0u64, |sum, (_, info)| sum.saturating_add(info.bytes()));
        if total > most {
            Err(Problem::Limit { what: "bytes of values for a file of this length", most })
        } else {
            Ok(())
        }
    }

    fn text(&self, id: Id) -> Option<&str> {
        match self.arena.get(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    fn label(&self, id: Id) -> String {
        match self.arena.get(id) {
            Node::Text(text) => shown(text),
            Node::Int(n) => n.to_string(),
            _ => "?".to_owned(),
        }
    }

    fn child(&self, id: Id, key: &str) -> Option<Id> {
        let Node::Dict(pairs) = self.arena.get(id) else { return None };
        pairs.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, value)| *value)
    }
}

/// Longest name that is made longer still.
const LONGEST: usize = 1 << 10;

fn content(place: &str, expected: &str, found: &str) -> Problem {
    Problem::Content { place: place.to_owned(), expected: expected.to_owned(), found: found.to_owned() }
}

fn parts(file: &File, length: u64, unknown: Unknown) -> Result<Parts> {
    let mut start = Vec::new();
    file.take(16).read_to_end(&mut start)?;
    let mut whole = file;
    whole.seek(SeekFrom::Start(0))?;
    match start.as_slice() {
        [] => Err(Problem::Format("an empty file".to_owned())),
        [b'P', b'K', ..] => zipped(file, unknown),
        // Protocol 2, an integer of 10 bytes.
        [0x80, 2, 0x8a, 10, number @ ..] if number.starts_with(&MAGIC) => legacy(file, length, unknown),
        [0x80, ..] => Err(Problem::Format("a pickle of another program".to_owned())),
        _ => Err(Problem::Format("another file".to_owned())),
    }
}

fn zipped(file: &File, unknown: Unknown) -> Result<Parts> {
    let broken = |e: zip::result::ZipError| Problem::Format(format!("a zip archive that cannot be read: {e}"));
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    let mut members = std::collections::HashMap::new();
    let mut pickle = None;
    for i in 0..zip.len() {
        let member = zip.by_index_raw(i).map_err(broken)?;
        // All members lie in one folder; its name is the file's and says nothing.
        let name = member.name().split_once('/').map(|(_, name)| name.to_owned());
        let Some(name) = name else { continue };
        if member.compression() != CompressionMethod::Stored
            || member.encrypted()
            || member.size() != member.compressed_size()
        {
            let expected = "expected members that are stored as they are, found one that is compressed or encrypted";
            return Err(Problem::Format(format!(
                "a zip archive whose member {} does not fit: {expected}",
                shown(&name)
            )));
        }
        let place = Place { offset: member.data_start(), length: member.size(), checksum: Some(member.crc32()) };
        if name == "data.pkl" {
            pickle = Some(place);
        }
        if members.insert(name.clone(), place).is_some() {
            return Err(Problem::Format(format!("a zip archive with two members {}", shown(&name))));
        }
    }
    let Some(pickle) = pickle else {
        return Err(Problem::Format("a zip archive without data.pkl".to_owned()));
    };
    let swap = match members.get("byteorder") {
        None => false,
        Some(place) => match member(file, *place)?.as_slice() {
            b"little" => false,
            b"big" => true,
            other => return Err(Problem::Format(format!("a byte order {}", shown(&String::from_utf8_lossy(other))))),
        },
    };
    let bytes = member(file, pickle)?;
    let (mut arena, mut storages) = (Arena::default(), Storages::default());
    let mut input = Input::new(bytes.as_slice(), "data.pkl");
    let root = Machine::new(&mut input, &mut arena, &mut storages, unknown).run()?;
    storages.locate(|key| members.get(&format!("data/{key}")).copied())?;
    Ok(Parts { container: Container::Zip, arena, root, storages, swap })
}

/// The bytes of a member, compared with its checksum.
fn member(mut file: &File, place: Place) -> Result<Vec<u8>> {
    const MOST: u64 = 1 << 28;
    if place.length > MOST {
        return Err(Problem::Limit { what: "bytes of a pickle", most: MOST });
    }
    file.seek(SeekFrom::Start(place.offset))?;
    let mut bytes = Vec::new();
    file.take(place.length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != place.length || place.checksum.is_some_and(|sum| sum != crc32fast::hash(&bytes)) {
        return Err(Problem::Format("a zip archive whose data.pkl or byteorder is damaged".to_owned()));
    }
    Ok(bytes)
}

/// Magic number, version, machine, the object, the keys of the storages in order; then each storage behind its length.
fn legacy(file: &File, length: u64, unknown: Unknown) -> Result<Parts> {
    let mut input = Input::new(BufReader::new(file), "the file");
    let (mut arena, mut storages) = (Arena::default(), Storages::default());
    let mut next = || Machine::new(&mut input, &mut arena, &mut storages, unknown).run();
    let (_magic, version, system, root, keys) = (next()?, next()?, next()?, next()?, next()?);
    if !matches!(arena.get(version), Node::Int(1001)) {
        return Err(Problem::Format("a version of the old format other than 1001".to_owned()));
    }
    let swap = match arena.get(system) {
        Node::Dict(pairs) => pairs.iter().any(|(key, value)| {
            matches!(arena.get(*key), Node::Text(t) if &**t == "little_endian")
                && matches!(arena.get(*value), Node::Bool(false))
        }),
        _ => return Err(Problem::Format("no description of the machine".to_owned())),
    };
    let Node::List(keys) = arena.get(keys) else {
        return Err(content("the list of storages", "keys", &arena.kind(keys)));
    };
    let mut order = Vec::new();
    for key in keys {
        match arena.get(*key) {
            Node::Text(key) => order.push(key.to_string()),
            _ => return Err(content("the list of storages", "keys", &arena.kind(*key))),
        }
    }
    let mut at = input.at;
    let mut places = std::collections::HashMap::new();
    let mut file = file;
    for key in order {
        let Some((dtype, _)) = storages.by_name(&key) else {
            return Err(content("the list of storages", "keys that a tensor names", &shown(&key)));
        };
        file.seek(SeekFrom::Start(at))?;
        let mut count = [0; 8];
        let cut = |at| Problem::Cut { expected: "a storage", at, part: "the file" };
        file.read_exact(&mut count).map_err(|_| cut(at))?;
        let bytes = u64::from_le_bytes(count).checked_mul(dtype.size());
        let offset = at + 8;
        let end = bytes.and_then(|n| offset.checked_add(n)).filter(|end| *end <= length);
        let (Some(bytes), Some(end)) = (bytes, end) else { return Err(cut(offset)) };
        places.insert(key, Place { offset, length: bytes, checksum: None });
        at = end;
    }
    storages.locate(|key| places.get(key).copied())?;
    Ok(Parts { container: Container::Legacy, arena, root, storages, swap })
}

//! Files that mean harm, or were harmed: each is a typed error, soon, and in little memory; nothing is executed.

use std::io::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tavq_pickle::{Archive, Described, Dtype, PickleError, Problem, Unknown, write};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)).unwrap()
}

/// A zip archive of members as `torch.save` stores them.
fn zip(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn opened(bytes: &[u8], unknown: Unknown) -> Result<Archive, PickleError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pt");
    std::fs::write(&path, bytes).unwrap();
    let read = Archive::open(&path, unknown).and_then(|mut archive| {
        for (_, info) in archive.all()? {
            match archive.read(&info) {
                Err(e) if matches!(e.problem, Problem::Limit { .. }) => {}
                other => drop(other?),
            }
        }
        Ok(archive)
    });
    if let Err(error) = &read {
        let text = error.to_string();
        assert!(!text.contains(['\n', '\x1b']) && text.len() < 1500, "{text}");
    }
    read
}

fn pickled(pickle: &[u8]) -> Vec<u8> {
    zip(&[("x/data.pkl", pickle), ("x/data/0", &[1; 24])], CompressionMethod::Stored)
}

fn refusal(pickle: &[u8]) -> String {
    opened(&pickled(pickle), Unknown::Refuse).unwrap_err().problem.to_string()
}

/// Text as protocol 4 writes it.
fn short(text: &str) -> Vec<u8> {
    [&[0x8c, text.len() as u8][..], text.as_bytes()].concat()
}

/// A storage of `elements` f32 values, and a tensor over it.
fn tensor(elements: &str, offset: &str, shape: &str, strides: &str) -> Vec<u8> {
    format!(
        "ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI{elements}\ntQI{offset}\n({shape}t({strides}tI00\nNtR."
    )
    .into_bytes()
}

#[test]
fn programs_are_refused_by_name_and_never_run() {
    let dir = tempfile::tempdir().unwrap();
    let proof = dir.path().join("executed");
    let command = format!("touch {}", proof.display());
    let system = |module: &str, name: &str| format!("c{module}\n{name}\n(S'{command}'\ntR.").into_bytes();
    let stack = |module: &str, name: &str| {
        [&[0x80, 4][..], &short(module), &short(name), &[0x93], &short(&command), &[0x85, b'R', b'.']].concat()
    };
    let inside = |program: &[u8]| [b"}(S'state_dict'\n}(S'a'\n", &program[..program.len() - 1], b"uu."].concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (system("os", "system"), "os.system"),
        (system("posix", "system"), "posix.system"),
        (system("builtins", "eval"), "builtins.eval"),
        (system("builtins", "exec"), "builtins.exec"),
        (system("builtins", "getattr"), "builtins.getattr"),
        (system("subprocess", "Popen"), "subprocess.Popen"),
        (system("torch.storage", "_load_from_bytes"), "torch.storage._load_from_bytes"),
        (system("torch", "load"), "torch.load"),
        (system("torch", "FloatStorage.__class__"), "torch.FloatStorage.__class__"),
        (system("collections", "OrderedDict.fromkeys"), "collections.OrderedDict.fromkeys"),
        (stack("posix", "system"), "posix.system"),
        (stack("os\u{1b}[2J", "system"), "os\\u{1b}[2J.system"),
        (inside(&system("os", "system")), "os.system"),
        (inside(&stack("nt", "system")), "nt.system"),
        (format!("(S'{command}'\nios\nsystem\n.").into_bytes(), "os.system"),
        (format!("(cos\nsystem\nS'{command}'\no.").into_bytes(), "os.system"),
        ([&[0x80, 4][..], &short("os"), &short("system"), &[0x93], b")\x81."].concat(), "os.system"),
    ];
    for (pickle, name) in &cases {
        let error = opened(&pickled(pickle), Unknown::Refuse).unwrap_err();
        let Problem::Global(found) = &error.problem else { panic!("{name}: {error}") };
        assert_eq!(found, name);
        // As placeholders they are inert; a tensor they are not.
        if let Ok(archive) = opened(&pickled(pickle), Unknown::Placeholder) {
            assert_eq!(archive.placeholders(), [*name]);
            assert!(archive.all().unwrap().is_empty());
            if archive.keys() == ["state_dict"] {
                let text = archive.state(Some("state_dict")).unwrap_err().to_string();
                assert!(text.contains("state_dict: a: expected a tensor, found an object of"), "{text}");
            }
        }
    }
    assert!(!proof.exists());
}

#[test]
fn what_has_no_place_in_a_checkpoint_is_refused() {
    let storage = "ctorch\nFloatStorage\n";
    let cases: Vec<(Vec<u8>, &str)> = vec![
        // Attributes of a function, and calls of what is no function.
        (b"ctorch._utils\n_rebuild_tensor_v2\n}S'x'\nI1\nsb.".to_vec(), "a dict whose attributes are set"),
        (b"(lS'x'\nb.".to_vec(), "found a list"),
        (b"}(S'a'\nI1\nu)R.".to_vec(), "a known function to call, found a dict"),
        (b"ccollections\nOrderedDict\nI1\nR.".to_vec(), "a tuple of arguments, found an integer"),
        (b"ccollections\nOrderedDict\n(I1\nI2\ntR.".to_vec(), "OrderedDict with 2"),
        (b"ccollections\nOrderedDict\n(((I1\nI2\nlS'x'\nltR.".to_vec(), "a list or tuple"),
        (b"ctorch\nFloatStorage\n)R.".to_vec(), "known function"),
        (b"(I1\nicollections\nOrderedDict\n.".to_vec(), "a class"),
        // Extension codes and foreign buffers.
        (b"\x82\x01.".to_vec(), "extension code"),
        (b"\x83\x01\x00.".to_vec(), "extension code"),
        (b"\x84\x01\x00\x00\x00.".to_vec(), "extension code"),
        (b"\x80\x05\x97.".to_vec(), "buffer"),
        // Persistent ids that name no storage.
        (b"Pos.system\n.".to_vec(), "persistent id of text"),
        (b"I1\nQ.".to_vec(), "found an integer"),
        (b"(tQ.".to_vec(), "found a tuple"),
        (format!("(S'module'\n{storage}S'0'\nS'cpu'\nI6\ntQ.").into_bytes(), "found a text"),
        (b"(S'storage'\nS'x'\nS'0'\nS'cpu'\nI6\ntQ.".to_vec(), "the type of a storage"),
        (format!("(S'storage'\n{storage}I0\nS'cpu'\nI6\ntQ.").into_bytes(), "the key of a storage"),
        (format!("(S'storage'\n{storage}S'0'\nS'cpu'\nI-6\ntQ.").into_bytes(), "found -6"),
        (format!("(S'storage'\n{storage}S'{}'\nS'cpu'\nI6\ntQ.", "k".repeat(300)).into_bytes(), "300 bytes"),
        (format!("(S'storage'\n{storage}S'0'\nS'cpu'\nI6\n(S'1'\nI0\nI2\nttQ.").into_bytes(), "no view of another"),
        (format!("(S'storage'\n{storage}S'9'\nS'cpu'\nI6\ntQ.").into_bytes(), "storage 9: expected its bytes"),
        (format!("(S'storage'\n{storage}S'../../etc/passwd'\nS'cpu'\nI6\ntQ.").into_bytes(), "found none"),
        (format!("(S'storage'\n{storage}S'0'\nS'cpu'\nI7\ntQ.").into_bytes(), "28 bytes (7 x f32), found 24"),
        (
            format!(
                "((S'storage'\n{storage}S'0'\nS'cpu'\nI6\ntQ(S'storage'\nctorch\nIntStorage\nS'0'\nS'cpu'\nI6\ntQt."
            )
            .into_bytes(),
            "6 x f32 again, found 6 x i32",
        ),
        // Stack, marks, memo, numbers, texts.
        (b".".to_vec(), "an object on the stack"),
        (b"(.".to_vec(), "an object on the stack"),
        (b"I1\n(R.".to_vec(), "an object on the stack"),
        (b"t.".to_vec(), "a mark on the stack"),
        (b"}I1\n(I2\nu.".to_vec(), "a value for each key"),
        (b"I1\nI2\na.".to_vec(), "a list or set to add to"),
        (b"(lI1\nI2\ns.".to_vec(), "a dict to add to"),
        (b"g7\n.".to_vec(), "an object in the memo"),
        (b"gx\n.".to_vec(), "a number of the memo"),
        (b"j\xff\xff\xff\xff.".to_vec(), "an object in the memo"),
        (b"Iabc\n.".to_vec(), "an integer, found abc"),
        (b"L--1L\n.".to_vec(), "an integer"),
        (b"Fx\n.".to_vec(), "a number, found x"),
        (b"S'\\x41'\n.".to_vec(), "without escapes"),
        (b"\x8c\x01\xff.".to_vec(), "UTF-8"),
        (b"\x80\x09.".to_vec(), "a protocol"),
        (b"\xff".to_vec(), "the byte 0xff"),
        (b"".to_vec(), "cut short"),
        (b"X\xff\xff\xff\x7fab".to_vec(), "at most 268435456 bytes of a pickle"),
        (b"X\xff\xff\xff\x00ab".to_vec(), "a text at offset 7 of data.pkl"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), "bytes of a pickle"),
        (b"\x8b\xff\xff\xff\xff".to_vec(), "bytes of a pickle"),
        ([b"V".to_vec(), vec![b'a'; 70_000]].concat(), "bytes in a line"),
    ];
    for (pickle, part) in cases {
        let text = refusal(&pickle);
        assert!(text.contains(part), "{:?}: {text}", String::from_utf8_lossy(&pickle));
    }
}

#[test]
fn a_tensor_lies_inside_its_storage() {
    let six = |offset: &str, shape: &str, strides: &str| tensor("6", offset, shape, strides);
    assert!(opened(&pickled(&six("0", "I2\nI3\n", "I3\nI1\n")), Unknown::Refuse).is_ok());
    let huge = i64::MAX.to_string();
    let cases = [
        (six("1", "I2\nI3\n", "I3\nI1\n"), "a tensor within 6 elements"),
        (six("0", "I2\nI3\n", "I4\nI1\n"), "a tensor within 6 elements"),
        (six("0", "I7\n", "I1\n"), "a tensor within 6 elements"),
        (six("0", "I2\nI3\n", "I1\n"), "a stride for each axis, found 1 for 2"),
        (six("0", "I-2\n", "I1\n"), "at least 0, found -2"),
        (six("0", "I2\n", "I-1\n"), "at least 0, found -1"),
        (six("-1", "I2\n", "I1\n"), "found -1"),
        (six("0", &format!("L{huge}L\nL{huge}L\n"), "I1\nI1\n"), "product fits 64 bits"),
        (six("0", &format!("L{huge}L\n"), "I0\n"), "product fits 64 bits"),
        (six("0", "I2\n", &format!("L{huge}0L\n")), "found an integer"),
        (six(&huge, "I4\n", &format!("L{huge}L\n")), "product fits 64 bits"),
        (six("0", &"I1\n".repeat(65), &"I1\n".repeat(65)), "at most 64 axes"),
        (tensor(&huge, "0", "I2\n", "I1\n"), "as many bytes as 64 bits can count"),
        (tensor("1000000000000", "0", "I1000000000000\n", "I1\n"), "4000000000000 bytes"),
    ];
    for (pickle, part) in cases {
        let text = refusal(&pickle);
        assert!(text.contains(part), "{:?}: {text}", String::from_utf8_lossy(&pickle));
    }
    // A stride of 0 repeats a value; terabytes of it are described, and refused when they are asked for.
    let wide = pickled(&six("0", "L1000000000000L\n", "I0\n"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pt");
    std::fs::write(&path, wide).unwrap();
    let mut archive = Archive::open(&path, Unknown::Refuse).unwrap();
    let all = archive.all().unwrap();
    assert_eq!(all[0].1.values(), 1_000_000_000_000);
    assert!(archive.read(&all[0].1).unwrap_err().to_string().contains("bytes of values"));
}

#[test]
fn many_names_of_one_storage_do_not_multiply_it() {
    let values = vec![0u8; 1 << 20];
    let one = |name: usize| {
        [format!("S'{name}'\n").into_bytes(), tensor("262144", "0", "I262144\n", "I1\n")]
            .concat()
            .strip_suffix(b".")
            .unwrap()
            .to_vec()
    };
    let pickle = [b"}(".to_vec(), (0..300).flat_map(one).collect(), b"u.".to_vec()].concat();
    let bytes = zip(&[("x/data.pkl", &pickle), ("x/data/0", &values)], CompressionMethod::Stored);
    let archive = opened(&bytes, Unknown::Refuse).unwrap();
    assert_eq!(archive.all().unwrap().len(), 300);
    let text = archive.state(None).unwrap_err().to_string();
    assert!(text.contains("bytes of values for a file of this length"), "{text}");
}

/// Each list holds the one before it many times: written out, more items than there are atoms.
#[test]
fn laughs_stay_small() {
    let mut pickle = b"(lp0\n".to_vec();
    for level in 1..60 {
        pickle.extend(b"(");
        pickle.extend(format!("g{}\n", level - 1).repeat(60).bytes());
        pickle.extend(format!("lp{level}\n").bytes());
    }
    pickle.push(b'.');
    let archive = opened(&pickled(&pickle), Unknown::Refuse).unwrap();
    assert!(archive.all().unwrap().is_empty());
    // A list inside itself, and nesting that would exhaust any stack.
    assert!(opened(&pickled(b"(lp0\ng0\na."), Unknown::Refuse).is_ok());
    let deep = [b"]".repeat(500_000), b"a".repeat(499_999), b".".to_vec()].concat();
    assert!(opened(&pickled(&deep), Unknown::Refuse).is_ok());
}

/// A few bytes that copy megabytes, again and again.
#[test]
fn copies_are_charged() {
    let mut set = b"(".to_vec();
    set.extend(b"I1\n".repeat(100_000));
    set.extend(b"lp0\n(");
    let copies = [
        b"cbuiltins\nset\n(g0\ntR".repeat(2000),
        b"ccollections\nOrderedDict\n(g0\ntR".repeat(2000),
        b"ctorch\nSize\n(g0\ntR".repeat(2000),
    ];
    for more in copies {
        let text = refusal(&[&set[..], &more, b"t."].concat());
        assert!(text.contains("instructions of a pickle") || text.contains("list or tuple"), "{text}");
    }
    let memo = [b"N".to_vec(), vec![0x94; 9 << 20], b".".to_vec()].concat();
    assert!(refusal(&memo).contains("instructions of a pickle"));
    let objects = [b"N".repeat(5 << 20), b".".to_vec()].concat();
    assert!(refusal(&objects).contains("at most 4194304 objects"));
    let marks = [b"(".repeat(9 << 20), b".".to_vec()].concat();
    assert!(refusal(&marks).contains("instructions of a pickle"));
}

#[test]
fn archives_that_are_not_as_torch_writes_them() {
    let pickle = b"}.".as_slice();
    let format = |bytes: &[u8], part: &str| {
        let error = opened(bytes, Unknown::Refuse).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error.problem, Problem::Format(_)) && text.contains(part), "{part}: {text}");
    };
    let zeros = vec![0; 32 << 20];
    let bomb = zip(&[("x/data.pkl", pickle), ("x/data/0", &zeros)], CompressionMethod::Deflated);
    assert!(bomb.len() < 100_000);
    format(&bomb, "compressed");
    format(&zip(&[("x/other", pickle)], CompressionMethod::Stored), "without data.pkl");
    format(&zip(&[("data.pkl", pickle)], CompressionMethod::Stored), "without data.pkl");
    format(&zip(&[("x/data.pkl", pickle), ("y/data.pkl", pickle)], CompressionMethod::Stored), "two members data.pkl");
    let order = [("x/data.pkl", pickle), ("x/byteorder", b"middle")];
    format(&zip(&order, CompressionMethod::Stored), "a byte order middle");
    format(b"", "an empty file");
    format(b"PK", "zip archive");
    format(b"\x80\x02}.", "another program");
    format(b"hello, world", "another file");
    let dir = tempfile::tempdir().unwrap();
    let folder = Archive::open(dir.path(), Unknown::Refuse).unwrap_err();
    assert!(folder.to_string().contains("found a folder"), "{folder}");
    let gone = Archive::open(&dir.path().join("gone.pt"), Unknown::Refuse).unwrap_err();
    assert!(matches!(gone.problem, Problem::Io(_)), "{gone}");
    // Names are keys into the archive and never paths.
    let climbing = [("../../data.pkl", pickle), ("x/data.pkl", pickle)];
    assert!(opened(&zip(&climbing, CompressionMethod::Stored), Unknown::Refuse).is_ok());
}

#[test]
fn a_flipped_bit_in_the_values_is_found() {
    let tensor = Described { name: "a".into(), dtype: Dtype::F32, shape: vec![100] };
    let mut bytes = Vec::new();
    write(&mut bytes, None, &[], &[tensor], |_| Ok(vec![7; 400])).unwrap();
    let at = bytes.windows(400).position(|w| w == [7; 400]).unwrap();
    bytes[at + 200] ^= 1;
    let error = opened(&bytes, Unknown::Refuse).unwrap_err().to_string();
    assert!(error.contains("storage 0: expected CRC-32") && error.contains("damaged"), "{error}");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for name in ["zip.pt", "legacy.pt"] {
        let whole = golden(name);
        assert!(opened(&whole, Unknown::Refuse).is_ok());
        for n in (0..whole.len()).filter(|n| n % 7 == 0 || whole.len() - n < 64) {
            assert!(opened(&whole[..n], Unknown::Refuse).is_err(), "{name}: {n} of {} bytes", whole.len());
        }
    }
}

fn paths() -> impl Strategy<Value = PathBuf> {
    prop_oneof![Just("zip.pt"), Just("legacy.pt"), Just("lightning2.ckpt"), Just("lightning5.ckpt")]
        .prop_map(PathBuf::from)
}

proptest! {
    /// Whatever comes, there is an answer. `opened` reads all values too, and looks at the message.
    #[test]
    fn random_instructions(pickle in proptest::collection::vec(prop_oneof![
        proptest::sample::select(b"(.0N2}])tadelsu1QRb\x85\x86\x87\x88\x8f\x90\x91\x94".to_vec()).prop_map(|b| vec![b]),
        any::<u8>().prop_map(|b| vec![b]),
        any::<u8>().prop_map(|n| vec![b'K', n]),
        (0u8..8).prop_map(|n| vec![b'h', n]),
        (0u8..8).prop_map(|n| vec![b'q', n]),
        Just(b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec()),
        Just(b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000NK\x06tQ".to_vec()),
        Just(b"ccollections\nOrderedDict\n".to_vec()),
    ], 0..60)) {
        for unknown in [Unknown::Refuse, Unknown::Placeholder] {
            let _ = opened(&pickled(&pickle.concat()), unknown);
        }
    }

    #[test]
    fn files_with_changed_bytes(name in paths(), changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let mut bytes = golden(name.to_str().unwrap());
        let length = bytes.len();
        for (at, byte) in changes {
            bytes[at % length] = byte;
        }
        for unknown in [Unknown::Refuse, Unknown::Placeholder] {
            let _ = opened(&bytes, unknown);
        }
    }

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = opened(&bytes, Unknown::Placeholder);
        let _ = opened(&[&b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."[..], &bytes].concat(), Unknown::Placeholder);
    }

    #[test]
    fn what_was_written_is_read(shapes in proptest::collection::vec(proptest::collection::vec(0u64..5, 0..5), 0..6), seed in any::<u8>()) {
        let described: Vec<Described> = shapes.iter().enumerate()
            .map(|(i, shape)| Described { name: format!("t.{i}"), dtype: Dtype::I16, shape: shape.clone() }).collect();
        let values = |i: usize| vec![seed.wrapping_add(i as u8); shapes[i].iter().product::<u64>() as usize * 2];
        let mut bytes = Vec::new();
        write(&mut bytes, None, &[], &described, |i| Ok(values(i))).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pt");
        std::fs::write(&path, bytes).unwrap();
        let mut archive = Archive::open(&path, Unknown::Refuse).unwrap();
        let state = archive.state(None).unwrap();
        prop_assert_eq!(state.len(), shapes.len());
        for (i, (name, info)) in state.iter().enumerate() {
            prop_assert_eq!((name, &info.shape), (&described[i].name, &shapes[i]));
            prop_assert_eq!(archive.read(info).unwrap(), values(i));
        }
    }
}

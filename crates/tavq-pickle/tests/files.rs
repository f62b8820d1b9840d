//! Files of `torch.save`, read and written; `golden/saved.py` says how they were made.

use std::path::{Path, PathBuf};

use tavq_pickle::{Archive, Container, Described, Dtype, Problem, TensorInfo, Unknown, write};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn open(name: &str) -> Archive {
    Archive::open(&golden(name), Unknown::Refuse).unwrap()
}

/// Values of a small tensor as numbers.
fn numbers(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    let bf16 = |b: &[u8]| f64::from(f32::from_le_bytes([0, 0, b[0], b[1]]));
    let f16 = |b: &[u8]| {
        let bits = u16::from_le_bytes([b[0], b[1]]);
        // Whole numbers below 2048 are normal in f16.
        if bits == 0 {
            0.0
        } else {
            (1.0 + f64::from(bits & 0x3ff) / 1024.0) * f64::from((bits >> 10) as i32 - 15).exp2()
        }
    };
    bytes
        .chunks(dtype.size() as usize)
        .map(|b| match dtype {
            Dtype::F64 => f64::from_le_bytes(b.try_into().unwrap()),
            Dtype::F32 => f32::from_le_bytes(b.try_into().unwrap()).into(),
            Dtype::F16 => f16(b),
            Dtype::Bf16 => bf16(b),
            Dtype::I64 => i64::from_le_bytes(b.try_into().unwrap()) as f64,
            Dtype::I32 => i32::from_le_bytes(b.try_into().unwrap()).into(),
            Dtype::I16 => i16::from_le_bytes(b.try_into().unwrap()).into(),
            Dtype::I8 => i8::from_le_bytes(b.try_into().unwrap()).into(),
            Dtype::U8 | Dtype::Bool => b[0].into(),
        })
        .collect()
}

fn find(tensors: &[(String, TensorInfo)], name: &str) -> TensorInfo {
    tensors.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}")).1.clone()
}

#[test]
fn every_type_and_every_view_in_both_formats() {
    let up = |n: i32| (0..n).map(f64::from).collect::<Vec<_>>();
    let expected: Vec<(&str, Dtype, &[u64], Vec<f64>)> = vec![
        ("float64", Dtype::F64, &[2, 3], up(6)),
        ("float32", Dtype::F32, &[2, 3], up(6)),
        ("float16", Dtype::F16, &[2, 3], up(6)),
        ("bfloat16", Dtype::Bf16, &[2, 3], up(6)),
        ("int64", Dtype::I64, &[2, 3], up(6)),
        ("int32", Dtype::I32, &[2, 3], up(6)),
        ("int16", Dtype::I16, &[2, 3], up(6)),
        ("int8", Dtype::I8, &[2, 3], up(6)),
        ("uint8", Dtype::U8, &[2, 3], up(6)),
        ("bool", Dtype::Bool, &[2, 3], vec![0.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("whole", Dtype::F32, &[24], up(24)),
        ("view", Dtype::F32, &[2, 3], vec![4.0, 5.0, 6.0, 7.0, 8.0, 9.0]),
        ("transposed", Dtype::F32, &[6, 4], (0..24).map(|i| f64::from(i / 4 + 6 * (i % 4))).collect()),
        ("strided", Dtype::F32, &[2, 2], vec![6.0, 9.0, 18.0, 21.0]),
        ("expanded", Dtype::F32, &[3, 2], vec![3.0, 4.0, 3.0, 4.0, 3.0, 4.0]),
        ("scalar", Dtype::F32, &[], vec![7.5]),
        ("empty", Dtype::F32, &[0, 4], vec![]),
        ("parameter", Dtype::F32, &[3], up(3)),
    ];
    for (file, container) in [("zip.pt", Container::Zip), ("legacy.pt", Container::Legacy)] {
        let mut archive = open(file);
        assert_eq!(archive.container(), container);
        let tensors = archive.state(None).unwrap();
        assert_eq!(tensors.len(), expected.len());
        for (name, dtype, shape, values) in &expected {
            let info = find(&tensors, name);
            assert_eq!((info.dtype, &info.shape[..]), (*dtype, *shape), "{file}: {name}");
            let bytes = archive.read(&info).unwrap();
            assert_eq!(numbers(*dtype, &bytes), *values, "{file}: {name}");
        }
    }
}

#[test]
fn values_of_a_big_endian_machine_are_turned_round() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.pt");
    let mut bytes = std::fs::read(golden("zip.pt")).unwrap();
    // The member that names the order, with its checksum in both places; "big" and three blanks would be longer.
    let old = crc32fast::hash(b"little").to_le_bytes();
    let at = bytes.windows(6).position(|w| w == b"little").unwrap();
    bytes[at..at + 3].copy_from_slice(b"big");
    for i in 0..bytes.len() - 4 {
        if bytes[i..i + 4] == old {
            bytes[i..i + 4].copy_from_slice(&crc32fast::hash(b"big").to_le_bytes());
            // Both sizes follow the checksum.
            bytes[i + 4..i + 8].copy_from_slice(&3u32.to_le_bytes());
            bytes[i + 8..i + 12].copy_from_slice(&3u32.to_le_bytes());
        }
    }
    std::fs::write(&path, bytes).unwrap();
    let mut archive = Archive::open(&path, Unknown::Refuse).unwrap();
    let info = find(&archive.state(None).unwrap(), "int32");
    let values = archive.read(&info).unwrap();
    assert_eq!(numbers(Dtype::I32, &values)[..3], [0.0, f64::from(1 << 24), f64::from(2 << 24)]);
}

#[test]
fn a_trainers_checkpoint_is_refused_by_name_and_read_on_request() {
    for file in ["lightning2.ckpt", "lightning5.ckpt"] {
        let error = Archive::open(&golden(file), Unknown::Refuse).unwrap_err();
        let Problem::Global(name) = &error.problem else { panic!("{error}") };
        assert_eq!(name, "__main__.Callback");
        let text = error.to_string();
        assert!(text.contains(file) && text.contains("nothing was executed"), "{text}");
        let mut archive = Archive::open(&golden(file), Unknown::Placeholder).unwrap();
        let placeholders = archive.placeholders();
        assert_eq!(placeholders[0], "__main__.Callback");
        assert!(placeholders.iter().any(|n| n.ends_with("multiarray.scalar")), "{placeholders:?}");
        assert_eq!(archive.integer("global_step"), Some(1234));
        assert_eq!(archive.keys()[..2], ["epoch", "global_step"]);
        let state = archive.state(Some("state_dict")).unwrap();
        let names: Vec<&str> = state.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(
            names,
            ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]
        );
        let tracked = archive.read(&find(&state, "1.num_batches_tracked")).unwrap();
        assert_eq!(numbers(Dtype::I64, &tracked), [1.0]);
        let all = archive.all().unwrap();
        assert!(all.iter().any(|(n, _)| n == "optimizer_states.0.state.0.exp_avg"), "{all:?}");
        assert!(all.iter().any(|(n, _)| n == "callbacks.?.best"));
        for (key, part) in [("callbacks", "names"), ("epoch", "an integer"), ("gone", "no such key")] {
            let text = archive.state(Some(key)).unwrap_err().to_string();
            assert!(text.contains(part), "{key}: {text}");
        }
    }
}

#[test]
fn what_is_written_is_read_back_to_the_bit() {
    let source = &mut open("zip.pt");
    let state = source.state(None).unwrap();
    let described: Vec<Described> = state
        .iter()
        .map(|(name, info)| Described { name: name.clone(), dtype: info.dtype, shape: info.shape.clone() })
        .collect();
    let values: Vec<Vec<u8>> = state.iter().map(|(_, info)| source.read(info).unwrap()).collect();
    let write_to = |out: &mut Vec<u8>| {
        write(out, Some("state_dict"), &[("global_step", 1 << 40)], &described, |i| Ok(values[i].clone())).unwrap();
    };
    let (mut bytes, mut again) = (Vec::new(), Vec::new());
    write_to(&mut bytes);
    write_to(&mut again);
    assert_eq!(bytes, again);
    let dir = tempfile::tempdir().unwrap();
    // `golden/saved.py check` lets PyTorch read the file.
    let path = std::env::var_os("TAVQ_WRITTEN").map_or(dir.path().join("x.pt"), PathBuf::from);
    std::fs::write(&path, &bytes).unwrap();
    let mut back = Archive::open(&path, Unknown::Refuse).unwrap();
    assert_eq!(back.integer("global_step"), Some(1 << 40));
    let tensors = back.state(Some("state_dict")).unwrap();
    assert_eq!(tensors.len(), described.len());
    for (i, (name, info)) in tensors.iter().enumerate() {
        assert_eq!((name, info.dtype, &info.shape), (&described[i].name, described[i].dtype, &described[i].shape));
        assert_eq!(back.read(info).unwrap(), values[i], "{name}");
    }
    let short = write(&mut Vec::new(), None, &[], &described, |_| Ok(vec![0])).unwrap_err();
    assert!(short.to_string().contains("float64: expected 48 bytes, found 1"), "{short}");
}

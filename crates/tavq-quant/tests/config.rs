//! What a configuration may say: names, defaults, ranges.

use tavq_quant::{QuantError, QuantizerConfig};
use tch::Device;
use tch::nn::VarStore;

fn parse(text: &str) -> Result<QuantizerConfig, String> {
    toml::from_str(text).map_err(|e| e.message().to_owned())
}

#[test]
fn a_kind_alone_takes_the_defaults_and_survives_a_round_trip() {
    for (kind, codes) in [
        ("vq", 1024),
        ("ema", 1024),
        ("cvq", 1024),
        ("simvq", 1024),
        ("fsq", 1000),
        ("gumbel", 1024),
        ("lfq", 1024),
        ("residual", 1024),
    ] {
        let config = parse(&format!("kind = \"{kind}\"")).unwrap();
        config.check().unwrap();
        assert_eq!(config.codes(), codes);
        assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
    }
}

#[test]
fn unknown_names_are_refused_with_the_known_ones() {
    let table = [
        ("kind = \"bsq\"", ["bsq", "`vq`, `ema`, `cvq`, `simvq`, `fsq`, `gumbel`, `lfq`, `residual`"]),
        ("kind = \"vq\"\nbeat = 1.0", ["beat", "`beta`"]),
        ("kind = \"cvq\"\nanchor = \"farthest\"", ["farthest", "`closest`, `random`, `probrandom`"]),
        ("kind = \"ema\"\ndistance = \"l1\"", ["l1", "`l2` or `cos`"]),
        ("kind = \"vq\"\nform = \"taming\"", ["taming", "`standard` or `legacy`"]),
        ("kind = \"vq\"\nstart = \"zeros\"", ["zeros", "`uniform`, `first_batch`, `kmeans`"]),
        ("kind = \"residual\"\npath = \"last\"", ["last", "`first` or `every`"]),
        ("kind = \"residual\"\nquantizer = { kind = \"vq\", beat = 1.0 }", ["beat", "`beta`"]),
        ("kind = \"ema\"\ngradient = \"gumbel\"", ["gumbel", "`straight_through` or `rotation`"]),
    ];
    for (text, parts) in table {
        let error = parse(text).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
    }
}

#[test]
fn stages_that_could_not_learn_are_refused() {
    for (text, says) in [
        (
            "kind = \"residual\"\nquantizer = { kind = \"gumbel\" }",
            "quantizer.path: expected every with stages of gumbel",
        ),
        ("kind = \"residual\"\ndepth = 64\nscale = 0.1", "quantizer.scale: expected a last stage in units of at least"),
    ] {
        let config: QuantizerConfig = toml::from_str(text).unwrap();
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_value_out_of_range_is_refused_by_name() {
    let number = "a number of at least 0";
    let table = [
        ("vq", "codes", "0", "1 to 16777216", "0"),
        ("ema", "codes", "-3", "1 to 16777216", "-3"),
        ("cvq", "codes", "16777217", "1 to 16777216", "16777217"),
        ("vq", "beta", "-0.5", number, "-0.5"),
        ("simvq", "beta", "-0.5", number, "-0.5"),
        ("simvq", "codes", "0", "1 to 16777216", "0"),
        ("ema", "beta", "nan", number, "NaN"),
        ("cvq", "beta", "inf", number, "inf"),
        ("ema", "decay", "1.5", "0 to 1", "1.5"),
        ("ema", "epsilon", "0.0", "more than 0, at most 1", "0"),
        ("ema", "expire_below", "-1.0", number, "-1"),
        ("cvq", "decay", "1.0", "at least 0, less than 1", "1"),
        ("cvq", "contrastive", "-1.0", number, "-1"),
        ("vq", "kmeans_iterations", "0", "1 to 10000", "0"),
        ("ema", "kmeans_iterations", "-1", "1 to 10000", "-1"),
        ("cvq", "kmeans_iterations", "10001", "1 to 10000", "10001"),
        ("lfq", "bits", "0", "1 to 24", "0"),
        ("lfq", "bits", "25", "1 to 24", "25"),
        ("lfq", "scale", "0.0", "a number of more than 0", "0"),
        ("lfq", "temperature", "inf", "a number of more than 0", "inf"),
        ("lfq", "beta", "-1.0", number, "-1"),
        ("lfq", "entropy", "nan", number, "NaN"),
        ("lfq", "diversity", "-0.5", number, "-0.5"),
        ("residual", "depth", "1", "2 to 64", "1"),
        ("residual", "depth", "65", "2 to 64", "65"),
        ("residual", "dropout", "1.5", "0 to 1", "1.5"),
        ("residual", "dropout_from", "5", "1 to 4", "5"),
        ("residual", "scale", "0.0", "more than 0, at most 1", "0"),
        ("cvq", "temperature", "0.0", "a number of at least 0.000001", "0"),
    ];
    for (kind, field, value, expected, found) in table {
        let config = parse(&format!("kind = \"{kind}\"\n{field} = {value}")).unwrap();
        let store = VarStore::new(Device::Cpu);
        for error in [config.check().unwrap_err(), config.build(&store.root(), 4).map(|_| ()).unwrap_err()] {
            let QuantError::Config { field: f, expected: e, found: v } = error else { panic!("{kind}: {error}") };
            assert_eq!((f, e, v), (format!("quantizer.{field}"), expected.to_owned(), found.to_owned()), "{kind}");
        }
        assert!(store.is_empty(), "{kind}.{field}: a refused configuration left variables");
    }
    let config = parse("kind = \"vq\"").unwrap();
    let error = config.build(&VarStore::new(Device::Cpu).root(), 0).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "dim: expected at least 1, found 0");
}

#[test]
fn what_is_wrong_in_a_stage_is_named_there() {
    let refused = |stage: &str| {
        let config = parse(&format!("kind = \"residual\"\nquantizer = {{ {stage} }}")).unwrap();
        let store = VarStore::new(Device::Cpu);
        let errors = [config.check().err(), config.build(&store.root(), 4).err()];
        errors.into_iter().flatten().map(|e| e.to_string()).next().unwrap()
    };
    assert_eq!(refused("kind = \"vq\", codes = 0"), "quantizer.quantizer.codes: expected 1 to 16777216, found 0");
    let says = "quantizer.quantizer.bits: expected as many as vectors are wide, 4, found 10";
    assert_eq!(refused("kind = \"lfq\""), says);
    let says = "quantizer.quantizer.kind: expected any kind but residual, found residual";
    assert_eq!(refused("kind = \"residual\""), says);
}

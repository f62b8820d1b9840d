//! What a configuration may say and what a model takes.

use tavq_backbone::{BackboneConfig, DiscriminatorConfig, VitConfig, VqganConfig, VqvaeConfig};
use tavq_quant::QuantError;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

fn parse(text: &str) -> Result<BackboneConfig, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

#[test]
fn a_kind_alone_takes_the_defaults_and_survives_a_round_trip() {
    let table = [
        ("vqgan", BackboneConfig::Vqgan(VqganConfig::default())),
        ("vqvae", BackboneConfig::Vqvae(VqvaeConfig::default())),
        ("vit", BackboneConfig::Vit(VitConfig::default())),
    ];
    for (kind, config) in table {
        assert_eq!(parse(&format!("{{\"kind\": \"{kind}\"}}")).unwrap(), config);
        assert_eq!(parse(&serde_json::to_string(&config).unwrap()).unwrap(), config);
        config.check().unwrap();
    }
    assert!(parse(r#"{"kind": "unet"}"#).unwrap_err().contains("expected one of `vqgan`, `vqvae`, `vit`"));
    assert!(parse(r#"{"kind": "vit", "wiring": "both"}"#).unwrap_err().contains("expected `taps` or `cascade`"));
    assert!(parse(r#"{"kind": "vqvae", "with": 3}"#).unwrap_err().contains("unknown field `with`"));
}

#[test]
fn a_value_out_of_range_is_refused_by_name() {
    let size = "1 to 65536";
    let table = [
        ("vqgan", r#""ch": 0"#, "ch", size, "0"),
        ("vqgan", r#""ch": 48"#, "ch", "a multiple of 32, the groups of a normalisation", "48"),
        ("vqgan", r#""out_ch": 65537"#, "out_ch", size, "65537"),
        ("vqgan", r#""num_res_blocks": 0"#, "num_res_blocks", size, "0"),
        ("vqgan", r#""in_channels": -1"#, "in_channels", size, "-1"),
        ("vqgan", r#""z_channels": 0"#, "z_channels", size, "0"),
        ("vqgan", r#""embed_dim": 9223372036854775807"#, "embed_dim", size, "9223372036854775807"),
        ("vqgan", r#""resolution": 0"#, "resolution", size, "0"),
        ("vqgan", r#""resolution": 200"#, "resolution", "a multiple of 16, the stride of the latent", "200"),
        ("vqgan", r#""ch_mult": []"#, "ch_mult", "1 to 16 stages", "0"),
        ("vqgan", r#""ch_mult": [1, 0, 2]"#, "ch_mult[1]", "1 to 512 with ch = 128", "0"),
        ("vqgan", r#""ch_mult": [1, 2, 513]"#, "ch_mult[2]", "1 to 512 with ch = 128", "513"),
        ("vqgan", r#""attn_resolutions": [16, 0]"#, "attn_resolutions[1]", size, "0"),
        ("vqgan", r#""dropout": 1.0"#, "dropout", "at least 0 and less than 1", "1"),
        ("vqgan", r#""double_z": true"#, "double_z", "false (true belongs to models without a codebook)", "true"),
        ("vqgan", r#""levels": 2"#, "levels", "1 or 3", "2"),
        ("vqgan", r#""levels": 1, "tap_strides": [2, 4]"#, "tap_strides", "none with levels = 1", "[2, 4]"),
        ("vqgan", r#""ch_mult": [1, 2]"#, "tap_strides", "two strides, or at least three entries in ch_mult", "none"),
        ("vqgan", r#""tap_strides": [8]"#, "tap_strides", "two powers of two from 1 to 16, fine to coarse", "[8]"),
        (
            "vqgan",
            r#""tap_strides": [8, 4]"#,
            "tap_strides",
            "two powers of two from 1 to 16, fine to coarse",
            "[8, 4]",
        ),
        (
            "vqgan",
            r#""tap_strides": [3, 32]"#,
            "tap_strides",
            "two powers of two from 1 to 16, fine to coarse",
            "[3, 32]",
        ),
        ("vqvae", r#""in_channels": 0"#, "in_channels", size, "0"),
        ("vqvae", r#""width": 8"#, "width", "16 to 65536", "8"),
        ("vqvae", r#""halvings": 11"#, "halvings", "1 to 10", "11"),
        ("vqvae", r#""halvings": 2"#, "halvings", "at least 3 with levels = 3", "2"),
        ("vqvae", r#""blocks": -1"#, "blocks", "0 to 1024", "-1"),
        ("vqvae", r#""block_width": 0"#, "block_width", size, "0"),
        ("vqvae", r#""embed_dim": 0"#, "embed_dim", size, "0"),
        ("vqvae", r#""levels": 0"#, "levels", "1 or 3", "0"),
        ("vit", r#""in_channels": 0"#, "in_channels", size, "0"),
        ("vit", r#""patch": 1025"#, "patch", "1 to 1024", "1025"),
        ("vit", r#""width": 0"#, "width", size, "0"),
        ("vit", r#""width": 30"#, "width", "a multiple of 4, for sine and cosine of row and column", "30"),
        ("vit", r#""depth": 0"#, "depth", "1 to 1024", "0"),
        ("vit", r#""heads": -1"#, "heads", size, "-1"),
        ("vit", r#""heads": 7"#, "heads", "a divisor of width = 512", "7"),
        ("vit", r#""mlp": 1048577"#, "mlp", "1 to 1048576", "1048577"),
        ("vit", r#""embed_dim": 0"#, "embed_dim", size, "0"),
        ("vit", r#""levels": 4"#, "levels", "1 or 3", "4"),
        ("vit", r#""levels": 1, "tap_blocks": [1, 2]"#, "tap_blocks", "none with levels = 1", "[1, 2]"),
        ("vit", r#""tap_blocks": [4, 9]"#, "tap_blocks", "two numbers from 1 to depth = 8, not falling", "[4, 9]"),
        ("vit", r#""tap_blocks": [0, 3]"#, "tap_blocks", "two numbers from 1 to depth = 8, not falling", "[0, 3]"),
        ("vit", r#""tap_blocks": [4, 3]"#, "tap_blocks", "two numbers from 1 to depth = 8, not falling", "[4, 3]"),
        ("vit", r#""tap_blocks": [4]"#, "tap_blocks", "two numbers from 1 to depth = 8, not falling", "[4]"),
        ("vqgan", r#""levels": 1, "wiring": "cascade""#, "wiring", "taps with levels = 1", "cascade"),
        ("vqvae", r#""levels": 1, "wiring": "cascade""#, "wiring", "taps with levels = 1", "cascade"),
        ("vit", r#""levels": 1, "wiring": "cascade""#, "wiring", "taps with levels = 1", "cascade"),
    ];
    for (kind, fields, field, expected, found) in table {
        let config = parse(&format!("{{\"kind\": \"{kind}\", {fields}}}")).unwrap();
        let store = VarStore::new(Device::Cpu);
        for error in [config.check().unwrap_err(), config.build(&store.root()).map(|_| ()).unwrap_err()] {
            let QuantError::Config { field: f, expected: e, found: v } = error else { panic!("{fields}: {error}") };
            assert_eq!((f, e, v), (format!("backbone.{field}"), expected.to_owned(), found.to_owned()), "{fields}");
        }
        assert!(store.is_empty(), "{fields}: a refused configuration left variables");
    }
}

#[test]
fn tensors_of_a_wrong_shape_are_refused() {
    let gan = VqganConfig { ch: 32, ch_mult: vec![1, 1, 2], num_res_blocks: 1, embed_dim: 8, ..VqganConfig::default() };
    let vae = VqvaeConfig { width: 32, halvings: 2, levels: 1, embed_dim: 8, ..VqvaeConfig::default() };
    let small = VitConfig { patch: 4, width: 16, depth: 1, heads: 2, embed_dim: 8, ..VitConfig::default() };
    for config in [BackboneConfig::Vqgan(gan), BackboneConfig::Vqvae(vae), BackboneConfig::Vit(small)] {
        let model = config.build(&VarStore::new(Device::Cpu).root()).unwrap();
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let images = |shape: &[i64]| model.encode(&zeros(shape), false).unwrap_err().to_string();
        let latent = |shape: &[i64]| model.decode(&zeros(shape), false).unwrap_err().to_string();
        assert_eq!(images(&[3, 8, 8]), "images: expected shape [?, 3, ?, ?], found [3, 8, 8]");
        assert_eq!(images(&[1, 4, 8, 8]), "images: expected shape [?, 3, ?, ?], found [1, 4, 8, 8]");
        let expected = "images: expected shape [?, 3, a multiple of 4, a multiple of 4], found";
        assert_eq!(images(&[1, 3, 8, 10]), format!("{expected} [1, 3, 8, 10]"));
        assert_eq!(images(&[1, 3, 0, 8]), format!("{expected} [1, 3, 0, 8]"));
        assert_eq!(latent(&[1, 7, 2, 2]), "latent: expected shape [?, 8, ?, ?], found [1, 7, 2, 2]");
        assert_eq!(latent(&[8, 2, 2]), "latent: expected shape [?, 8, ?, ?], found [8, 2, 2]");
    }
}

#[test]
fn a_discriminator_out_of_range_is_refused_by_name() {
    let table = [
        (r#"{"in_channels": 0}"#, "in_channels", "1 to 65536", "0"),
        (r#"{"ndf": 8193}"#, "ndf", "1 to 8192", "8193"),
        (r#"{"n_layers": 9}"#, "n_layers", "1 to 8", "9"),
    ];
    for (text, field, expected, found) in table {
        let config: DiscriminatorConfig = serde_json::from_str(text).unwrap();
        let error = config.check().unwrap_err().to_string();
        assert_eq!(error, format!("discriminator.{field}: expected {expected}, found {found}"));
    }
}

/// docs/configuration.md names every key of every kind, and no other.
#[test]
fn the_documentation_names_every_key() {
    let page = include_str!("../../../docs/configuration.md");
    for kind in ["vqgan", "vqvae", "vit"] {
        let row = page.lines().find(|l| l.starts_with(&format!("| backbone `{kind}` |"))).unwrap();
        let config = parse(&format!("{{\"kind\": \"{kind}\"}}")).unwrap();
        let value = serde_json::to_value(config).unwrap();
        let mut expected: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut found: Vec<&str> = row.split('`').skip(1).step_by(2).filter(|n| !n.contains("::")).collect();
        expected.retain(|key| *key != "kind");
        found.retain(|key| *key != kind);
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{kind}");
    }
}

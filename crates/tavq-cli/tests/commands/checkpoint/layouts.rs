//! Models of diffusers, taming and LlamaGen: against their own results, and there and back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tavq_backbone::layouts::{Codebook, Layout};
use tavq_torch::{TensorFile, write_tensors};
use tch::{Device, Kind, Tensor};

use super::{Tensors, bytes, compare, contents, formula, golden, import, inspect, network, pickle, published, taming};
use crate::common::{folder, npy, refuse, refuse_cleanly, succeed, tavq, text};

/// diffusers' own code computed the golden values; the folder is built here as it saves it.
#[test]
fn a_folder_of_diffusers_gives_its_reconstruction() {
    for (name, attends) in [("diffusers", true), ("diffusers_bare", false)] {
        let file = TensorFile::open(&golden(&format!("{name}.safetensors"))).unwrap();
        let shapes: BTreeMap<String, Vec<i64>> = serde_json::from_str(file.meta("shapes").unwrap()).unwrap();
        let attention = shapes.get("encoder.mid_block.attentions.0.to_q.weight");
        assert_eq!((attention.map(Vec::len), shapes.len() > 150), (attends.then_some(2), true));
        from_diffusers_and_back(&folder(&format!("import-{name}")), &file, &shapes);
    }
}

fn from_diffusers_and_back(dir: &Path, file: &TensorFile, shapes: &BTreeMap<String, Vec<i64>>) {
    let tensors: Tensors = shapes.iter().map(|(name, shape)| (name.clone(), formula(name, shape))).collect();
    let make = |name: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("config.json"), file.meta("config").unwrap()).unwrap();
        path
    };
    let (new, old) = (make("new"), make("old"));
    write_tensors(&new.join("diffusion_pytorch_model.safetensors"), &tensors, &[]).unwrap();
    // Before version 0.15: a pickle, and other names in the attention.
    let renamed = |name: &str| {
        let swaps = [(".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")];
        swaps.iter().fold(name.to_owned(), |n, (a, b)| n.replace(a, b))
    };
    let older = tensors.iter().map(|(name, t)| (renamed(name), t.shallow_clone())).collect();
    pickle(&old.join("diffusion_pytorch_model.bin"), None, &older);
    for source in [&new, &old] {
        let model = source.with_extension("safetensors");
        let report = import("diffusers", source, None, &model);
        assert_eq!((report["codes"].as_i64(), report["tensors"].as_u64()), (Some(48), Some(tensors.len() as u64)));
        compare(&model, dir, file);
    }
    assert_eq!(contents(&dir.join("new.safetensors")), contents(&dir.join("old.safetensors")));
    // Back again: the folder holds what it held.
    let back = dir.join("back");
    succeed(&["checkpoint", "export", "--to", "diffusers", text(&dir.join("new.safetensors")), "--out", text(&back)]);
    let weights = "diffusion_pytorch_model.safetensors";
    assert!(contents(&back.join(weights)) == contents(&new.join(weights)));
    let read =
        |dir: &Path| -> Value { serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap() };
    let (mut a, mut b) = (read(&new), read(&back));
    for config in [&mut a, &mut b] {
        let config = config.as_object_mut().unwrap();
        config.retain(|key, _| key == "_class_name" || !key.starts_with('_'));
        // What `decode` does with indices, which is no part of the network, and the width of the codes where it is said twice.
        config.remove("lookup_from_codebook");
        if config["vq_embed_dim"].is_null() {
            config["vq_embed_dim"] = config["latent_channels"].clone();
        }
    }
    assert_eq!(a, b);
    // An export replaces an export, and nothing else.
    succeed(&["checkpoint", "export", "--to", "diffusers", text(&dir.join("new.safetensors")), "--out", text(&back)]);
    let other = dir.join("other");
    std::fs::create_dir_all(other.join("inner")).unwrap();
    let model = dir.join("new.safetensors");
    let args = ["checkpoint", "export", "--to", "diffusers", text(&model), "--out", text(&other)];
    refuse_cleanly(dir, &args, &["other: expected a new folder, or one of config.json and", "found inner"]);
}

/// The other way: diffusers loaded this very export and reconstructed (`golden/diffusers_model.py exported`).
#[test]
fn diffusers_reads_our_export() {
    let dir = folder("export-diffusers");
    let (ckpt, yaml) = taming(&dir, &network(&published()));
    let model = dir.join("model.safetensors");
    import("taming", &ckpt, Some(&yaml), &model);
    let out = std::env::var_os("TAVQ_EXPORTED").map_or(dir.join("exported"), PathBuf::from);
    succeed(&["checkpoint", "export", "--to", "diffusers", text(&model), "--out", text(&out)]);
    if std::env::var_os("TAVQ_EXPORTED").is_none() {
        compare(&model, &dir, &TensorFile::open(&golden("diffusers_export.safetensors")).unwrap());
    }
}

#[test]
fn there_and_back_is_exact_to_the_bit() {
    let dir = folder("round-trips");
    let mut tensors = network(&published());
    // Half precision stays half precision.
    for (name, tensor) in tensors.iter_mut().filter(|(name, _)| name.starts_with("decoder.up.1")) {
        *tensor = formula(name, &tensor.size()).to_kind(Kind::Half);
    }
    let (ckpt, yaml) = taming(&dir, &tensors);
    let first = dir.join("first.safetensors");
    import("taming", &ckpt, Some(&yaml), &first);
    let whole = contents(&first);
    assert_eq!(whole.len(), tensors.len());
    assert_eq!(whole["decoder.up.1.block.0.conv1.weight"].0, Kind::Half);
    for (name, tensor) in &tensors {
        assert_eq!(whole[name].2, bytes(tensor), "{name}");
    }
    for (layout, file, config) in [("taming", "a/x.ckpt", Some("a/x.yaml")), ("diffusers", "b", None)] {
        let (out, back) = (dir.join(file), dir.join(format!("{layout}.safetensors")));
        succeed(&["checkpoint", "export", "--to", layout, text(&first), "--out", text(&out)]);
        import(layout, &out, config.map(|c| dir.join(c)).as_deref(), &back);
        assert!(contents(&back) == whole, "{layout}");
        assert_eq!(inspect(&back)["config"], inspect(&first)["config"], "{layout}");
    }
    for (name, found) in [("x.yaml", "found the configuration's"), ("a", "found a folder")] {
        let out = dir.join(name);
        let args = ["checkpoint", "export", "--to", "taming", text(&first), "--out", text(&out)];
        refuse_cleanly(&dir, &args, &["--out", "such as NAME.ckpt", found]);
    }
    // LlamaGen attends at the coarsest stage alone.
    let out = dir.join("c.pt");
    let args = ["checkpoint", "export", "--to", "llamagen", text(&first), "--out", text(&out)];
    refuse_cleanly(&dir, &args, &["attn_resolutions: expected [4]", "found [8, 4]"]);
}

#[test]
fn a_network_of_latent_diffusion_without_attention_comes_back() {
    let dir = folder("bare");
    let mut bare = published();
    (bare.backbone.mid_attention, bare.backbone.resamp_with_conv, bare.backbone.tanh_out) = (false, false, true);
    bare.backbone.attn_resolutions.clear();
    let (ckpt, yaml) = (dir.join("model.ckpt"), dir.join("model.yaml"));
    let tensors = network(&bare);
    pickle(&ckpt, Some("state_dict"), &tensors);
    // Where nothing attends, the sizes at which something would say nothing.
    let config = Layout::Taming.write_config(&bare, Codebook::Table).unwrap();
    std::fs::write(&yaml, config.replace("attn_resolutions: []", "attn_resolutions: [8, 4]")).unwrap();
    let (model, out, back) = (dir.join("m.safetensors"), dir.join("out.ckpt"), dir.join("back.safetensors"));
    import("taming", &ckpt, Some(&yaml), &model);
    assert_eq!(contents(&model).len(), tensors.len());
    succeed(&["checkpoint", "export", "--to", "taming", text(&model), "--out", text(&out)]);
    assert_eq!(std::fs::read_to_string(out.with_extension("yaml")).unwrap(), config);
    import("taming", &out, Some(&out.with_extension("yaml")), &back);
    assert!(contents(&back) == contents(&model));
    assert_eq!(inspect(&back)["config"], inspect(&model)["config"]);
    // Moving averages, for which latent-diffusion has no class, go out as a table.
    let mut averages = network(&bare);
    let table = ("quantize.embedding.embed_avg".to_owned(), formula("quantize.embedding.embed_avg", &[48, 8]));
    averages.extend([
        table,
        ("quantize.embedding.cluster_size".to_owned(), Tensor::ones([48], (Kind::Float, Device::Cpu))),
    ]);
    pickle(&ckpt, Some("state_dict"), &averages);
    import("taming", &ckpt, Some(&yaml), &model);
    assert!(inspect(&model)["config"].as_str().unwrap().contains("kind = \"ema\""));
    succeed(&["checkpoint", "export", "--to", "taming", text(&model), "--out", text(&out)]);
    assert_eq!(std::fs::read_to_string(out.with_extension("yaml")).unwrap(), config);
    import("taming", &out, Some(&out.with_extension("yaml")), &model);
    assert!(contents(&back) == contents(&model));
}

#[test]
fn llamagen_there_and_back() {
    let dir = folder("llamagen");
    let args = json!({
        "codebook_size": 40, "codebook_embed_dim": 8, "ch": 32, "z_channels": 12,
        "encoder_ch_mult": [1, 2, 1], "decoder_ch_mult": [1, 2, 1], "num_res_blocks": 1, "resolution": 16,
    });
    let published = Layout::LlamaGen.read_config(&args).unwrap();
    let ours = network(&published);
    let theirs = |name: &str| Layout::LlamaGen.name_of(name, 3);
    let named = || -> Tensors {
        let of = |(name, t): &(String, Tensor)| (theirs(name), t.shallow_clone());
        let mut out: Tensors = ours.iter().map(of).collect();
        let window = Tensor::zeros([65536], (Kind::Float, Device::Cpu));
        window.narrow(0, 0, 3).copy_(&Tensor::from_slice(&[5.0f32, 6.0, 39.0]));
        out.push(("quantize.codebook_used".into(), window));
        out
    };
    let (pt, config) = (dir.join("vq.pt"), dir.join("vq.json"));
    pickle(&pt, Some("model"), &named());
    std::fs::write(&config, args.to_string()).unwrap();
    let model = dir.join("vq.safetensors");
    let report = import("llamagen", &pt, Some(&config), &model);
    assert_eq!(report["ignored"], json!([["quantize.codebook_used", 1]]));
    let whole = contents(&model);
    for (name, tensor) in &ours {
        assert_eq!(whole[name].2, bytes(tensor), "{name}");
    }
    let out = dir.join("out.pt");
    succeed(&["checkpoint", "export", "--to", "llamagen", text(&model), "--out", text(&out)]);
    let found = inspect(&out);
    assert_eq!(found["tensors"]["model.decoder.conv_blocks.0.attn.1.q.weight"], json!([32, 32, 1, 1]));
    assert_eq!(found["tensors"]["model.quantize.codebook_used"], json!([65536]), "LlamaGen loads strictly");
    let back = dir.join("back.safetensors");
    import("llamagen", &out, Some(&dir.join("out.json")), &back);
    assert!(contents(&back) == whole);
    assert_eq!(inspect(&back)["config"], inspect(&model)["config"]);
    let used = &inspect(&pt)["usage"][0];
    assert_eq!((used["used"].as_u64(), used["codes"].as_u64()), (Some(4), Some(40)), "0, 5, 6, 39");
    // Weights averaged over steps lie under another key, and safetensors under none.
    let (ema, plain, again) = (dir.join("ema.pt"), dir.join("plain.safetensors"), dir.join("again.safetensors"));
    pickle(&ema, Some("ema"), &named());
    write_tensors(&plain, &named(), &[]).unwrap();
    for file in [&ema, &plain] {
        import("llamagen", file, Some(&config), &again);
        assert!(contents(&again) == whole);
    }
    // Known by name: the published sizes are asked for.
    let args = ["checkpoint", "import", "--from", "llamagen", text(&pt), "--config", "VQ-16", "--out", text(&back)];
    refuse(
        &args,
        &["tensors do not fit: ", "decoder.conv_blocks.0.attn.0.k.bias: expected shape [512], found [32]", " more"],
    );

    // Vectors and codes meet at length 1, and the decoder sees codes of length 1.
    let unit = |t: &Tensor, axis: i64| t / t.square().sum_dim_intlist([axis].as_slice(), true, Kind::Float).sqrt();
    let codes = unit(&TensorFile::open(&model).unwrap().get("quantize.embedding.weight").unwrap(), 1);
    let images =
        ndarray::Array4::from_shape_fn((2, 3, 16, 16), |(b, c, y, x)| ((b + c * y + x) % 13) as f32 / 6.5 - 1.0);
    let input = npy(&dir.join("x.npy"), &images);
    let rebuild = |model: &Path, name: &str| {
        let out = dir.join(name);
        succeed(&["reconstruct", "--checkpoint", text(model), "--tensors", &input, "--out", text(&out)]);
        TensorFile::open(&out.join("out.safetensors")).unwrap()
    };
    let found = rebuild(&model, "own");
    let z = unit(&found.get("latent").unwrap(), 1).permute([0, 2, 3, 1]);
    assert_eq!(found.get("indices").unwrap(), z.matmul(&codes.tr()).argmax(-1, false));
    // A layout that knows no such thing gets the codes at length 1, and finds and decodes the same.
    let (folder, plain) = (dir.join("diffusers"), dir.join("unit.safetensors"));
    let args = ["checkpoint", "export", "--to", "diffusers", text(&model), "--out", text(&folder)];
    let report = tavq(&args).output().unwrap();
    let said = String::from_utf8_lossy(&report.stderr);
    let loss = "diffusers has no word for this codebook's loss (form standard, beta 0.25)";
    assert!(report.status.success() && said.lines().count() == 1 && said.starts_with(loss), "{said}");
    import("diffusers", &folder, None, &plain);
    let other = rebuild(&plain, "other");
    assert_eq!(other.get("indices").unwrap(), found.get("indices").unwrap());
    let gap =
        (other.get("reconstruction").unwrap() - found.get("reconstruction").unwrap()).abs().max().double_value(&[]);
    assert!(gap < 1e-5, "{gap:e}");
}

#[test]
fn gumbel_and_moving_averages() {
    let dir = folder("gumbel");
    let mut published = published();
    // GumbelVQ scores z_channels, which its codes are as wide as.
    published.backbone.z_channels = 8;
    let mut tensors = network(&published);
    let table = tensors.iter().position(|(n, _)| n == "quantize.embedding.weight").unwrap();
    drop(tensors.remove(table));
    let add = |tensors: &mut Tensors, name: &str, shape: &[i64]| {
        tensors.push((name.to_owned(), formula(name, shape)));
    };
    let mut gumbel: Tensors = tensors.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect();
    add(&mut gumbel, "quantize.proj.weight", &[48, 8, 1, 1]);
    add(&mut gumbel, "quantize.proj.bias", &[48]);
    add(&mut gumbel, "quantize.embed.weight", &[48, 8]);
    let mut averages = tensors;
    add(&mut averages, "quantize.embedding.weight", &[48, 8]);
    add(&mut averages, "quantize.embedding.embed_avg", &[48, 8]);
    averages.push(("quantize.embedding.cluster_size".into(), Tensor::arange(48, (Kind::Float, Device::Cpu))));
    let yaml = dir.join("model.yaml");
    std::fs::write(&yaml, Layout::Taming.write_config(&published, Codebook::Table).unwrap()).unwrap();
    let input = npy(
        &dir.join("x.npy"),
        &ndarray::Array4::from_shape_fn((1, 3, 16, 16), |(_, c, y, x)| ((c + 2 * y * x) % 9) as f32 / 4.5 - 1.0),
    );
    for (kind, tensors) in [("gumbel", gumbel), ("ema", averages)] {
        let (ckpt, model) = (dir.join("x.ckpt"), dir.join(format!("{kind}.safetensors")));
        pickle(&ckpt, Some("state_dict"), &tensors);
        import("taming", &ckpt, Some(&yaml), &model);
        assert!(inspect(&model)["config"].as_str().unwrap().contains(&format!("kind = \"{kind}\"")));
        let (out, back) = (dir.join(format!("{kind}.ckpt")), dir.join("back.safetensors"));
        succeed(&["checkpoint", "export", "--to", "taming", text(&model), "--out", text(&out)]);
        let yaml = std::fs::read_to_string(dir.join(format!("{kind}.yaml"))).unwrap();
        assert!(yaml.contains(if kind == "ema" { "EMAVQ" } else { "GumbelVQ" }), "{yaml}");
        import("taming", &out, Some(&out.with_extension("yaml")), &back);
        assert!(contents(&back) == contents(&model));
        succeed(&["reconstruct", "--checkpoint", text(&model), "--tensors", &input, "--out", text(&dir)]);
        let result = TensorFile::open(&dir.join("out.safetensors")).unwrap();
        let get = |name: &str| result.get(name).unwrap();
        if kind == "gumbel" {
            let weights = TensorFile::open(&model).unwrap();
            let proj = weights.get("quantize.proj.weight").unwrap().view([48, 8]);
            let z = get("latent").permute([0, 2, 3, 1]);
            let logits = z.matmul(&proj.tr()) + weights.get("quantize.proj.bias").unwrap();
            assert_eq!(get("indices"), logits.argmax(-1, false));
            refuse(
                &["checkpoint", "export", "--to", "diffusers", text(&model), "--out", text(&dir.join("d"))],
                &["codebook: expected a plain table, all that the layout diffusers has, found Gumbel"],
            );
        } else {
            // Elsewhere the averages have no place; the codes have.
            let run = tavq(&["checkpoint", "export", "--to", "diffusers", text(&model), "--out", text(&dir.join("d"))])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&run.stderr);
            assert!(run.status.success() && said.contains("quantize.embedding.cluster_size (1)"), "{said}");
            let used = &inspect(&model)["usage"][0];
            assert_eq!((used["used"].as_u64(), used["codes"].as_u64()), (Some(47), Some(48)));
        }
        assert_eq!(get("reconstruction").size(), [1, 3, 16, 16]);
    }
}

//! Layouts of other codebases without files: configurations there and back, and what does not fit.

mod common;

use common::{small, variables};
use serde_json::{Value, json};
use tavq_backbone::VqganConfig;
use tavq_backbone::layouts::{Codebook, Layout, LayoutError, Published, codebook_of, plan};

fn theirs(layout: Layout, published: &Published) -> Vec<(String, Vec<i64>)> {
    let one = |(n, s): (String, Vec<i64>)| (layout.name_of(&n, published.stages()), layout.shape_of(&n, &s));
    variables(published).into_iter().map(one).collect()
}

#[test]
fn every_variable_has_one_name_in_every_layout_and_comes_back() {
    for published in [small(&[1, 2, 1], &[8, 4]), small(&[1], &[]), small(&[1, 1, 2, 4, 4], &[1])] {
        for layout in [Layout::Taming, Layout::Diffusers, Layout::LlamaGen] {
            let (ours, foreign) = (variables(&published), theirs(layout, &published));
            let mut names: Vec<_> = foreign.iter().map(|(n, _)| n).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), ours.len(), "{layout:?}: two variables of one name");
            let plan = plan(layout, published.stages(), &ours, &foreign, None).unwrap();
            assert!(plan.ignored.is_empty());
            for ((row, (name, shape)), (foreign, _)) in plan.rows.iter().zip(&ours).zip(&foreign) {
                assert_eq!((&row.ours, &row.shape, &row.theirs), (name, shape, foreign));
            }
        }
    }
}

#[test]
fn sizes_are_known_before_anything_is_built() {
    for published in [small(&[1, 2, 1], &[8, 4]), small(&[1], &[]), small(&[2, 1, 2, 4, 4], &[1])] {
        let counted: i64 = variables(&published).iter().map(|(_, shape)| shape.iter().product::<i64>()).sum();
        assert_eq!(published.values(), counted as f64);
    }
    let mut bare = small(&[1, 2, 1], &[4]);
    (bare.backbone.mid_attention, bare.backbone.resamp_with_conv) = (false, false);
    let counted: i64 = variables(&bare).iter().map(|(_, shape)| shape.iter().product::<i64>()).sum();
    assert_eq!(bare.values(), counted as f64);
    // The published f = 16 model with 1024 codes.
    let full =
        Published { backbone: VqganConfig { levels: 1, ..VqganConfig::default() }, codes: 1024, ..small(&[1], &[]) };
    assert_eq!(full.values(), 72_141_699.0);
}

#[test]
fn configurations_come_back_equal() {
    let published = small(&[1, 2, 1], &[8, 4]);
    let yaml = Layout::Taming.write_config(&published, Codebook::Table).unwrap();
    for part in ["target: taming.models.vqgan.VQModel", "n_embed: 48", "ch_mult: [1, 2, 1]", "attn_resolutions: [8, 4]"]
    {
        assert!(yaml.contains(part), "{yaml}");
    }
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let diffusers = parse(&Layout::Diffusers.write_config(&published, Codebook::Table).unwrap());
    assert_eq!(Layout::Diffusers.read_config(&diffusers).unwrap(), published);
    let mut published = small(&[1, 2, 1], &[4]);
    (published.legacy, published.normalize, published.beta) = (false, true, 0.5);
    let llamagen = parse(&Layout::LlamaGen.write_config(&published, Codebook::Table).unwrap());
    assert_eq!(Layout::LlamaGen.read_config(&llamagen).unwrap(), published);
}

#[test]
fn taming_has_its_configuration_in_several_places() {
    let network = json!({"ch": 32, "out_ch": 3, "ch_mult": [1, 2, 1], "num_res_blocks": 1, "attn_resolutions": [8, 4],
        "in_channels": 3, "resolution": 16, "z_channels": 12, "double_z": false});
    let params = json!({"embed_dim": 8, "n_embed": 48, "ddconfig": network, "lossconfig": {"target": "x"}});
    let expected = small(&[1, 2, 1], &[8, 4]);
    for value in [
        params.clone(),
        json!({"params": params}),
        json!({"model": {"target": "x", "params": params}, "data": {}}),
        json!({"model": {"params": {"first_stage_config": {"params": params}, "timesteps": 1000}}}),
    ] {
        assert_eq!(Layout::Taming.read_config(&value).unwrap(), expected);
    }
}

#[test]
fn networks_that_leave_parts_out_are_told_as_latent_diffusion_tells_them() {
    let mut bare = small(&[1, 2, 1], &[]);
    (bare.backbone.mid_attention, bare.backbone.resamp_with_conv, bare.backbone.tanh_out) = (false, false, true);
    let yaml = Layout::Taming.write_config(&bare, Codebook::Table).unwrap();
    for part in ["ldm.models.autoencoder.VQModel", "torch.nn.Identity", "attn_type: none", "resamp_with_conv: false"] {
        assert!(yaml.contains(part), "{yaml}");
    }
    let text = |layout: Layout, published: &Published| {
        layout.write_config(published, Codebook::Table).unwrap_err().to_string()
    };
    let read = |target: &str| {
        let network = json!({"ch": 32, "out_ch": 3, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [],
            "in_channels": 3, "resolution": 16, "z_channels": 12, "double_z": false, "tanh_out": true});
        let params = json!({"embed_dim": 8, "n_embed": 48, "ddconfig": network});
        Layout::Taming.read_config(&json!({"model": {"target": target, "params": params}}))
    };
    assert!(read("ldm.models.autoencoder.VQModel").unwrap().backbone.tanh_out);
    let error = read("taming.models.vqgan.VQModel").unwrap_err().to_string();
    assert!(error.contains("model.params.ddconfig.tanh_out: expected false, found true"), "{error}");
    assert!(text(Layout::Diffusers, &bare).contains("resamp_with_conv: expected true, found false"));
    bare.backbone.resamp_with_conv = true;
    assert!(text(Layout::LlamaGen, &bare).contains("tanh_out: expected false, found true"));
    bare.backbone.tanh_out = false;
    assert!(text(Layout::LlamaGen, &bare).contains("mid_attention: expected true, found false"));
    let codebook = Layout::Taming.write_config(&bare, Codebook::Gumbel).unwrap_err().to_string();
    assert!(codebook.contains("plain table"), "{codebook}");
    bare.backbone.attn_resolutions = vec![8];
    assert!(text(Layout::Taming, &bare).contains("one type for all attention"));
    (bare.backbone.mid_attention, bare.backbone.norm_num_groups) = (true, 16);
    for layout in [Layout::Taming, Layout::LlamaGen] {
        assert!(text(layout, &bare).contains("norm_num_groups: expected 32, found 16"), "{layout:?}");
    }
}

#[test]
fn the_published_tokenizers_of_llamagen_are_known_by_name() {
    for (name, ch_mult, attn) in [("VQ-16", vec![1, 1, 2, 2, 4], 16), ("vq-8", vec![1, 2, 2, 4], 32)] {
        let found = Layout::LlamaGen.named_config(name).unwrap();
        assert_eq!((found.backbone.ch_mult, found.backbone.attn_resolutions), (ch_mult, vec![attn]));
        assert_eq!((found.backbone.ch, found.backbone.z_channels, found.backbone.embed_dim), (128, 256, 8));
        assert_eq!((found.codes, found.beta, found.legacy, found.normalize), (16384, 0.25, false, true));
    }
    assert!(Layout::LlamaGen.named_config("vq-32").is_none() && Layout::Taming.named_config("vq-16").is_none());
    assert_eq!(Layout::LlamaGen.read_config(&json!({})).unwrap(), Layout::LlamaGen.named_config("vq-16").unwrap());
}

#[test]
fn what_a_layout_cannot_say_is_refused() {
    let text =
        |layout: Layout, published: &Published, kind| layout.write_config(published, kind).unwrap_err().to_string();
    let wide = small(&[2, 2], &[8]);
    assert!(text(Layout::Diffusers, &wide, Codebook::Table).contains("ch_mult: expected 1 as its first entry"));
    let many = small(&[1, 2, 1], &[8, 4]);
    assert!(text(Layout::LlamaGen, &many, Codebook::Table).contains("attn_resolutions: expected [4]"));
    assert!(text(Layout::LlamaGen, &small(&[1, 2], &[8]), Codebook::Gumbel).contains("expected a plain table"));
    let mut normal = many;
    normal.normalize = true;
    for layout in [Layout::Taming, Layout::Diffusers] {
        assert!(text(layout, &normal, Codebook::Table).contains("found codes to be normalised"));
    }
}

#[test]
fn kinds_of_codebooks_are_told_by_their_tensors() {
    let kind = |name: &str| codebook_of(&["encoder.conv_in.weight", name]);
    assert_eq!(kind("quantize.embedding.weight"), Codebook::Table);
    assert_eq!(kind("first_stage_model.quantize.proj.weight"), Codebook::Gumbel);
    assert_eq!(kind("quantize.embedding.embed_avg"), Codebook::Averages);
}

#[test]
fn a_plan_lists_what_is_wrong_and_what_is_beside_the_model() {
    let published = small(&[1, 2], &[8]);
    let ours = variables(&published);
    let mut foreign: Vec<_> =
        theirs(Layout::Taming, &published).into_iter().map(|(n, s)| (format!("vq.{n}"), s)).collect();
    for name in
        ["loss.discriminator.main.0.bias", "vq.loss.perceptual_loss.lin0.bias", "vq.encoder.x.num_batches_tracked"]
    {
        foreign.push((name.to_owned(), vec![]));
    }
    let found = plan(Layout::Taming, 2, &ours, &foreign, None).unwrap();
    let groups: Vec<_> = found.ignored.iter().map(|i| (i.prefix.as_str(), i.count)).collect();
    assert_eq!(groups, [("loss.discriminator", 1), ("num_batches_tracked", 1), ("vq.loss.perceptual_loss", 1)]);
    foreign[3].1 = vec![7];
    foreign.push(("vq.quantize.more".into(), vec![]));
    let LayoutError::Tensors { problems } = plan(Layout::Taming, 2, &ours, &foreign, Some("vq.")).unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(problems[1], "vq.quantize.more: not expected, found shape []");
    assert!(problems[0].ends_with("found [7]"));
    let nothing = plan(Layout::Diffusers, 2, &ours, &foreign, Some("gone")).unwrap_err().to_string();
    assert!(nothing.contains("such as gone.") && nothing.contains(", found "), "{nothing}");
}

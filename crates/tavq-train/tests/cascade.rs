//! What a model does between a backbone's levels, held with a backbone of the test's own.

use tavq_quant::{Backbone, LevelShape, QuantError, Quantize, QuantizerConfig};
use tavq_train::{Config, Model, Registry, parse_table};
use tch::{Device, Kind, Tensor};

/// Level 0 is the image in half size; level 1 is the codes of level 0 in half size, times ten.
struct Chain {
    levels: Vec<LevelShape>,
    fault: String,
}

fn halve(x: &Tensor) -> Tensor {
    x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None)
}

impl Backbone for Chain {
    fn levels(&self) -> &[LevelShape] {
        &self.levels
    }
    fn encode(&self, images: &Tensor, train: bool) -> tavq_quant::Result<Vec<Tensor>> {
        self.encode_through(images, train, &mut |_, z| Ok(z.shallow_clone()))
    }
    fn encode_through(&self, images: &Tensor, _: bool, quantize: &mut Quantize<'_>) -> tavq_quant::Result<Vec<Tensor>> {
        let fine = halve(images);
        let codes = quantize(usize::from(self.fault == "order"), &fine)?;
        let coarse = halve(&codes) * 10.0;
        match self.fault.as_str() {
            "one" => return Ok(vec![fine, coarse]),
            "twice" => drop(quantize(0, &fine)?),
            "three" => drop((quantize(1, &coarse)?, quantize(2, &coarse)?)),
            _ => drop(quantize(1, &coarse)?),
        }
        Ok(if self.fault == "short" { vec![coarse] } else { vec![fine, coarse] })
    }
    fn decode(&self, latent: &Tensor, _: bool) -> tavq_quant::Result<Tensor> {
        let size = latent.size();
        let scale = if self.fault == "small" { 2 } else { 4 };
        Ok(latent.f_upsample_nearest2d([size[2] * scale, size[3] * scale], None, None)?)
    }
}

fn registry() -> Registry {
    Registry::default()
        .backbone("chain", |_, table| {
            let count = table["levels"].as_integer().unwrap();
            let levels = (0..count).map(|i| LevelShape { channels: 3, stride: 2 << i }).collect();
            Ok(Box::new(Chain { levels, fault: table["fault"].as_str().unwrap().to_owned() }))
        })
        .quantizer("vq", |path, table, dim| {
            let mut table = table;
            table.insert("kind".into(), "vq".into());
            Ok(parse_table::<QuantizerConfig>("model.quantizer", table)?.build(path, dim)?)
        })
}

fn model(fault: &str, sets: &[&str]) -> Model {
    let text = format!(
        "[model]\nbackbone = {{ kind = \"chain\", levels = 2, fault = \"{fault}\" }}\nquantizer = {{ kind = \"vq\", codes = 4 }}\n"
    );
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    Model::new(&Config::resolve(&text, "test", &sets).unwrap(), &registry(), None).unwrap()
}

fn images() -> Tensor {
    Tensor::linspace(-1.0, 1.0, 2 * 3 * 8 * 8, (Kind::Float, Device::Cpu)).view([2, 3, 8, 8])
}

#[test]
fn a_level_is_computed_from_the_codes_of_the_one_before() {
    let _guard = tch::no_grad_guard();
    let model = model("", &[]);
    let (latents, quantized) = model.encode(&images(), false).unwrap();
    assert_eq!((latents.len(), quantized.len()), (2, 2));
    assert_eq!(latents[0], halve(&images()));
    assert_ne!(quantized[0].latent, latents[0]);
    assert_eq!(latents[1], halve(&quantized[0].latent) * 10.0);
    assert_eq!(quantized[1].latent, model.quantizer(1).quantize(&latents[1], false).unwrap().latent);
}

#[test]
fn levels_that_are_not_in_use_keep_their_latents() {
    let _guard = tch::no_grad_guard();
    let model = model("", &["model.side_levels=false"]);
    let (latents, quantized) = model.encode(&images(), false).unwrap();
    assert_eq!((latents.len(), quantized.len()), (1, 1));
    assert_eq!(latents[0], halve(&halve(&images())) * 10.0);
}

#[test]
fn a_backbone_that_breaks_the_order_is_refused() {
    let table = [
        ("order", "backbone: expected level 0 at the quantizer, found level 1"),
        ("twice", "backbone: expected level 1 at the quantizer, found level 0"),
        ("three", "backbone: expected no further level at the quantizer, found level 2"),
        ("one", "backbone: expected 2 levels at the quantizer and 2 latents, found 1 and 2"),
        ("short", "backbone: expected 2 levels at the quantizer and 2 latents, found 2 and 1"),
        ("small", "reconstruction: expected shape [2, 3, 8, 8], found [2, 3, 4, 4]"),
    ];
    for (fault, expected) in table {
        let error = model(fault, &[]).forward(&images(), false).unwrap_err();
        assert_eq!(error.to_string(), expected, "{fault}");
    }
    let kind = model("three", &[]).encode(&images(), false).unwrap_err();
    assert!(matches!(kind, tavq_train::TrainError::Quant(QuantError::Levels { .. })), "{kind:?}");
}

#[test]
fn a_backbone_without_a_level_is_refused() {
    for sets in [&["model.backbone.levels=0"][..], &["model.backbone.levels=0", "model.side_levels=false"]] {
        let error = model("", sets).forward(&images(), false).unwrap_err();
        assert!(error.is_input(), "{error}");
    }
}

//! `tavq train --study`: the same run twice under one seed, with the alignment on and with codes that never see the text.
//!
//! In the second run the maps to the text space still learn (`loss.gradient = "map"`), so that its
//! retrieval says what plain codes hold rather than what an untrained map does.

use std::path::Path;
use std::sync::Arc;

use tavq_train::{Config, Gradient, Registry};

use crate::failure::Outcome;
use crate::output::{self, say};
use crate::report::{Report, percent, share};
use crate::run::{stop_on_signals, train_once};

pub(crate) fn run(config: &Config, out: &Path, registry: &Registry, json: bool) -> Outcome {
    let stop = stop_on_signals()?;
    let on = train_once(config, &out.join("on"), registry, None, Arc::clone(&stop), json)?;
    let mut plain = config.clone();
    plain.loss.gradient = Gradient::Map;
    let off = train_once(&plain, &out.join("off"), registry, None, stop, json)?;
    if json {
        let both = serde_json::json!({ "on": on, "off": off });
        output::json(&both)?;
        return Ok(());
    }
    say!("{:<44}{:>14}{:>14}", "", "alignment on", "off");
    for (name, value) in ROWS {
        say!("{name:<44}{:>14}{:>14}", value(&on), value(&off));
    }
    say!("off: no alignment gradient reaches encoder or codebook; the maps to the text space still learn.");
    say!("Retrieval ranks by transport cost summed over the levels, each text's mean cost over the images subtracted.");
    for path in on.pictures.iter().chain(&off.pictures) {
        say!("picture: {}", path.display());
    }
    Ok(())
}

type Row = (&'static str, fn(&Report) -> String);

const ROWS: [Row; 10] = [
    ("validation PSNR, dB", |r| format!("{:.2}", r.validation.evaluation.psnr)),
    ("validation PSNR over the mean image, dB", |r| r.validation.gain()),
    ("validation SSIM", |r| format!("{:.3}", r.validation.evaluation.ssim)),
    ("codes used in the last epoch, decoded level", |r| {
        let last = r.run.as_ref().and_then(|r| r.usage_last_epoch.last());
        last.map_or("-".into(), |u| percent(u.used_share))
    }),
    ("validation R@5 text of image", |r| r5(r, false)),
    ("validation R@5 image of text", |r| {
        r.validation.retrieval.as_ref().map_or("-".into(), |x| share(x.centred.text_to_image.recall_at_5))
    }),
    ("  by chance", |r| chance(r, false)),
    ("training R@5 text of image", |r| r5(r, true)),
    ("  by chance", |r| chance(r, true)),
    ("images/s", |r| r.run.as_ref().map_or("-".into(), |r| format!("{:.0}", r.images_per_second))),
];

fn part(report: &Report, training: bool) -> Option<&tavq_train::Retrieval> {
    let part = if training { &report.training } else { &report.validation };
    part.retrieval.as_ref()
}

fn r5(report: &Report, training: bool) -> String {
    part(report, training).map_or("-".into(), |x| share(x.centred.image_to_text.recall_at_5))
}

fn chance(report: &Report, training: bool) -> String {
    part(report, training).map_or("-".into(), |x| share(x.centred.chance.recall_at_5))
}

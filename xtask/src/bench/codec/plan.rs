//! What `cargo xtask bench codec` measures, against whom, and the bars that the codec and the quantizers are held to.

use serde_json::{Value, json};

/// Whose program works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The example `codec_bench` of tavq-backbone.
    Ours,
    PyTorch,
    Faiss,
}

impl Who {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "tavq",
            Self::PyTorch => "PyTorch",
            Self::Faiss => "faiss",
        }
    }
}

/// One who does a piece of work, in one form of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) who: Who,
    /// What the program is told; empty: it has one form.
    pub(crate) form: &'static str,
}

impl Contender {
    pub(crate) fn label(self) -> String {
        [self.who.name(), &self.form.replace('_', " ")].join(" ").trim_end().to_owned()
    }

    /// A case's work as this contender is asked for it.
    pub(crate) fn work(self, work: &Value) -> Value {
        let mut work = work.clone();
        if !self.form.is_empty() {
            work["form"] = json!(self.form);
        }
        work
    }
}

pub(crate) const OURS: Contender = Contender { who: Who::Ours, form: "" };
const CONTIGUOUS: Contender = Contender { who: Who::PyTorch, form: "contiguous" };
const CHANNELS_LAST: Contender = Contender { who: Who::PyTorch, form: "channels_last" };
const COMPILED: Contender = Contender { who: Who::PyTorch, form: "compile" };
const SORTING: Contender = Contender { who: Who::PyTorch, form: "sorting" };
const FAISS: Contender = Contender { who: Who::Faiss, form: "flat" };

/// A bar: what the fastest of these peers (or the leanest) must need at least, as a multiple of ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bar {
    pub(crate) time: Option<f64>,
    pub(crate) memory: Option<f64>,
}

/// One piece of work and all who do it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// As the programs are asked for it.
    pub(crate) work: Value,
    pub(crate) peers: Vec<Contender>,
    pub(crate) bar: Bar,
    /// Images a run, where that is what speed is counted in.
    pub(crate) images: Option<f64>,
    /// Turns after the runs that are compared; 0: the run that memory is measured in is the only one.
    pub(crate) turns: usize,
    /// Whether memory is measured too, in processes of their own.
    pub(crate) memory: bool,
    /// Only where all cores are used.
    pub(crate) all_cores: bool,
}

/// Cases that share a table.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) about: &'static str,
    pub(crate) cases: Vec<Case>,
}

/// All groups on a CPU; with `quick` few and small cases.
pub(crate) fn groups(quick: bool) -> Vec<Group> {
    vec![codec(quick), step(quick), search(quick)]
}

/// The check on a GPU, for one precision.
pub(crate) fn on_a_gpu() -> Vec<Group> {
    let case = |pass, time| Case {
        peers: vec![CONTIGUOUS, CHANNELS_LAST, COMPILED],
        bar: Bar { time, memory: None },
        turns: 5,
        memory: false,
        ..image(pass, 16)
    };
    vec![Group {
        title: "VQGAN, f = 16, 256 px, 16 images",
        about: "Forward, and forward and backward, of the published model; the bar is for f32 without torch.compile.",
        cases: vec![case("forward", Some(1.0)), case("train", Some(1.0))],
    }]
}

fn image(pass: &str, batch: u32) -> Case {
    let what = if pass == "train" { "forward and backward" } else { "forward" };
    Case {
        name: format!("{what}, batch {batch}"),
        work: json!({ "kind": "codec", "pass": pass, "batch": batch }),
        peers: vec![CONTIGUOUS, CHANNELS_LAST],
        bar: Bar { time: Some(1.0), memory: None },
        images: Some(f64::from(batch)),
        turns: 3,
        memory: batch == 1,
        all_cores: batch > 1,
    }
}

fn codec(quick: bool) -> Group {
    let mut cases = vec![image("forward", 1), image("train", 1)];
    if quick {
        cases.truncate(1);
        cases[0].turns = 1;
    } else {
        cases.push(Case { turns: 2, ..image("forward", 4) });
    }
    Group {
        title: "VQGAN, f = 16, 256 px, f32",
        about: "The published configuration with its codebook of 1024: reconstruction and loss (mean absolute difference and \
                codebook terms), and the way back. The peer is a plain eager script, with tensors contiguous and with \
                channels last.",
        cases,
    }
}

fn step(quick: bool) -> Group {
    let (vectors, sizes): (u32, &[u32]) = if quick { (2048, &[1024]) } else { (16_384, &[1024, 16_384]) };
    let case = |codes: u32, anchor: &str| Case {
        name: format!("K = {codes}, anchor {anchor}"),
        work: json!({ "kind": "cvq", "vectors": vectors, "codes": codes, "dim": 256, "anchor": anchor }),
        peers: vec![SORTING],
        bar: Bar { time: Some(5.0), memory: Some(10.0) },
        images: None,
        turns: if codes > 1024 { 1 } else { 3 },
        memory: true,
        all_cores: false,
    };
    Group {
        title: "A training step of the online clustered codebook",
        about: "Quantize, the loss and its way back, statistics and update, for N = 16,384 vectors of width 256 (2048 with \
                --quick) with the cosine. It is the first step, in which every code needs an anchor: the most work that a step \
                can be. The peer sorts the distance matrix, as the authors do; the results are compared but for one code and \
                vector in a thousand, where rounding decides which neighbour is nearest. With K = 1024 the result and the \
                latent's gradient, N x 256 each, are most of what is left of memory.",
        cases: sizes.iter().flat_map(|&codes| ["closest", "probrandom"].map(|anchor| case(codes, anchor))).collect(),
    }
}

fn search(quick: bool) -> Group {
    let case = |vectors: u32, codes: u32, dim: u32| Case {
        name: format!("N = {vectors}, K = {codes}, D = {dim}"),
        work: json!({ "kind": "nearest", "vectors": vectors, "codes": codes, "dim": dim }),
        peers: vec![FAISS],
        bar: Bar { time: Some(1.0), memory: None },
        images: None,
        turns: 5,
        memory: false,
        all_cores: false,
    };
    let mut cases = if quick {
        vec![case(4096, 1024, 256), case(4096, 1024, 8)]
    } else {
        vec![case(65_536, 1024, 256), case(65_536, 16_384, 256), case(65_536, 1024, 8), case(65_536, 16_384, 8)]
    };
    if !quick {
        // Beyond what the peers are given: time and memory of ours, once.
        cases.push(Case {
            peers: Vec::new(),
            bar: Bar { time: None, memory: None },
            turns: 0,
            memory: true,
            all_cores: true,
            ..case(65_536, 262_144, 256)
        });
    }
    Group { title: "Nearest-code search", about: "Squared distances, one code a vector, against IndexFlatL2.", cases }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_and_a_work_of_its_own() {
        for groups in [groups(true), groups(false), on_a_gpu()] {
            let cases: Vec<&Case> = groups.iter().flat_map(|group| &group.cases).collect();
            for (i, case) in cases.iter().enumerate() {
                assert!(!case.peers.contains(&OURS), "{}", case.name);
                assert!(cases[..i].iter().all(|other| other.name != case.name && other.work != case.work));
            }
        }
    }

    #[test]
    fn a_form_is_told_to_the_program_that_has_several() {
        let work = json!({ "kind": "codec" });
        assert_eq!(CHANNELS_LAST.work(&work), json!({ "kind": "codec", "form": "channels_last" }));
        assert_eq!((OURS.work(&work), OURS.label()), (work, "tavq".to_owned()));
        assert_eq!(CHANNELS_LAST.label(), "PyTorch channels last");
    }
}

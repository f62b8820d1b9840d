//! What `cargo xtask bench text` measures, against whom, and the bars that the two text crates are held to.

/// A program that answers requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// `text-bench`: tavq-text, and the sentencex crate.
    Text,
    /// The example `encode_bench` of tavq-encode.
    Encode,
    Spacy,
    Pysbd,
    Transformers,
    SentenceTransformers,
}

/// One solver of one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) who: Who,
    /// What the program knows it by.
    pub(crate) solver: &'static str,
    pub(crate) label: &'static str,
}

const fn by(who: Who, solver: &'static str, label: &'static str) -> Contender {
    Contender { who, solver, label }
}

/// What speed is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Megabytes,
    Units,
}

impl Unit {
    pub(crate) fn speed(self, work: f64, seconds: f64) -> String {
        match self {
            Self::Megabytes => format!("{:.3} MB/s", work / seconds / 1e6),
            Self::Units => format!("{:.0} units/s", work / seconds),
        }
    }
}

/// One piece of work and all who do it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) ours: Contender,
    pub(crate) peers: Vec<Contender>,
    /// The speed of ours over that of the fastest peer must be at least this.
    pub(crate) bar: Option<f64>,
    /// Speed of ours, in units or bytes a second, that must be reached on one core.
    pub(crate) floor: Option<f64>,
}

/// Splitting runs on one core: a text is split by one thread.
pub(crate) fn splitting() -> Vec<Case> {
    let unit = Unit::Megabytes;
    let sentences = by(Who::Text, "sentences", "tavq-text");
    let sentencex = by(Who::Text, "sentencex", "sentencex crate");
    let others = vec![by(Who::Pysbd, "sentences", "pySBD"), by(Who::Spacy, "sentences", "spaCy sentencizer")];
    vec![
        Case {
            name: "sentences, phrases and words",
            unit,
            ours: by(Who::Text, "split", "tavq-text"),
            peers: vec![by(Who::Spacy, "split", "spaCy tagger and parser")],
            bar: None,
            floor: Some(5e6),
        },
        Case { name: "sentences alone", unit, ours: sentences, peers: vec![sentencex], bar: Some(0.5), floor: None },
        Case { name: "sentences alone", unit, ours: sentences, peers: others, bar: None, floor: None },
    ]
}

pub(crate) fn encoding() -> Vec<Case> {
    let case = |name: &'static str| Case {
        name,
        unit: Unit::Units,
        ours: by(Who::Encode, name, "tavq-encode"),
        peers: vec![
            by(Who::Transformers, name, "transformers"),
            by(Who::SentenceTransformers, name, "sentence-transformers"),
        ],
        bar: Some(1.2),
        floor: None,
    };
    let every = |solver, label, bar| Case {
        name: "every unit of every text",
        unit: Unit::Units,
        ours: by(Who::Encode, solver, label),
        peers: vec![by(Who::SentenceTransformers, "units", "sentence-transformers")],
        bar,
        floor: None,
    };
    vec![
        case("words"),
        case("phrases"),
        case("sentences"),
        every("hierarchical", "tavq-encode, hierarchical, splitting included", Some(5.0)),
        every("independent", "tavq-encode, each unit alone, repeats from memory, splitting included", None),
    ]
}

//! What `cargo xtask bench ot` measures, against whom, and the bars that tavq-ot is held to.

/// Whose program solves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Ours,
    Pot,
    Ott,
    GeomLoss,
}

impl Who {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "tavq-ot",
            Self::Pot => "POT",
            Self::Ott => "OTT",
            Self::GeomLoss => "GeomLoss",
        }
    }
}

/// One solver of one program, by the name that the program knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) who: Who,
    pub(crate) solver: &'static str,
}

impl Contender {
    pub(crate) fn label(self) -> String {
        format!("{} {}", self.who.name(), self.solver.replace('+', " "))
    }
}

const fn ours(solver: &'static str) -> Contender {
    Contender { who: Who::Ours, solver }
}

const fn pot(solver: &'static str) -> Contender {
    Contender { who: Who::Pot, solver }
}

const fn ott(solver: &'static str) -> Contender {
    Contender { who: Who::Ott, solver }
}

const fn geomloss(solver: &'static str) -> Contender {
    Contender { who: Who::GeomLoss, solver }
}

/// The best of ours beside each of the peers; the fastest of these must take at least `bar` times as long.
#[derive(Debug, Clone)]
pub(crate) struct Comparison {
    pub(crate) ours: Vec<Contender>,
    pub(crate) peers: Vec<Contender>,
    pub(crate) bar: Option<f64>,
}

/// How much of a solve is timed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Work {
    /// One iteration, as the difference of two numbers of them ([`Work::counts`]).
    Iteration(usize, usize),
    /// This many iterations.
    Fixed(usize),
    /// Until the marginals are this close.
    Tolerance(f64),
    /// To the optimum; values must agree to a relative 1e-9.
    Optimum,
}

impl Work {
    /// The two numbers of iterations that an iteration is timed by. A fast one takes more of them, or its time drowns in
    /// the noise of setting up.
    pub(crate) fn counts(self, contender: Contender) -> Option<[usize; 2]> {
        let Self::Iteration(low, high) = self else { return None };
        let slow =
            contender.who != Who::Ours && (contender.solver == "sinkhorn_log" || contender.solver.starts_with("lse"));
        Some([low, if slow { high } else { 5 * high }])
    }
}

/// One input and all who solve it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) input: String,
    pub(crate) epsilon: f64,
    pub(crate) work: Work,
    pub(crate) comparisons: Vec<Comparison>,
    /// Ours that is timed for the tables of variants, beyond what is compared.
    pub(crate) variants: Vec<Contender>,
}

impl Case {
    /// Everyone once, ours and peers in turns.
    pub(crate) fn contenders(&self) -> Vec<Contender> {
        let compared = self.comparisons.iter().flat_map(|c| c.ours.iter().chain(&c.peers));
        let mut all: Vec<Contender> = Vec::new();
        for contender in compared.chain(&self.variants) {
            if !all.contains(contender) {
                all.push(*contender);
            }
        }
        let (ours, peers): (Vec<_>, Vec<_>) = all.into_iter().partition(|contender| contender.who == Who::Ours);
        let longer = ours.len().max(peers.len());
        (0..longer).flat_map(|k| ours.get(k).into_iter().chain(peers.get(k))).copied().collect()
    }
}

/// Cases that share a table.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// For `--group`.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) about: &'static str,
    pub(crate) cases: Vec<Case>,
}

/// Forms with ways to fewer iterations; the first of each form is the plain one.
pub(crate) const FORMS: [[&str; 4]; 2] = [
    ["log+none", "log+auto", "log+anderson", "log+relaxed"],
    ["scaling+none", "scaling+auto", "scaling+anderson", "scaling+relaxed"],
];
const TOLERANCE: f64 = 1e-6;

/// All groups; with `quick` small sizes only.
pub(crate) fn groups(quick: bool) -> Vec<Group> {
    let sizes: &[usize] = if quick { &[256] } else { &[256, 1024, 4096] };
    let large: &[usize] = if quick { &[256] } else { &[1024, 4096] };
    vec![iteration(large), sharp(sizes), blurred(sizes), batch(), exact(sizes), points(quick)]
}

fn iteration(sizes: &[usize]) -> Group {
    let case = |&n: &usize| Case {
        name: format!("{n} x {n}"),
        input: format!("clouds-{n}"),
        epsilon: 0.005,
        work: if n > 2000 { Work::Iteration(2, 10) } else { Work::Iteration(10, 50) },
        comparisons: vec![
            compare(&[ours("log+none")], &[pot("sinkhorn_log")], Some(20.0)),
            compare(&[ours("log+none")], &[ott("lse")], Some(3.0)),
            compare(&[ours("log+f32+none")], &[ott("lse f32")], Some(2.0)),
            compare(&[ours("scaling+none")], &[pot("sinkhorn")], None),
        ],
        variants: vec![ours("scaling+f32+none")],
    };
    Group {
        name: "iteration",
        title: "One iteration",
        about: "Both potentials updated once; f64 unless f32 is said. The difference of two numbers of iterations, so that \
                setting up and writing the plan drop out. Epsilon 0.005, at which no run is done before.",
        cases: sizes.iter().map(case).collect(),
    }
}

fn sharp(sizes: &[usize]) -> Group {
    let peers = [pot("sinkhorn"), pot("sinkhorn_stabilized"), pot("sinkhorn_log"), ott("tuned")];
    let case = |&n: &usize| Case {
        name: format!("n = {n}"),
        input: format!("clouds-{n}"),
        epsilon: 0.005,
        work: Work::Tolerance(TOLERANCE),
        comparisons: vec![compare(&[ours("log+auto")], &peers, Some(3.0))],
        variants: FORMS.as_flattened().iter().map(|name| ours(name)).collect(),
    };
    Group {
        name: "sharp",
        title: "To a marginal error of 1e-6, epsilon 0.005",
        about: "Two normal clouds of n points in 64 dimensions, squared distances scaled to a largest of 1, equal masses. \
                tavq-ot as it comes (log domain, automatic acceleration); of OTT the fastest of plain, over-relaxed, adaptive \
                and Anderson iterations, in the log domain and on the kernel. Times of tavq-ot and POT include the plan; OTT \
                stops at the potentials. The bar is for the fastest peer.",
        cases: sizes.iter().map(case).collect(),
    }
}

fn blurred(sizes: &[usize]) -> Group {
    let both = [ours("log+auto"), ours("scaling+auto")];
    let case = |&n: &usize| Case {
        name: format!("n = {n}"),
        input: format!("clouds-{n}"),
        epsilon: 0.05,
        work: Work::Tolerance(TOLERANCE),
        comparisons: vec![
            compare(&both, &[pot("sinkhorn")], Some(1.0)),
            compare(&both, &[pot("sinkhorn_log"), ott("tuned")], None),
        ],
        variants: vec![ours("log+none"), ours("scaling+none")],
    };
    Group {
        name: "blurred",
        title: "To a marginal error of 1e-6, epsilon 0.05",
        about: "The same inputs; a few iterations are enough, so that setting up and writing the plan count. The better form \
                of tavq-ot; the next table has both.",
        cases: sizes.iter().map(case).collect(),
    }
}

fn batch() -> Group {
    let (log, scaling) = ([ours("log+none")], [ours("scaling+none")]);
    let both = [ours("scaling+none"), ours("log+none")];
    let case = Case {
        name: "64 problems of 64 x 256".into(),
        input: "batch".into(),
        epsilon: 0.01,
        work: Work::Fixed(100),
        comparisons: vec![
            compare(&both, &[ott("batch lse")], Some(4.0)),
            compare(&both, &[pot("loop sinkhorn_log")], Some(100.0)),
            compare(&both, &[pot("loop sinkhorn")], Some(6.0)),
            compare(&log, &[ott("batch lse"), pot("loop sinkhorn_log"), pot("batch log_sinkhorn")], None),
            compare(&scaling, &[pot("batch sinkhorn"), ott("batch kernel")], None),
            compare(&[ours("scaling+f32+none")], &[pot("loop sinkhorn_log"), pot("loop sinkhorn")], None),
        ],
        variants: vec![ours("log+f32+none")],
    };
    Group {
        name: "batch",
        title: "A batch, 100 iterations",
        about: "Epsilon 0.01, at which no problem is done before, random masses. The bars are for the faster form of tavq-ot, whatever the peer's (both forms reach one \
                plan); log domain beside log domain follows.",
        cases: vec![case],
    }
}

fn exact(sizes: &[usize]) -> Group {
    let kinds = [
        ("points", "points, random masses", 1.0),
        ("grid", "grid, random masses", 1.0),
        ("uniform", "points, equal masses", 1.5),
    ];
    let case = |n: usize, (kind, name, bar): (&str, &str, f64)| Case {
        name: format!("{name}, n = {n}"),
        input: format!("{kind}-{n}"),
        epsilon: 0.0,
        work: Work::Optimum,
        comparisons: if kind == "uniform" {
            vec![
                compare(&[ours("exact")], &[pot("emd")], Some(bar)),
                compare(&[ours("exact")], &[pot("assignment")], None),
            ]
        } else {
            vec![compare(&[ours("exact")], &[pot("emd")], Some(bar))]
        },
        variants: Vec::new(),
    };
    Group {
        name: "exact",
        title: "Exact",
        about: "Random points of the cube of 64 dimensions; two images on one square grid of whole numbers. All values agree \
                to a relative 1e-9 or the row says otherwise. `assignment` is SciPy's linear_sum_assignment.",
        cases: kinds.iter().flat_map(|&kind| sizes.iter().map(move |&n| case(n, kind))).collect(),
    }
}

fn points(quick: bool) -> Group {
    let n = if quick { 2000 } else { 20_000 };
    let case = Case {
        name: format!("{n} x {n} points of 3 dimensions"),
        input: format!("cube-{n}"),
        epsilon: 0.01,
        work: Work::Tolerance(1e-3),
        comparisons: vec![
            compare(&[ours("log+f32+auto")], &[geomloss("online f32"), geomloss("multiscale f32")], None),
            compare(&[ours("log+auto")], &[geomloss("online")], None),
        ],
        variants: Vec::new(),
    };
    Group {
        name: "points",
        title: "Points whose costs are never stored",
        about: "Potentials and value to a marginal error of 1e-3, squared distances, epsilon 0.01. GeomLoss lowers its epsilon \
                by a fixed schedule and has no tolerance: its error is what that reaches.",
        cases: vec![case],
    }
}

fn compare(ours: &[Contender], peers: &[Contender], bar: Option<f64>) -> Comparison {
    Comparison { ours: ours.into(), peers: peers.into(), bar }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_runs_once_ours_and_peers_in_turns() {
        for group in groups(false) {
            for case in group.cases {
                let all = case.contenders();
                assert_eq!((all[0].who, all[1].who == Who::Ours), (Who::Ours, false), "{}", case.name);
                for (k, contender) in all.iter().enumerate() {
                    assert!(!all[..k].contains(contender), "{} twice", contender.label());
                }
            }
        }
    }
}

//! `tavq ot demo`: what entropy does to a plan, as a picture. The exact plan stands beside two entropic ones.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use image::RgbImage;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use ndarray::Array2;
use serde::Serialize;
use tavq_ot::{Coupling, Exact, Metric, Points, Problem, Sinkhorn, Solver};

use super::inputs::{points, uniform};
use super::outputs::check_outputs;
use super::panels::{Panel, draw};
use super::shapes::Shape;
use crate::failure::{Failure, Outcome, writing};
use crate::output::{json, say};

/// Points on a side at most; more would be a grey square.
const MOST: usize = 2000;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Built-in clouds.
    #[arg(long, value_enum, default_value = "clusters")]
    shape: Shape,
    /// Points of each built-in cloud.
    #[arg(long, default_value_t = 50)]
    points: usize,
    /// Seed of the built-in clouds.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Source points of your own, .npy, n x 2.
    #[arg(long, value_name = "FILE")]
    x: Option<PathBuf>,
    /// Target points of your own, .npy, m x 2.
    #[arg(long, value_name = "FILE")]
    y: Option<PathBuf>,
    /// The two entropic strengths, in units of the squared distance; by default 0.003 and 0.1 of its mean.
    #[arg(long, value_name = "E1,E2", value_delimiter = ',', allow_negative_numbers = true)]
    epsilon: Vec<f64>,
    /// The picture to write, .png.
    #[arg(long)]
    out: PathBuf,
    /// Prints the values as JSON.
    #[arg(long)]
    json: bool,
}

/// What was drawn.
#[derive(Serialize)]
struct Drawn {
    method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon: Option<f64>,
    value: f64,
    /// Targets that a source reaches: the exponential of the mean entropy of the rows.
    reach: f64,
    status: String,
}

pub(crate) fn run(args: &DemoArgs) -> Outcome {
    let inputs = args.x.iter().chain(&args.y).map(PathBuf::as_path);
    check_outputs(&[("--out", Some(&args.out), &["png"])], inputs)?;
    let (x, y) = clouds(args)?;
    let points = Points::new(x.view(), y.view(), Metric::SquaredEuclidean)?;
    let cost = points.costs();
    let (source, target) = (uniform(x.nrows()), uniform(y.nrows()));
    let problem = Problem::new(cost.view(), source.view(), target.view())?;
    let mut couplings = vec![(None, Exact::new().solve(&problem)?)];
    for epsilon in epsilons(args, &cost)? {
        couplings.push((Some(epsilon), Sinkhorn::new(epsilon)?.tolerance(1e-6)?.solve(&problem)?));
    }
    let drawn: Vec<Drawn> = couplings.iter().map(|(epsilon, coupling)| Drawn::of(*epsilon, coupling)).collect();
    let panels = drawn.iter().zip(&couplings).map(|(drawn, (_, coupling))| drawn.panel(&coupling.plan));
    let picture = draw(&panels.collect::<Vec<_>>(), &x, &y).map_err(Failure::Work)?;
    write(args, &picture)?;
    if args.json {
        return json(&serde_json::json!({"path": args.out, "plans": drawn}));
    }
    for one in &drawn {
        say!("{}: value {:.6}, {:.1} targets a source, {}", one.title(), one.value, one.reach, one.status);
    }
    say!("{}", args.out.display());
    Ok(())
}

fn clouds(args: &DemoArgs) -> Outcome<(Array2<f64>, Array2<f64>)> {
    let (x, y) = match (&args.x, &args.y) {
        (Some(x), Some(y)) => (points(x)?, points(y)?),
        (None, None) if (1..=MOST).contains(&args.points) => return Ok(args.shape.clouds(args.points, args.seed)),
        (None, None) => {
            return Err(Failure::input(anyhow!("--points: expected 1 to {MOST}, found {}", args.points)));
        }
        (Some(_), None) => return Err(Failure::input(anyhow!("--x: expected --y beside it, found none"))),
        (None, Some(_)) => return Err(Failure::input(anyhow!("--y: expected --x beside it, found none"))),
    };
    for (path, cloud) in [(&args.x, &x), (&args.y, &y)] {
        let (rows, columns) = cloud.dim();
        if columns != 2 || !(1..=MOST).contains(&rows) {
            let path = path.as_deref().unwrap_or(std::path::Path::new("")).display();
            return Err(Failure::input(anyhow!(
                "{path}: expected 1 to {MOST} points of 2 coordinates, found shape ({rows}, {columns})"
            )));
        }
    }
    Ok((x, y))
}

fn epsilons(args: &DemoArgs, cost: &Array2<f64>) -> Outcome<[f64; 2]> {
    match args.epsilon[..] {
        [first, second] => Ok([first, second]),
        [] => {
            let mean = cost.mean().unwrap_or(0.0).max(f64::MIN_POSITIVE);
            Ok([0.003, 0.1].map(|share| rounded(share * mean)))
        }
        _ => Err(Failure::input(anyhow!("--epsilon: expected two numbers, found {}", args.epsilon.len()))),
    }
}

/// To one digit, so that the caption is the number itself. One cloud on one point has no cost; then any number does.
fn rounded(value: f64) -> f64 {
    if value < 1e-100 { 1.0 } else { format!("{value:.0e}").parse().unwrap_or(value) }
}

impl Drawn {
    fn of(epsilon: Option<f64>, coupling: &Coupling) -> Self {
        let total = coupling.plan.sum();
        let entropy = |row: ndarray::ArrayView1<'_, f64>| {
            let sent = row.sum();
            row.iter().filter(|p| **p > 0.0).map(|p| -p * (p / sent).ln()).sum::<f64>()
        };
        Self {
            method: if epsilon.is_some() { "sinkhorn" } else { "exact" },
            epsilon,
            value: coupling.value,
            reach: (coupling.plan.outer_iter().map(entropy).sum::<f64>() / total).exp(),
            status: coupling.status.to_string(),
        }
    }

    fn title(&self) -> String {
        self.epsilon.map_or_else(|| "Exact".to_owned(), |epsilon| format!("Entropic, \u{3b5} = {epsilon}"))
    }

    fn panel<'a>(&self, plan: &'a Array2<f64>) -> Panel<'a> {
        let value = self.value;
        let plain = value == 0.0 || (1e-3..1e6).contains(&value);
        let value = if plain { format!("{value:.4}") } else { format!("{value:.3e}") };
        let caption = format!("cost {value}; a source reaches {:.1} targets", self.reach);
        Panel { plan, title: self.title(), caption }
    }
}

fn write(args: &DemoArgs, picture: &RgbImage) -> Outcome {
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::Adaptive);
    picture.write_with_encoder(encoder).map_err(Failure::work)?;
    tavq_torch::write_atomic(&args.out, |out| out.write_all(&bytes)).map_err(writing(&args.out))
}

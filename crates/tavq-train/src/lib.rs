//! Training over traits: objective, optimiser, loop, checkpoints, exact resume, evaluation.
//!
//! The crate sees backbones, quantizers, samplers, costs, sinks and process groups as traits; which
//! concrete ones a configuration names is the business of a [`Registry`] filled elsewhere.

mod checkpoint;
mod config;
mod data;
mod error;
mod evaluate;
mod model;
mod model_file;
mod optimizer;
mod picture;
mod progress;
mod registry;
mod sink;
mod state;
mod text;
mod trainer;

pub use checkpoint::{Checkpoint, FORMAT, State, hash_file};
pub use config::{Config, DataConfig, Gradient, LossConfig, ModelConfig, RunConfig, TextConfig, device};
pub use data::{DataSet, Images, to_tensor};
pub use error::{Result, TrainError};
pub use evaluate::{DATA_RANGE, Evaluation, LevelRetrieval, Retrieval, Seen, evaluate, mean_image, rank_texts};
pub use model::{Forward, Model};
pub use model_file::{MODEL_FORMAT, ModelFile, Origin};
pub use optimizer::{Adam, OptimizerConfig, Schedule};
pub use picture::{to_images, write_pairs, write_png};
pub use progress::Progress;
pub use registry::{BackboneBuilder, QuantizerBuilder, Registry, parse_table};
pub use sink::{JsonlSink, Record, RecordKind, Sink};
pub use state::{StateReader, StateWriter, Stateful};
pub use text::TextSide;
pub use trainer::{Outcome, Services, Trainer, name_of};

//! Finite scalar quantization against vector-quantize-pytorch, recorded by `golden/lucidrains.py`.

mod common;

use std::path::Path;

use common::{gap, noise};
use tavq_quant::laws::quantizer_laws;
use tavq_quant::{Fsq, FsqConfig, Quantizer, QuantizerConfig};
use tavq_torch::TensorFile;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

fn fsq(levels: &[i64]) -> Fsq {
    let config = FsqConfig { levels: levels.to_vec() };
    Fsq::new(&VarStore::new(Device::Cpu).root(), &config, levels.len() as i64).unwrap()
}

#[test]
fn codes_indices_and_gradients_agree_with_vector_quantize_pytorch() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/lucidrains.safetensors");
    let file = TensorFile::open(&path).unwrap();
    let get = |name: &str| file.get(&format!("fsq.{name}")).unwrap();
    let z = get("latent").set_requires_grad(true);
    let found = fsq(&[8, 5, 4, 3]).quantize(&z, true).unwrap();
    (&found.latent * get("direction")).sum(Kind::Float).backward();
    assert_eq!(found.indices, get("indices").to_kind(Kind::Int64));
    assert!(gap(&found.latent, &get("quantized")) < 1e-6);
    assert!(gap(&z.grad(), &get("latent_grad")) < 1e-6);
}

#[test]
fn every_index_names_one_point_of_the_grid() {
    for levels in [&[3][..], &[4, 3], &[8, 5, 5, 5], &[7, 3, 6]] {
        let grid = fsq(levels);
        let all = Tensor::arange(grid.codes(), (Kind::Int64, Device::Cpu));
        let codes = grid.lookup(&all).unwrap();
        assert_eq!((grid.codes(), codes.size()), (levels.iter().product(), vec![grid.codes(), levels.len() as i64]));
        let (unique, _, _) = codes.unique_dim(0, true, false, false);
        assert_eq!(unique.size()[0], grid.codes());
        assert!(codes.abs().max().double_value(&[]) <= 1.0);
        let dim = levels.len() as i64;
        let found = grid.quantize(&(noise(&[4, dim, 8, 8], 3) * 2.0), false).unwrap();
        assert_eq!(grid.lookup(&found.indices).unwrap().permute([0, 3, 1, 2]), found.latent);
    }
}

#[test]
fn far_vectors_end_on_the_outermost_levels() {
    for levels in [&[1024][..], &[5000, 3], &[4001, 4]] {
        let grid = fsq(levels);
        let dim = levels.len() as i64;
        let ends = Tensor::from_slice(&[-100f32, 100.0]).view([2, 1, 1, 1]).repeat([1, dim, 1, 1]);
        let q = grid.quantize(&ends, false).unwrap();
        assert_eq!(Vec::<i64>::try_from(q.indices.view([-1])).unwrap(), [0, grid.codes() - 1], "{levels:?}");
        assert_eq!(grid.lookup(&q.indices).unwrap().permute([0, 3, 1, 2]), q.latent);
    }
}

#[test]
fn grids_of_few_odd_levels_keep_the_laws() {
    for levels in [&[5, 5, 3, 3][..], &[3; 6]] {
        let dim = levels.len() as i64;
        if let Err(broken) = quantizer_laws(dim, &mut |_| Box::new(fsq(levels))) {
            panic!("{levels:?}: {broken}");
        }
    }
}

#[test]
fn wrong_levels_are_refused_by_name() {
    let build = |levels: &[i64], dim: i64| {
        let config = QuantizerConfig::Fsq(FsqConfig { levels: levels.to_vec() });
        config.build(&VarStore::new(Device::Cpu).root(), dim).map(|_| ()).unwrap_err().to_string()
    };
    for (levels, dim, says) in [
        (&[][..], 1, "quantizer.levels: expected numbers of at least 3, found []"),
        (&[8, 2], 2, "quantizer.levels: expected numbers of at least 3, found [8, 2]"),
        (&[8, 5], 3, "quantizer.levels: expected as many numbers as vectors are wide, 3, found [8, 5]"),
        (&[1 << 20, 1 << 20], 2, "quantizer.levels: expected a product of at most 16777216, found"),
        (&[1 << 24; 4], 4, "quantizer.levels: expected a product of at most 16777216, found"),
    ] {
        let found = build(levels, dim);
        assert!(found.starts_with(says), "{found}");
    }
    assert!(fsq(&[3, 3]).quantize(&noise(&[1, 3, 2, 2], 1), false).is_err());
}

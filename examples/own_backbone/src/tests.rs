//! Both parts keep the laws of their seams.

use tavq_quant::laws::{backbone_laws, quantizer_laws};
use tch::Device;
use tch::nn::VarStore;

use crate::signs::{self, Signs};
use crate::{Keys, Pyramid};

#[test]
fn the_backbone_keeps_the_laws() {
    let store = VarStore::new(Device::Cpu);
    backbone_laws(&Pyramid::new(&store.root(), Keys { width: 16, bits: 10 }), (16, 24)).unwrap();
}

#[test]
fn the_quantizer_keeps_the_laws() {
    quantizer_laws(7, &mut |path| Box::new(Signs::new(path, signs::Keys::default(), 7).unwrap())).unwrap();
}

"""Loads our exports with taming-transformers' own code and reconstructs with it.

pip install torch==2.11.0 numpy pyyaml einops && pip install --no-deps taming-transformers-rom1504==0.0.6
tavq checkpoint export --to taming MODEL --out m.ckpt; python3 golden/taming_export.py m [IMAGES.npy OUT.safetensors]

OUT.safetensors is what `tavq reconstruct --checkpoint MODEL --tensors IMAGES.npy` wrote. Found on the two recorded models of
golden/vqgan.py, on a GumbelVQ and on a VQModel with resamp_with_conv: false: every key matches, and reconstructions differ by
1.0e-5 at most.
"""
import importlib
import sys
import types

import numpy as np
import torch
import yaml
from safetensors.torch import load_file


def build(config):
    module, name = config["target"].rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**config.get("params", {}))


# The package imports a trainer and downloaders, of which loading and reconstructing need nothing.
for name in ("pytorch_lightning", "taming.main", "torchvision", "torchvision.models", "requests", "tqdm"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["pytorch_lightning"].LightningModule = torch.nn.Module
sys.modules["taming.main"].instantiate_from_config = build
sys.modules["torchvision"].models = sys.modules["torchvision.models"]
sys.modules["tqdm"].tqdm = None


@torch.no_grad()
def main(stem, images=None, ours=None):
    with open(f"{stem}.yaml") as f:
        model = build(yaml.safe_load(f)["model"]).eval()
    state = torch.load(f"{stem}.ckpt", weights_only=True)["state_dict"]
    print(model.load_state_dict(state, strict=False))
    if images:
        found, _ = model(torch.from_numpy(np.load(images)))
        print("largest difference", (found - load_file(ours)["reconstruction"]).abs().max().item())


main(*sys.argv[1:])

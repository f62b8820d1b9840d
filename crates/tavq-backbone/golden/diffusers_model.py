"""Makes diffusers.safetensors and diffusers_bare.safetensors, what diffusers' VQModel gives, and diffusers_export.safetensors,
what it gives for our export.

pip install torch==2.11.0 diffusers==0.42.1 safetensors numpy; python3 golden/diffusers_model.py
TAVQ_EXPORTED="$PWD/exported" cargo test -p tavq-cli --test commands diffusers_reads_our_export
python3 golden/diffusers_model.py exported exported

Weights follow from their names (formula.py), so the files hold configurations, images and results alone. The second
command lets our own code write the folder that the third one loads with diffusers' own code. Found with diffusers 0.42.1:
indices equal both ways; importing, latents differ by 2.7e-6 at most and reconstructions by 5.6e-6 (bare: 1.1e-6 and 3.7e-6); exporting, by 2.6e-6 and
7.8e-6 (the tests print these numbers with `-- --nocapture`).
"""
import json
import pathlib
import sys

import torch
from diffusers import VQModel
from formula import formula, noise
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
# Widths that differ from stage to stage: with the decoder's blocks in another order no shape would fit.
CONFIG = {
    "block_out_channels": [32, 64, 32], "layers_per_block": 1, "latent_channels": 12, "sample_size": 16,
    "down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D", "AttnDownEncoderBlock2D"],
    "up_block_types": ["AttnUpDecoderBlock2D", "AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
    "num_vq_embeddings": 48, "vq_embed_dim": 8,
}
# No attention, and groups of other sizes: the network of aMUSEd (amused/amused-256), in small.
BARE = {
    "block_out_channels": [16, 32, 48], "layers_per_block": 2, "latent_channels": 8, "sample_size": 16,
    "down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3,
    "num_vq_embeddings": 48, "norm_num_groups": 8, "mid_block_add_attention": False, "lookup_from_codebook": True,
}


def results(model, images):
    h = model.encode(images).latents
    indices = model.quantize(h)[2][2]
    near = torch.cdist(h.permute(0, 2, 3, 1).reshape(-1, h.shape[1]).double(), model.quantize.embedding.weight.double())
    near = near.topk(2, 1, largest=False).values
    apart, used = (near[:, 1] - near[:, 0]).min().item(), len(indices.unique())
    print("apart", apart, "used", used)
    # Choices must not hang on rounding, nor all cells choose one code.
    assert apart > 1e-4 and used > 8
    found = {"latent": h, "indices": indices, "reconstruction": model.decode(h).sample, "images": images}
    return {k: v.contiguous() for k, v in found.items()}


def images(name):
    return torch.from_numpy(noise(f"{name} images", (2, 3, 16, 24)).astype("float32"))


def make(name, config):
    model = VQModel(**config).eval()
    state = {name: formula(name, tuple(value.shape)) for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    shapes = {name: list(value.shape) for name, value in state.items()}
    config = {k: v for k, v in model.config.items() if k != "_name_or_path"}
    more = {"config": json.dumps({**config, "_class_name": "VQModel"}), "shapes": json.dumps(shapes)}
    save_file(results(model, images(name)), HERE / f"{name}.safetensors", more)


@torch.no_grad()
def main(mode=None, folder=None):
    if mode == "exported":
        model = VQModel.from_pretrained(folder).eval()
        save_file(results(model, images("diffusers_export")), HERE / "diffusers_export.safetensors")
    else:
        make("diffusers", CONFIG)
        make("diffusers_bare", BARE)


main(*sys.argv[1:])

"""Makes lightning.ckpt and lightning.yaml: a taming-transformers checkpoint as Lightning leaves it, with all that lies around the weights.

pip install torch==2.11.0 numpy pyyaml; python3 golden/lightning.py

Beside the network there are a discriminator with BatchNorm, a perceptual network, a frozen CLIP as LG-VQ keeps it, an EMA
copy as latent-diffusion keeps it, two optimisers, callbacks under a class as key, a scalar of NumPy and a namespace. Every
tensor repeats a single number, so that the file stays small; the network's shapes are those of `CONFIG`.
"""
import argparse
import pathlib

import numpy as np
import torch
import yaml

HERE = pathlib.Path(__file__).parent
CONFIG = {"model": {"target": "taming.models.vqgan.VQModel", "params": {
    "embed_dim": 4, "n_embed": 6, "monitor": "val/rec_loss", "image_key": "image",
    "ddconfig": {"double_z": False, "z_channels": 4, "resolution": 8, "in_channels": 3, "out_ch": 3, "ch": 32,
                 "ch_mult": [1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0},
    "lossconfig": {"target": "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator",
                   "params": {"disc_conditional": False, "disc_start": 10000}}}}}


class ModelCheckpoint:
    """Stands for Lightning's callback of this name."""


def fill(*shape):
    return torch.full((1,), 0.0625).expand(shape)


def network():
    def conv(name, to, size, kernel=3):
        return {f"{name}.weight": fill(to, size, kernel, kernel), f"{name}.bias": fill(to)}

    def norm(name):
        return {f"{name}.weight": fill(32), f"{name}.bias": fill(32)}

    def block(name):
        return norm(f"{name}.norm1") | conv(f"{name}.conv1", 32, 32) | norm(f"{name}.norm2") | conv(f"{name}.conv2", 32, 32)

    def middle(side):
        attention = norm(f"{side}.mid.attn_1.norm")
        for part in ("q", "k", "v", "proj_out"):
            attention |= conv(f"{side}.mid.attn_1.{part}", 32, 32, 1)
        return block(f"{side}.mid.block_1") | attention | block(f"{side}.mid.block_2")

    encoder = conv("encoder.conv_in", 32, 3) | block("encoder.down.0.block.0") | middle("encoder")
    encoder |= norm("encoder.norm_out") | conv("encoder.conv_out", 4, 32)
    decoder = conv("decoder.conv_in", 32, 4) | middle("decoder")
    decoder |= block("decoder.up.0.block.0") | block("decoder.up.0.block.1")
    decoder |= norm("decoder.norm_out") | conv("decoder.conv_out", 3, 32)
    return encoder | decoder | conv("quant_conv", 4, 4, 1) | conv("post_quant_conv", 4, 4, 1)


def main():
    state = network()
    # Six codes, at steps of one half along every axis.
    state["quantize.embedding.weight"] = (torch.arange(6.0) / 2).view(6, 1).expand(6, 4)
    around = {f"loss.perceptual_loss.net.slice1.{i}.weight": fill(64, 3, 3, 3) for i in (0, 2)}
    for part in ("weight", "bias", "running_mean", "running_var"):
        around[f"loss.discriminator.main.3.{part}"] = fill(128)
    around["loss.discriminator.main.3.num_batches_tracked"] = torch.tensor(7)
    around |= {f"clip_model.visual.transformer.resblocks.{i}.ln_1.weight": fill(768) for i in range(12)}
    around |= {"clip_model.text_projection": torch.full((1,), 0.5).half().expand(512, 512), "text_prediction.0.weight": fill(8, 8)}
    around |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5, dtype=torch.int32),
               "model_ema.encoderconv_inweight": fill(32, 3, 3, 3)}
    moments = {0: {"step": 7, "exp_avg": fill(32, 3, 3, 3), "exp_avg_sq": fill(32, 3, 3, 3)}}
    torch.save({
        "epoch": 3, "global_step": 1234, "pytorch-lightning_version": "1.0.8",
        "callbacks": {ModelCheckpoint: {"best_model_score": np.float64(0.5), "monitor": "val/rec_loss"}},
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 4.5e-6, "betas": (0.5, 0.9), "params": [0]}]}] * 2,
        "lr_schedulers": [], "state_dict": state | around, "hyper_parameters": argparse.Namespace(seed=23),
    }, HERE / "lightning.ckpt")
    (HERE / "lightning.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))


main()

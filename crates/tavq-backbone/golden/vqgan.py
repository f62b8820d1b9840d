"""Makes vqgan_*.safetensors; with a second folder, also turns recordings into files for the test `recorded_models`.

pip install torch numpy safetensors pyyaml; python3 golden/vqgan.py RECORDINGS [CONVERTED]

RECORDINGS holds one folder per case: model.ckpt (a Lightning checkpoint), model.yaml (embed_dim, n_embed, ddconfig),
images.npy [B, 3, H, W] and expect.npz (z, zq, indices, recon, loss), made with the authors' public code
(CompVis/taming-transformers, MIT licence, Copyright (c) 2020 Patrick Esser and Robin Rombach and Björn Ommer) on random
weights. Recorded weights take megabytes, so they are not committed. Instead the network is written down once more
below, must reproduce every recording, and then gives outputs for weights that follow from a formula.
"""
import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import save_file

from formula import formula, noise


class Net:
    """The network as functions over a dict of named weights; `shapes` collects names and shapes where it is given."""

    def __init__(self, config, weights):
        self.c, self.w = config, weights

    def conv(self, x, name, to, kernel, stride=1, padding=None):
        weight, bias = self.w(f"{name}.weight", (to, x.shape[1], kernel, kernel)), self.w(f"{name}.bias", (to,))
        return F.conv2d(x, weight, bias, stride, kernel // 2 if padding is None else padding)

    def norm(self, x, name):
        n = x.shape[1]
        groups = self.c.get("norm_num_groups", 32)
        return F.group_norm(x, groups, self.w(f"{name}.weight", (n,)), self.w(f"{name}.bias", (n,)), 1e-6)

    def block(self, x, name, to):
        h = self.conv(F.silu(self.norm(x, f"{name}.norm1")), f"{name}.conv1", to, 3)
        h = self.conv(F.silu(self.norm(h, f"{name}.norm2")), f"{name}.conv2", to, 3)
        return h + (x if x.shape[1] == to else self.conv(x, f"{name}.nin_shortcut", to, 1))

    def attention(self, x, name):
        b, c, h, w = x.shape
        normed = self.norm(x, f"{name}.norm")
        q, k, v = (self.conv(normed, f"{name}.{part}", c, 1).flatten(2).mT for part in "qkv")
        mixed = F.scaled_dot_product_attention(q, k, v).mT.reshape(b, c, h, w)
        return x + self.conv(mixed, f"{name}.proj_out", c, 1)

    def stage(self, x, name, i, blocks):
        for j in range(blocks):
            x = self.block(x, f"{name}.block.{j}", self.c["ch"] * self.c["ch_mult"][i])
            if self.c["resolution"] >> i in self.c["attn_resolutions"]:
                x = self.attention(x, f"{name}.attn.{j}")
        return x

    def middle(self, x, name):
        n = x.shape[1]
        h = self.block(x, f"{name}.block_1", n)
        if self.c.get("mid_attention", True):
            h = self.attention(h, f"{name}.attn_1")
        return self.block(h, f"{name}.block_2", n)

    def encode(self, x):
        h = self.conv(x, "encoder.conv_in", self.c["ch"], 3)
        stages = len(self.c["ch_mult"])
        for i in range(stages):
            h = self.stage(h, f"encoder.down.{i}", i, self.c["num_res_blocks"])
            if i + 1 < stages and not self.c.get("resamp_with_conv", True):
                h = F.avg_pool2d(h, 2)
            elif i + 1 < stages:
                h = self.conv(F.pad(h, (0, 1, 0, 1)), f"encoder.down.{i}.downsample.conv", h.shape[1], 3, 2, 0)
        h = F.silu(self.norm(self.middle(h, "encoder.mid"), "encoder.norm_out"))
        return self.conv(self.conv(h, "encoder.conv_out", self.c["z_channels"], 3), "quant_conv", self.c["embed_dim"], 1)

    def decode(self, z):
        stages = len(self.c["ch_mult"])
        h = self.conv(z, "post_quant_conv", self.c["z_channels"], 1)
        h = self.conv(h, "decoder.conv_in", self.c["ch"] * self.c["ch_mult"][-1], 3)
        h = self.middle(h, "decoder.mid")
        for i in reversed(range(stages)):
            h = self.stage(h, f"decoder.up.{i}", i, self.c["num_res_blocks"] + 1)
            if i > 0:
                h = F.interpolate(h, scale_factor=2.0)
                if self.c.get("resamp_with_conv", True):
                    h = self.conv(h, f"decoder.up.{i}.upsample.conv", h.shape[1], 3)
        out = self.conv(F.silu(self.norm(h, "decoder.norm_out")), "decoder.conv_out", self.c["out_ch"], 3)
        return out.tanh() if self.c.get("tanh_out") else out

    def run(self, images, codes):
        z = self.encode(images)
        book = self.w("quantize.embedding.weight", (codes, self.c["embed_dim"]))
        flat = z.permute(0, 2, 3, 1).reshape(-1, book.shape[1])
        near = torch.cdist(flat.double(), book.double()).topk(2, 1, largest=False)
        indices = near.indices[:, 0]
        zq = book[indices].view(*z.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
        apart = (near.values[:, 1] - near.values[:, 0]).min().item()
        return {"z": z, "indices": indices, "recon": self.decode(zq), "loss": 1.25 * F.mse_loss(zq, z)}, apart


def check(folder, converted):
    params = yaml.safe_load((folder / "model.yaml").read_text())["model"]["params"]
    config = {**params["ddconfig"], "embed_dim": params["embed_dim"]}
    # A recording is data: nothing but tensors and plain values is read from it.
    state = torch.load(folder / "model.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    images = torch.from_numpy(np.load(folder / "images.npy"))
    with np.load(folder / "expect.npz") as expect:
        expect = {name: torch.from_numpy(np.ascontiguousarray(expect[name])) for name in expect.files}
    found, _ = Net(config, lambda name, shape: state[name].view(shape)).run(images, params["n_embed"])
    assert torch.equal(found["indices"], expect["indices"]), folder.name
    gaps = {name: (found[name] - expect[name]).abs().max().item() for name in ("z", "recon", "loss")}
    assert max(gaps.values()) < 5e-5, (folder.name, gaps)
    print(folder.name, gaps)
    if converted:
        tensors = {f"model.{name}": value.contiguous() for name, value in state.items()}
        tensors |= {name: value.contiguous() for name, value in {**expect, "images": images}.items()}
        save_file(tensors, converted / f"{folder.name}.safetensors", {"config": json.dumps({**config, "levels": 1})})


def make(name, codes, size, config):
    images = torch.from_numpy(noise(f"{name} images", size).astype(np.float32))
    found, apart = Net(config, formula).run(images, codes)
    used = len(found["indices"].unique())
    print(name, {k: v.std().item() for k, v in found.items() if v.is_floating_point() and v.numel() > 1}, apart, used)
    # Choices must not hang on rounding, nor all cells choose one code.
    assert apart > 1e-4 and used > 8, (name, apart, used)
    tensors = {k: v.contiguous() for k, v in {**found, "images": images}.items()}
    path = pathlib.Path(__file__).parent / f"vqgan_{name}.safetensors"
    # One entry: several are written in no fixed order.
    save_file(tensors, path, {"config": json.dumps({**config, "levels": 1})})


@torch.no_grad()
def main(recordings, converted=None):
    if converted:
        converted = pathlib.Path(converted)
        converted.mkdir(parents=True, exist_ok=True)
    for folder in sorted(p for p in pathlib.Path(recordings).iterdir() if p.is_dir()):
        check(folder, converted)
    shared = {"out_ch": 3, "dropout": 0.0, "in_channels": 3, "double_z": False, "ch": 32}
    make("f2", 64, (2, 3, 16, 16), {**shared, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [8],
                                    "resolution": 16, "z_channels": 32, "embed_dim": 16})
    make("f8", 96, (2, 3, 32, 48), {**shared, "ch_mult": [1, 1, 2, 4], "num_res_blocks": 2,
                                    "attn_resolutions": [16, 4], "resolution": 32, "z_channels": 24, "embed_dim": 8})
    # What taming, latent-diffusion and diffusers leave out or add, each where its key says so.
    make("bare", 64, (2, 3, 16, 24), {**shared, "ch_mult": [1, 2, 1], "num_res_blocks": 1, "attn_resolutions": [8],
                                      "resolution": 16, "z_channels": 12, "embed_dim": 8, "norm_num_groups": 8,
                                      "mid_attention": False, "resamp_with_conv": False, "tanh_out": True})


main(*sys.argv[1:])

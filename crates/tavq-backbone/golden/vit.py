"""Makes vit.safetensors: latents of three levels by taps and by cascade, and a reconstruction.

pip install torch numpy safetensors; python3 golden/vit.py

The network of crates/tavq-backbone/src/vit written down once more in plain PyTorch, attention spelt out. Weights and
images follow from golden/formula.py; in the cascade a level's codes are its latent rounded to quarters.
"""
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from formula import formula, noise

SHARED = {"in_channels": 3, "patch": 4, "width": 24, "depth": 4, "heads": 3, "mlp": 40, "embed_dim": 6, "levels": 3}
SIZE = (2, 3, 16, 24)


def linear(x, name, to):
    return x @ formula(f"{name}.weight", (to, x.shape[-1])).T + formula(f"{name}.bias", (to,))


def norm(x, name):
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return scaled * formula(f"{name}.weight", x.shape[-1:]) + formula(f"{name}.bias", x.shape[-1:])


def point(x, name, to):
    """A 1x1 convolution of tokens, whose weight has four axes."""
    return x @ formula(f"{name}.weight", (to, x.shape[-1], 1, 1)).flatten(1).T + formula(f"{name}.bias", (to,))


def block(x, name, c):
    b, n, width = x.shape
    q, k, v = linear(norm(x, f"{name}.norm1"), f"{name}.qkv", 3 * width).split(width, -1)
    q, k, v = (part.view(b, n, c["heads"], -1).transpose(1, 2) for part in (q, k, v))
    mixed = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
    x = x + linear(mixed.transpose(1, 2).reshape(b, n, width), f"{name}.proj", width)
    return x + linear(F.gelu(linear(norm(x, f"{name}.norm2"), f"{name}.fc1", c["mlp"])), f"{name}.fc2", width)


def head(x, name, c, to):
    x = norm(x, f"{name}.norm")
    if c["head"] == "linear":
        return linear(x, f"{name}.head.0", to)
    return linear(torch.tanh(linear(x, f"{name}.head.0", c["mlp"])), f"{name}.head.1", to)


def positions(h, w, width):
    out = np.zeros((h, w, width))
    for k in range(width // 4):
        rate = 10000.0 ** (-4 * k / width)
        for at, place in ((0, np.arange(h)[:, None]), (width // 2, np.arange(w)[None, :])):
            out[:, :, at + k] = np.sin(place * rate)
            out[:, :, at + width // 4 + k] = np.cos(place * rate)
    return torch.from_numpy(out.reshape(h * w, width)).float()


def run(c, images):
    h, w = SIZE[2] // c["patch"], SIZE[3] // c["patch"]
    grid = lambda tokens: tokens.mT.reshape(SIZE[0], -1, h, w)
    patches = images.unfold(2, c["patch"], c["patch"]).unfold(3, c["patch"], c["patch"])
    patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    weight = formula("encoder.patch.weight", (c["width"], 3, c["patch"], c["patch"]))
    x = patches.flatten(2) @ weight.flatten(1).T + formula("encoder.patch.bias", (c["width"],))
    x = x + positions(h, w, c["width"])
    out = {}
    for i in range(c["depth"]):
        x = block(x, f"encoder.block.{i}", c)
        for level, at in enumerate(c["tap_blocks"]):
            if at == i + 1:
                latent = point(x, f"taps.{level}", c["embed_dim"])
                out[f"level.{level}"] = grid(latent)
                if c["wiring"] == "cascade":
                    x = point((latent * 4).round() / 4, f"cascade.{level}", c["width"])
    out["level.2"] = grid(head(x, "encoder", c, c["embed_dim"]))
    codes = (out["level.2"] * 4).round() / 4
    x = linear(codes.flatten(2).mT, "decoder.in", c["width"]) + positions(h, w, c["width"])
    for i in range(c["depth"]):
        x = block(x, f"decoder.block.{i}", c)
    x = head(x, "decoder", c, 3 * c["patch"] ** 2).view(SIZE[0], h, w, 3, c["patch"], c["patch"])
    out["images"] = x.permute(0, 3, 1, 4, 2, 5).reshape(SIZE)
    # A code must not hang on rounding.
    apart = min(((latent * 4 - 0.5).round() - (latent * 4 - 0.5)).abs().min().item()
                for name, latent in out.items() if name != "images")
    print(c["wiring"], c["head"], {name: value.std().item() for name, value in out.items()}, apart)
    assert apart > 2e-5
    return out


@torch.no_grad()
def main():
    tensors, configs = {}, {}
    for wiring, kind, blocks in (("taps", "tanh", [2, 3]), ("cascade", "linear", [1, 3])):
        configs[wiring] = {**SHARED, "head": kind, "tap_blocks": blocks, "wiring": wiring}
        out = run(configs[wiring], torch.from_numpy(noise("images", SIZE)).float())
        tensors |= {f"{wiring}.{name}": value.contiguous() for name, value in out.items()}
    path = pathlib.Path(__file__).parent / "vit.safetensors"
    # One entry: several are written in no fixed order.
    save_file(tensors, path, {"configs": json.dumps(configs)})


main()

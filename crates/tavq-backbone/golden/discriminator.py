"""Makes discriminator.safetensors: two passes in training, gradients of the second, then one in evaluation.

pip install torch numpy safetensors; python3 golden/discriminator.py

The network is taming-transformers' patch discriminator as its paper and public configuration describe it: 4x4
convolutions, batch normalisation, leaky rectifiers of slope 0.2. Weights and images follow from golden/formula.py.
"""
import json
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn

from formula import formula, noise

CONFIG = {"in_channels": 3, "ndf": 4, "n_layers": 3}
SIZE = (2, 3, 32, 40)


def network(in_channels, ndf, n_layers):
    layers = [nn.Conv2d(in_channels, ndf, 4, 2, 1), nn.LeakyReLU(0.2)]
    for n in range(1, n_layers + 1):
        before, after = ndf * min(2 ** (n - 1), 8), ndf * min(2**n, 8)
        stride = 2 if n < n_layers else 1
        layers += [nn.Conv2d(before, after, 4, stride, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(after, 1, 4, 1, 1))


def images(name):
    return torch.from_numpy(noise(name, SIZE)).float()


def main():
    full = network(3, 64, 3)
    print("parameters at the published size:", sum(p.numel() for p in full.parameters()))
    net = network(**CONFIG).train()
    for name, parameter in net.named_parameters():
        parameter.data = formula(f"main.{name}", tuple(parameter.shape))
    out = {"train.0": net(images("images 0"))}
    second = images("images 1").requires_grad_()
    out["train.1"] = net(second)
    (out["train.1"] * torch.from_numpy(noise("direction", tuple(out["train.1"].shape))).float()).sum().backward()
    out |= {f"grad.main.{name}": parameter.grad for name, parameter in net.named_parameters()}
    out["grad.images"] = second.grad
    out |= {f"main.{name}": b for name, b in net.named_buffers() if not name.endswith("num_batches_tracked")}
    out["eval"] = net.eval()(images("images 2"))
    path = pathlib.Path(__file__).parent / "discriminator.safetensors"
    save_file({k: v.detach().contiguous() for k, v in out.items()}, path, {"config": json.dumps(CONFIG)})


main()

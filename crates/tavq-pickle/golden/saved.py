"""Makes *.pt and *.ckpt of this folder with torch.save; with `check FILE`, reads what our writer wrote.

pip install torch==2.11.0 numpy; python3 golden/saved.py
TAVQ_WRITTEN="$PWD/written.pt" cargo test -p tavq-pickle --test files written && python3 golden/saved.py check written.pt
"""
import collections
import pathlib
import sys

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent


def tensors():
    """Every type, and every way in which a tensor can lie in its storage. Values count up, so the test knows them."""
    count = lambda n, dtype: torch.arange(n).to(dtype)
    base = count(24, torch.float32)
    return {
        **{str(t).removeprefix("torch."): count(6, t).view(2, 3)
           for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
                     torch.int8, torch.uint8, torch.bool)},
        "whole": base,
        "view": base[4:10].view(2, 3),
        "transposed": base.view(4, 6).t(),
        "strided": base.view(4, 6)[1::2, ::3],
        "expanded": base[3:5].view(1, 2).expand(3, 2),
        "scalar": torch.tensor(7.5),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(count(3, torch.float32)),
    }


class Callback:
    """Stands for a class of Lightning that a checkpoint names as a key."""


def lightning():
    """Shaped like a checkpoint of a trainer: much besides the weights, some of it beyond plain containers."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.nn.init.constant_(net[0].weight, 0.5)
    torch.nn.init.constant_(net[0].bias, 0.25)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3, "global_step": 1234, "pytorch-lightning_version": "1.0.8",
        "callbacks": {Callback: {"best_model_score": np.float64(0.5), "best": torch.tensor(0.5)}},
        "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [], "state_dict": net.state_dict(),
        "hyper_parameters": collections.OrderedDict(lr=4.5e-6, big=2**80, negative=-(2**40), flag=True, raw=b"\x00\xff",
                                                    names={"a"}, pair=(1, None)),
    }


def main():
    for name, legacy in (("zip", False), ("legacy", True)):
        torch.save(tensors(), HERE / f"{name}.pt", _use_new_zipfile_serialization=not legacy)
    for protocol in (2, 5):
        torch.save(lightning(), HERE / f"lightning{protocol}.ckpt", pickle_protocol=protocol)


def check(path):
    for more in ({}, {"mmap": True}):
        found = torch.load(path, weights_only=True, **more)
        assert found["global_step"] == 2**40 and list(found) == ["state_dict", "global_step"], found
        for name, tensor in tensors().items():
            other = found["state_dict"][name]
            assert other.dtype == tensor.dtype and other.shape == tensor.shape and torch.equal(other, tensor), name
    print("equal:", ", ".join(found["state_dict"]))


check(sys.argv[2]) if sys.argv[1:2] == ["check"] else main()

"""Weights and inputs that follow from their names, so that golden files hold results alone; tests/common/mod.rs has the same."""
import numpy as np
import torch


def noise(name, shape):
    """Uniform in [-1, 1): FNV-1a of the name, then SplitMix64's finalizer of that plus the position."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % (1 << 64)
    x = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(h)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return ((x >> np.uint64(40)).astype(np.float64) / 2**23 - 1).reshape(shape)


def formula(name, shape):
    """A weight; codes keep their full range."""
    value = noise(name, shape)
    if len(shape) > 1 and "embedding" not in name:
        value *= 2 / np.sqrt(np.prod(shape[1:]))
    elif len(shape) == 1:
        value = value * 0.2 + (1 if name.endswith("weight") else 0)
    return torch.from_numpy(value.astype(np.float32))

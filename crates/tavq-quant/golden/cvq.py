"""Turns recorded runs of the online clustered codebook into cvq_*.safetensors.

pip install numpy safetensors; python3 golden/cvq.py RECORDINGS

RECORDINGS holds one folder per run: features.npy [steps, B, D, h, w], codebook0.npy [K, D] and expect.npz with
codebooks [steps, K, D], prob [steps, K], loss, perplexity [steps], indices [steps, B h w], all after each step.
The runs were made with the authors' public code (quantise.py of lyndonzheng/CVQ-VAE, MIT licence, Copyright (c)
2023 Chuanxia Zheng) in training mode, without an optimiser, on random features; only numbers are kept here.
"""
import pathlib
import sys

import numpy as np
from safetensors.numpy import save_file

here = pathlib.Path(__file__).parent
for run in sorted(p for p in pathlib.Path(sys.argv[1]).iterdir() if p.is_dir()):
    with np.load(run / "expect.npz") as expect:
        tensors = {name: np.ascontiguousarray(expect[name]) for name in expect.files}
    for name in ("features", "codebook0"):
        tensors[name] = np.ascontiguousarray(np.load(run / f"{name}.npy"))
    save_file(tensors, here / f"cvq_{run.name}.safetensors")

"""Writes adam.txt: the parameters after 20 steps of torch.optim.AdamW on a small problem.

pip install torch==2.11.0; python3 golden/adam.py
"""
import pathlib
import torch

w = torch.tensor([[1.0, -2.0], [0.5, 3.0]], requires_grad=True)
b = torch.tensor([0.1, -0.3], requires_grad=True)
x = torch.tensor([[0.5, -1.0], [2.0, 0.25]])
groups = [{"params": [w], "weight_decay": 0.1}, {"params": [b], "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=0.05, betas=(0.8, 0.95), eps=1e-8)
for _ in range(20):
    optimizer.zero_grad()
    (x @ w + b).tanh().square().sum().backward()
    optimizer.step()
values = torch.cat([w.detach().flatten(), b.detach()]).tolist()
pathlib.Path(__file__).with_name("adam.txt").write_text("\n".join(f"{v:.9g}" for v in values) + "\n")

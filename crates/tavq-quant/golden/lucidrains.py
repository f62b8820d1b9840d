"""Makes lucidrains.safetensors: the rotation trick, SimVQ and FSQ as vector-quantize-pytorch computes them.

    pip install torch==2.11.0 vector-quantize-pytorch==1.32.0 safetensors numpy
    python lucidrains.py

rotation: vectors `src` and `codes` [64, 7], a `direction` that the loss takes of the turned vectors, and the gradient `grad` of src.
simvq: frozen `codes` [20, 6], the map `weight` [6, 6], a latent [2, 6, 4, 5]; `quantized`, `indices`, `loss` (commitment weight
0.25), and the gradients of latent and map of `loss + (quantized * direction).sum()`, straight through and rotated.
fsq: levels 8, 5, 4, 3; a latent [2, 4, 4, 5]; `quantized`, `indices`, and the gradient of the latent.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from vector_quantize_pytorch import FSQ, SimVQ
from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to

HERE = Path(__file__).parent


def main():
    generator = torch.Generator().manual_seed(1)
    noise = lambda *shape: torch.randn(*shape, generator=generator)
    tensors = {}

    src, codes, direction = noise(64, 7), noise(64, 7), noise(64, 7)
    src[0] = codes[0] * 3.0
    src.requires_grad_()
    (rotate_to(src, codes) * direction).sum().backward()
    tensors |= {"rotation.src": src.detach(), "rotation.codes": codes, "rotation.direction": direction, "rotation.grad": src.grad}

    frozen, weight, latent, direction = noise(20, 6), noise(6, 6) * 0.5, noise(2, 6, 4, 5), noise(2, 6, 4, 5)
    tensors |= {"simvq.codes": frozen, "simvq.weight": weight, "simvq.latent": latent, "simvq.direction": direction}
    for name, rotation in (("straight", False), ("rotation", True)):
        model = SimVQ(dim=6, codebook_size=20, rotation_trick=rotation, channel_first=True,
                      input_to_quantize_commit_loss_weight=0.25)
        with torch.no_grad():
            model.frozen_codebook.copy_(frozen)
            model.code_transform.weight.copy_(weight)
        z = latent.clone().requires_grad_()
        quantized, indices, loss = model(z)
        (loss + (quantized * direction).sum()).backward()
        tensors |= {
            f"simvq.{name}.quantized": quantized.detach(),
            f"simvq.{name}.indices": indices,
            f"simvq.{name}.loss": loss.detach(),
            f"simvq.{name}.latent_grad": z.grad,
            f"simvq.{name}.weight_grad": model.code_transform.weight.grad,
        }

    latent, direction = noise(2, 4, 4, 5) * 1.5, noise(2, 4, 4, 5)
    z = latent.clone().requires_grad_()
    quantized, indices = FSQ(levels=[8, 5, 4, 3])(z)
    (quantized * direction).sum().backward()
    tensors |= {"fsq.latent": latent, "fsq.direction": direction, "fsq.quantized": quantized.detach(), "fsq.indices": indices,
                "fsq.latent_grad": z.grad}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, HERE / "lucidrains.safetensors")


main()

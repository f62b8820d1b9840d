"""Makes lucidrains.safetensors: quantizers as vector-quantize-pytorch computes them, and taming-transformers' and LlamaGen's
losses as their formulas say.

    pip install torch==2.11.0 vector-quantize-pytorch==1.32.0 safetensors numpy
    python lucidrains.py

Everywhere: a `latent` [B, D, h, w], a `direction` of the same shape, `quantized`, `indices`, `loss`, and the gradients
`latent_grad` and others of `loss + (quantized * direction).sum()`.

rotation: vectors `src` and `codes` [64, 7], a `direction` that the loss takes of the turned vectors, and the gradient `grad` of src.
simvq: frozen `codes` [20, 6], the map `weight` [6, 6]; commitment weight 0.25; straight through and rotated.
fsq: levels 8, 5, 4, 3.
lfq: 6 bits, temperature 0.01, entropy weight 0.1, gamma 0.7, commitment weight 0.25; codebook scale 1 and 0.5. Latents are small, so
that no probability is below 1e-5, where the package replaces logarithms by that of 1e-5; `loss` parts are recorded too. Besides 12
bits with larger latents, with that replacement patched out.
vq: a learnable codebook of 20 codes, straight through. The package's loss is one mean squared distance that moves vectors and
codes: its gradients by `loss` alone, `latent_part` and `codes_part`, are those of the commitment and of the codebook term.
`standard.*` and `legacy.*`: both terms with beta 0.3 on one of them, as taming-transformers' VectorQuantizer2 writes them.
ema, cosine: five steps of moving averages (decay 0.8, epsilon 1e-5, commitment weight 0.25), without and with
`use_cosine_sim`; `codes`, `cluster_size`, `embed_avg` before the first step and after each.
expire: the same with `threshold_ema_dead_code` 2 from far codes; drawn vectors differ by generator, so only what is not drawn is told.
llamagen: l2-normalised vectors and codes, a trained codebook, beta 0.25: `vq_loss + commit_loss` of LlamaGen's VectorQuantizer.
kmeans: `rows` [60, 4] after ten iterations from the first eight: `means`, and with rows of length 1 `cosine`.
residual: three stages of 12 codes, learnable: `losses` of each stage; `residual.ema`: three steps of moving averages.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
import vector_quantize_pytorch.lookup_free_quantization as lookup_free
from safetensors.torch import save_file
from vector_quantize_pytorch import FSQ, LFQ, ResidualVQ, SimVQ, VectorQuantize
from vector_quantize_pytorch.vector_quantize_pytorch import kmeans, rotate_to

HERE = Path(__file__).parent
GENERATOR = torch.Generator().manual_seed(1)
TENSORS = {}


def noise(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def keep(name, **tensors):
    TENSORS.update({f"{name}.{key}": tensor.detach().clone() for key, tensor in tensors.items()})


def cells(latent):
    return latent.movedim(1, -1).flatten(1, 2)


def image(rows, like):
    return rows.unflatten(1, like.shape[2:]).movedim(3, 1)


def rotation():
    src, codes, direction = noise(64, 7), noise(64, 7), noise(64, 7)
    src[0] = codes[0] * 3.0
    src.requires_grad_()
    (rotate_to(src, codes) * direction).sum().backward()
    keep("rotation", src=src, codes=codes, direction=direction, grad=src.grad)


def simvq():
    frozen, weight, latent, direction = noise(20, 6), noise(6, 6) * 0.5, noise(2, 6, 4, 5), noise(2, 6, 4, 5)
    keep("simvq", codes=frozen, weight=weight, latent=latent, direction=direction)
    for name, rotated in (("straight", False), ("rotation", True)):
        model = SimVQ(dim=6, codebook_size=20, rotation_trick=rotated, channel_first=True,
                      input_to_quantize_commit_loss_weight=0.25)
        with torch.no_grad():
            model.frozen_codebook.copy_(frozen)
            model.code_transform.weight.copy_(weight)
        z = latent.clone().requires_grad_()
        quantized, indices, loss = model(z)
        (loss + (quantized * direction).sum()).backward()
        keep(f"simvq.{name}", quantized=quantized, indices=indices, loss=loss, latent_grad=z.grad,
             weight_grad=model.code_transform.weight.grad)


def fsq():
    latent, direction = noise(2, 4, 4, 5) * 1.5, noise(2, 4, 4, 5)
    z = latent.clone().requires_grad_()
    quantized, indices = FSQ(levels=[8, 5, 4, 3])(z)
    (quantized * direction).sum().backward()
    keep("fsq", latent=latent, direction=direction, quantized=quantized, indices=indices, latent_grad=z.grad)


def lfq():
    exact = lambda t, eps=0.0: t.clamp(min=torch.finfo(t.dtype).tiny).log()
    clamped = lookup_free.log
    for name, bits, spread, scale, log in (
        ("small", 6, 0.003, 1.0, clamped), ("half", 6, 0.006, 0.5, clamped), ("large", 12, 0.02, 1.0, exact),
    ):
        latent, direction = noise(2, bits, 4, 5) * spread, noise(2, bits, 4, 5)
        lookup_free.log = log
        model = LFQ(codebook_size=2**bits, entropy_loss_weight=0.1, commitment_loss_weight=0.25, diversity_gamma=0.7,
                    codebook_scale=scale)
        z = latent.clone().requires_grad_()
        (quantized, indices, loss), parts = model(z, inv_temperature=100.0, return_loss_breakdown=True)
        (loss + (quantized * direction).sum()).backward()
        keep(f"lfq.{name}", latent=latent, direction=direction, quantized=quantized, indices=indices, loss=loss,
             latent_grad=z.grad, each=parts.per_sample_entropy, batch=parts.batch_entropy)
    lookup_free.log = clamped


def vq():
    codes, latent, direction = noise(20, 6), noise(2, 6, 4, 5), noise(2, 6, 4, 5)
    model = VectorQuantize(dim=6, codebook_size=20, learnable_codebook=True, ema_update=False, rotation_trick=False,
                           commitment_weight=1.0, accept_image_fmap=True)
    book = model._codebook.embed
    with torch.no_grad():
        book.copy_(codes[None])
    z = latent.clone().requires_grad_()
    quantized, indices, loss = model(z)
    latent_part, codes_part = torch.autograd.grad(loss.sum(), (z, book), retain_graph=True)
    (quantized_grad,) = torch.autograd.grad((quantized * direction).sum(), z)
    keep("vq", codes=codes, latent=latent, direction=direction, quantized=quantized, indices=indices, loss=loss.sum(),
         latent_part=latent_part, codes_part=codes_part[0], quantized_grad=quantized_grad)
    beta = 0.3
    for form in ("standard", "legacy"):
        z, table = latent.clone().requires_grad_(), codes.clone().requires_grad_()
        chosen = table[indices].movedim(3, 1)
        commitment, codebook = F.mse_loss(chosen.detach(), z), F.mse_loss(chosen, z.detach())
        loss = commitment + beta * codebook if form == "legacy" else beta * commitment + codebook
        straight = z + (chosen - z).detach()
        (loss + (straight * direction).sum()).backward()
        keep(f"vq.{form}", loss=loss, latent_grad=z.grad, codes_grad=table.grad)


def state(book):
    return dict(codes=book.embed[0], cluster_size=book.cluster_size[0], embed_avg=book.embed_avg[0])


def averages():
    for name, cosine in (("ema", False), ("cosine", True)):
        model = VectorQuantize(dim=5, codebook_size=14, decay=0.8, eps=1e-5, rotation_trick=False, commitment_weight=0.25,
                               use_cosine_sim=cosine, accept_image_fmap=True)
        codes = F.normalize(noise(14, 5), dim=-1) if cosine else noise(14, 5)
        book = model._codebook
        book.embed.copy_(codes[None])
        book.embed_avg.copy_(codes[None])
        keep(f"{name}.start", **state(book))
        for step in range(5):
            latent, direction = noise(2, 5, 3, 4), noise(2, 5, 3, 4)
            z = latent.clone().requires_grad_()
            quantized, indices, loss = model(z)
            (loss.sum() + (quantized * direction).sum()).backward()
            keep(f"{name}.{step}", latent=latent, direction=direction, quantized=quantized, indices=indices, loss=loss.sum(),
                 latent_grad=z.grad, **state(book))


def expire():
    model = VectorQuantize(dim=5, codebook_size=14, decay=0.5, eps=1e-5, rotation_trick=False, threshold_ema_dead_code=0.75,
                           commitment_weight=0.25, accept_image_fmap=True)
    codes = noise(14, 5) * 2.0
    book = model._codebook
    book.embed.copy_(codes[None])
    book.embed_avg.copy_(codes[None])
    latent = noise(1, 5, 3, 6)
    keep("expire", latent=latent, start=codes)
    model(latent)
    # A drawn code is one of the vectors; the others are averages.
    drawn = (book.embed[0][:, None] == cells(latent)[0][None]).all(-1).any(-1)
    keep("expire", drawn=drawn.to(torch.uint8), **state(book))


def llamagen():
    codes, latent, direction = noise(20, 6), noise(2, 6, 4, 5), noise(2, 6, 4, 5)
    z, table = latent.clone().requires_grad_(), codes.clone().requires_grad_()
    unit, units = F.normalize(cells(z), dim=-1), F.normalize(table, dim=-1)
    indices = (unit.square().sum(-1, keepdim=True) + units.square().sum(-1) - 2 * unit @ units.T).argmin(-1)
    chosen = units[indices]
    loss = (chosen - unit.detach()).square().mean() + 0.25 * (chosen.detach() - unit).square().mean()
    quantized = image(unit + (chosen - unit).detach(), latent)
    (loss + (quantized * direction).sum()).backward()
    keep("llamagen", codes=codes, latent=latent, direction=direction, quantized=quantized,
         indices=indices.unflatten(1, latent.shape[2:]), loss=loss, latent_grad=z.grad, codes_grad=table.grad)


def residual():
    latent, direction = noise(2, 5, 3, 4), noise(2, 5, 3, 4)
    books = torch.stack([noise(12, 5) * 0.7**stage for stage in range(3)])
    keep("residual", books=books, latent=latent, direction=direction)
    for name, shared in (("own", False), ("shared", True)):
        model = ResidualVQ(dim=5, num_quantizers=3, codebook_size=12, learnable_codebook=True, ema_update=False,
                           rotation_trick=False, shared_codebook=shared)
        with torch.no_grad():
            for layer, codes in zip(model.layers, books):
                if not shared or layer is model.layers[0]:
                    layer._codebook.embed.copy_(codes[None])
        z = latent.clone().requires_grad_()
        # One vector a row: release 1.32.0 fails on feature maps.
        quantized, indices, losses = model(cells(z))
        quantized, indices = image(quantized, z), indices.unflatten(1, z.shape[2:])
        (losses.sum() + (quantized * direction).sum()).backward()
        grads = [layer._codebook.embed.grad[0] for layer in (model.layers[:1] if shared else model.layers)]
        keep(f"residual.{name}", quantized=quantized, indices=indices, losses=losses.flatten(), latent_grad=z.grad,
             books_grad=torch.stack(grads))
    model = ResidualVQ(dim=5, num_quantizers=3, codebook_size=12, decay=0.8, rotation_trick=False, commitment_weight=0.25)
    for layer, codes in zip(model.layers, books):
        layer._codebook.embed.copy_(codes[None])
        layer._codebook.embed_avg.copy_(codes[None])
    for step in range(3):
        latent = noise(2, 5, 3, 4)
        quantized, indices, losses = model(cells(latent))
        quantized, indices = image(quantized, latent), indices.unflatten(1, latent.shape[2:])
        keep(f"residual.ema.{step}", latent=latent, quantized=quantized, indices=indices, losses=losses.flatten(),
             books=model.codebooks, cluster_size=torch.stack([layer._codebook.cluster_size[0] for layer in model.layers]))


def centres():
    rows = noise(60, 4)
    first = lambda samples, count: samples[:, :count]
    means, bins = kmeans(rows[None], 8, 10, sample_fn=first)
    cosine, cosine_bins = kmeans(F.normalize(rows, dim=-1)[None], 8, 10, use_cosine_sim=True, sample_fn=first)
    # An empty cluster stays there and moves here.
    assert bins.min() > 0 and cosine_bins.min() > 0
    keep("kmeans", rows=rows, means=means[0], cosine=cosine[0])


def main():
    torch.manual_seed(1)
    for part in (rotation, simvq, fsq, lfq, vq, averages, expire, llamagen, residual, centres):
        part()
    save_file({name: tensor.contiguous() for name, tensor in TENSORS.items()}, HERE / "lucidrains.safetensors")


main()

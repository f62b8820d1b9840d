"""Times PyTorch and faiss on the inputs of codec_bench: python codec.py FOLDER pytorch|faiss [cpu|cuda [bf16]]

Prints one JSON line about itself, then answers each JSON line on its input with one on its output, as `codec_bench serve` does.
The VQGAN is a plain eager script in the layout of taming-transformers. The codebook step follows CVQ-VAE: all distances of the
batch are sorted, once along the codes to quantize and, for the anchor `closest`, once along the vectors.
"""

import os
import sys
import time
from pathlib import Path

from serve import serve

# This file would hide a package of its name.
sys.path.pop(0)

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

FOLDER, LIBRARY = Path(sys.argv[1]), sys.argv[2]
DEVICE = "cuda" if sys.argv[3:4] == ["cuda"] else "cpu"
KIND = torch.bfloat16 if sys.argv[4:5] == ["bf16"] else torch.float32
THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
torch.set_num_threads(THREADS)

WIDTHS = [128, 128, 256, 256, 512]
LAST = len(WIDTHS) - 1
GRADIENTS = ["encoder.conv_in.weight", "decoder.conv_in.weight", "quantize.embedding.weight"]


def normalisation(width):
    return nn.GroupNorm(32, width, eps=1e-6)


class Block(nn.Module):
    def __init__(self, given, width):
        super().__init__()
        self.norm1, self.conv1 = normalisation(given), nn.Conv2d(given, width, 3, padding=1)
        self.norm2, self.conv2 = normalisation(width), nn.Conv2d(width, width, 3, padding=1)
        if given != width:
            self.nin_shortcut = nn.Conv2d(given, width, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = normalisation(width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x):
        b, c, h, w = x.shape
        normed = self.norm(x)
        # One head over the positions: [B, 1, h w, C].
        q, k, v = (conv(normed).flatten(2).transpose(1, 2).unsqueeze(1) for conv in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(mixed.squeeze(1).transpose(1, 2).reshape(b, c, h, w))


class Stage(nn.Module):
    def __init__(self, given, width, count, attends):
        super().__init__()
        self.block = nn.ModuleList(Block(given if i == 0 else width, width) for i in range(count))
        self.attn = nn.ModuleList(Attention(width) for _ in range(count if attends else 0))

    def forward(self, x):
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn) > 0:
                x = self.attn[i](x)
        return x


class Middle(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = Block(width, width), Attention(width), Block(width, width)

    def forward(self, x):
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_in = nn.Conv2d(3, WIDTHS[0], 3, padding=1)
        self.down, given = nn.ModuleList(), WIDTHS[0]
        for i, width in enumerate(WIDTHS):
            stage = Stage(given, width, 2, i == LAST)
            if i < LAST:
                stage.downsample = nn.Module()
                stage.downsample.conv = nn.Conv2d(width, width, 3, stride=2)
            self.down.append(stage)
            given = width
        self.mid, self.norm_out = Middle(given), normalisation(given)
        self.conv_out = nn.Conv2d(given, 256, 3, padding=1)

    def forward(self, x):
        h = self.conv_in(x)
        for i, stage in enumerate(self.down):
            h = stage(h)
            if i < LAST:
                h = stage.downsample.conv(F.pad(h, (0, 1, 0, 1)))
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        given = WIDTHS[LAST]
        self.conv_in, self.mid = nn.Conv2d(256, given, 3, padding=1), Middle(given)
        stages = []
        for i in reversed(range(len(WIDTHS))):
            stage = Stage(given, WIDTHS[i], 3, i == LAST)
            if i > 0:
                stage.upsample = nn.Module()
                stage.upsample.conv = nn.Conv2d(WIDTHS[i], WIDTHS[i], 3, padding=1)
            stages.insert(0, stage)
            given = WIDTHS[i]
        self.up, self.norm_out = nn.ModuleList(stages), normalisation(given)
        self.conv_out = nn.Conv2d(given, 3, 3, padding=1)

    def forward(self, z):
        h = self.mid(self.conv_in(z))
        for i in reversed(range(len(WIDTHS))):
            h = self.up[i](h)
            if i > 0:
                h = self.up[i].upsample.conv(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.norm_out(h)))


class Quantize(nn.Module):
    """Straight through; beta 0.25 on the commitment term."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(1024, 256)

    def forward(self, z):
        rows = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        codes = self.embedding.weight
        with torch.no_grad():
            scores = torch.addmm((codes * codes).sum(1), rows, codes.t(), alpha=-2.0)
            indices = scores.argmin(1)
        found = self.embedding(indices).view(z.shape[0], z.shape[2], z.shape[3], -1).permute(0, 3, 1, 2)
        loss = 0.25 * F.mse_loss(z, found.detach()) + F.mse_loss(found, z.detach())
        return z + (found - z).detach(), loss


class Vqgan(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder, self.quantize = Encoder(), Decoder(), Quantize()
        self.quant_conv, self.post_quant_conv = nn.Conv2d(256, 256, 1), nn.Conv2d(256, 256, 1)

    def forward(self, images):
        z, loss = self.quantize(self.quant_conv(self.encoder(images)).float())
        back = self.decoder(self.post_quant_conv(z.to(images.dtype)))
        return back, (images - back).abs().mean(dtype=torch.float32) + loss


class Codec:
    def __init__(self, work):
        self.model = Vqgan()
        self.model.load_state_dict(load_file(FOLDER / "model.safetensors") | load_file(FOLDER / "codebook.safetensors"))
        self.model.to(DEVICE, KIND)
        self.model.quantize.float()
        self.images = load_file(FOLDER / "images.safetensors")["images"][: work["batch"]].to(DEVICE, KIND)
        if work["form"] == "channels_last":
            self.model.to(memory_format=torch.channels_last)
            self.images = self.images.contiguous(memory_format=torch.channels_last)
        self.forward = torch.compile(self.model) if work["form"] == "compile" else self.model
        self.train, self.found = work["pass"] == "train", None

    def run(self):
        self.found = None
        if self.train:
            self.model.zero_grad(set_to_none=True)
            back, loss = self.forward(self.images)
            loss.backward()
        else:
            with torch.no_grad():
                back, loss = self.forward(self.images)
        self.found = back.detach(), loss.detach()

    def result(self):
        back, loss = self.found
        out = {"reconstruction": back.contiguous(), "loss": loss.view(1)}
        if self.train:
            parameters = dict(self.model.named_parameters())
            out |= {f"gradient.{name}": parameters[name].grad.contiguous() for name in GRADIENTS}
        return out

    def reset(self):
        pass


def vectors(what, count, dim):
    return load_file(FOLDER / "vectors.safetensors")[f"{what}.{dim}"][:count].clone().to(DEVICE)


class CvqStep:
    """Cosine scores, decay 0.99, beta 0.25; the first step, before which no code has been used."""

    def __init__(self, work):
        n, k, dim = work["vectors"], work["codes"], work["dim"]
        self.anchor, self.start = work["anchor"], vectors("codes", k, dim)
        self.latent = vectors("points", n, dim).view(-1, 16, 16, dim).permute(0, 3, 1, 2).contiguous().requires_grad_()
        self.codes, self.used = nn.Parameter(self.start.clone()), torch.zeros(k, device=DEVICE)

    def reset(self):
        with torch.no_grad():
            self.codes.copy_(self.start)
            self.used.zero_()
        self.codes.grad = self.latent.grad = None

    def run(self):
        z = self.latent.permute(0, 2, 3, 1).contiguous()
        rows, decay, k = z.view(-1, z.shape[-1]), 0.99, self.codes.shape[0]
        scores = F.normalize(rows.detach(), dim=1) @ F.normalize(self.codes.detach(), dim=1).t()
        nearest = scores.sort(dim=1)[1][:, -1]
        hits = torch.zeros_like(scores).scatter_(1, nearest.unsqueeze(1), 1.0)
        found = (hits @ self.codes).view(z.shape)
        loss = 0.25 * F.mse_loss(found.detach(), z) + F.mse_loss(found, z.detach())
        # What the decoder would take.
        self.passed = (z + (found - z).detach()).permute(0, 3, 1, 2).contiguous()
        loss.backward()
        with torch.no_grad():
            self.used.mul_(decay).add_(hits.mean(0), alpha=1 - decay)
            if self.anchor == "closest":
                picks = scores.sort(dim=0)[1][-1]
            else:
                picks = torch.multinomial(F.softmax(scores.t(), dim=1), 1).view(-1)
            pull = torch.exp(-10.0 * k * self.used / (1 - decay) - 1e-3).unsqueeze(1)
            self.codes.copy_(self.codes * (1 - pull) + rows.detach()[picks] * pull)
        self.loss = loss.detach()

    def result(self):
        out = {"loss": self.loss.view(1), "use": self.used, "gradient.latent": self.latent.grad.contiguous()}
        if self.anchor == "closest":
            out["codebook"] = self.codes.detach()
        return out


class Search:
    def __init__(self, work):
        import faiss

        faiss.omp_set_num_threads(THREADS)
        self.index = faiss.IndexFlatL2(work["dim"])
        self.index.add(vectors("codes", work["codes"], work["dim"]).numpy())
        self.points = vectors("points", work["vectors"], work["dim"]).numpy()

    def reset(self):
        pass

    def run(self):
        self.distances, self.indices = self.index.search(self.points, 1)

    def result(self):
        return {"indices": torch.from_numpy(self.indices[:, 0]), "distances": torch.from_numpy(self.distances[:, 0])}


KINDS = {"codec": Codec, "cvq": CvqStep, "nearest": Search}


def memory(held):
    """Resident memory before a run, and its peak during it."""

    def peak():
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    # Sets the high-water mark to what is resident now.
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    held.run()
    return {"status": "done", "before": before, "peak": peak()}


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def repeat(request, held):
    seconds = []
    while not seconds or len(seconds) < request.get("repeats", 1) and sum(seconds) < request.get("seconds", 0.0):
        held.reset()
        wait()
        start = time.perf_counter()
        held.run()
        wait()
        seconds.append(time.perf_counter() - start)
    return seconds


def answer(_, held, request):
    work = request["work"]
    key = str(sorted(work.items()))
    if key not in held:
        # The last piece of work stays, the old one goes first.
        held.clear()
        held[key] = KINDS[work["kind"]](work)
    made = held[key]
    if request.get("memory") and "vectors" in work:
        # Code and buffers that any run takes are resident from here on.
        KINDS[work["kind"]](work | {"vectors": 256, "codes": 256}).run()
    if request.get("result"):
        made.reset()
        made.run()
        save_file({name: tensor.contiguous().cpu() for name, tensor in made.result().items()}, request["result"])
        return {"status": "done"}
    if request.get("memory"):
        made.reset()
        return memory(made)
    return {"seconds": repeat(request, made), "status": "done"}


packages = {"pytorch": ("torch", "numpy"), "faiss": ("faiss-cpu", "numpy")}[LIBRARY]
serve(lambda: None, packages, answer)

"""Times other encoders on the units of text-bench: python encode.py FOLDER ENCODER transformers|sentence-transformers

Prints one JSON line about itself, then answers each JSON line on its input with one on its output, as the example encode_bench of
tavq-encode does. Both sort by length, encode in batches of 64, mean over the mask and scale to length 1.
"""

import json
import os
import sys
import time
import warnings
from pathlib import Path

from serve import repeated, serve

# This file would hide a package of its name.
sys.path.pop(0)
warnings.filterwarnings("ignore")
os.environ["TOKENIZERS_PARALLELISM"] = "true"
FOLDER, ENCODER = Path(sys.argv[1]), sys.argv[2]
BATCH = 64

import torch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


class Transformers:
    packages = ("transformers", "tokenizers", "torch")

    def __init__(self):
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(ENCODER)
        self.model = AutoModel.from_pretrained(ENCODER, dtype=torch.float32).eval()

    def encode(self, units):
        order = sorted(range(len(units)), key=lambda i: -len(units[i]))
        rows = [None] * len(units)
        with torch.inference_mode():
            for first in range(0, len(order), BATCH):
                part = order[first : first + BATCH]
                inputs = self.tokenizer([units[i] for i in part], padding=True, truncation=True, max_length=512,
                                        return_tensors="pt")
                states = self.model(**inputs).last_hidden_state
                mask = inputs["attention_mask"].unsqueeze(-1).float()
                pooled = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
                for i, row in zip(part, pooled):
                    rows[i] = row
        return torch.stack(rows)


class SentenceTransformers:
    packages = ("sentence-transformers", "transformers", "torch")

    def __init__(self):
        from sentence_transformers import SentenceTransformer, models

        transformer = models.Transformer(ENCODER, max_seq_length=512)
        pooling = models.Pooling(transformer.get_embedding_dimension(), "mean")
        self.model = SentenceTransformer(modules=[transformer, pooling, models.Normalize()], device="cpu")

    def encode(self, units):
        return self.model.encode(units, batch_size=BATCH, convert_to_tensor=True, show_progress_bar=False)


def answer(library, held, request):
    name, limit = request["solver"], request.get("limit", 60.0)
    if name not in held:
        units = json.loads((FOLDER / f"{name}.json").read_text())
        some = units[:: max(1, len(units) // 200)][:200]
        library.encode(some)
        start = time.perf_counter()
        library.encode(some)
        pace = (time.perf_counter() - start) / len(some)
        held[name] = units[: max(1, min(len(units), int(limit / pace)))]
    units = held[name]
    seconds, rows = repeated(request, lambda: library.encode(units))
    return {"seconds": seconds, "status": "done", "work": len(units), "value": rows[0][:4].tolist()}


library = {"transformers": Transformers, "sentence-transformers": SentenceTransformers}[sys.argv[3]]
serve(library, library.packages, answer)

"""Makes texts.safetensors: what sentence-transformers gives for 200 texts of the embedded pictures.

    pip install torch==2.11.0 transformers==5.23.0 sentence-transformers==6.2.0 safetensors numpy
    python texts.py DIR_OF_ALL_MINILM_L6_V2

The texts are every second one of fixtures/emoji/manifest.jsonl. `ids` i16, all texts one after the other, special tokens included,
and `ends` i64, where each text's ids end; `vectors` [200, 48] f32, the first 48 of the 384 components of each text's vector (mean
over the mask, scaled to length 1, in batches of 32): enough to see any difference, and small.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer, models

HERE = Path(__file__).parent
MANIFEST = HERE / "../../../fixtures/emoji/manifest.jsonl"
KEPT = 48


def main():
    texts = [json.loads(line)["text"] for line in MANIFEST.read_text().splitlines()][::2]
    assert len(texts) == 200
    transformer = models.Transformer(sys.argv[1], max_seq_length=512)
    pooling = models.Pooling(transformer.get_embedding_dimension(), "mean")
    model = SentenceTransformer(modules=[transformer, pooling, models.Normalize()], device="cpu")
    ids = [transformer.tokenizer(text)["input_ids"] for text in texts]
    assert max(map(len, ids)) <= 512
    vectors = model.encode(texts, batch_size=32, convert_to_tensor=True)
    tensors = {
        "ids": torch.tensor([i for row in ids for i in row], dtype=torch.int16),
        "ends": torch.tensor([len(row) for row in ids]).cumsum(0),
        "vectors": vectors[:, :KEPT].contiguous(),
    }
    save_file(tensors, HERE / "texts.safetensors")


main()

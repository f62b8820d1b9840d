"""Makes clip/: two tiny CLIP text towers with random weights, and what transformers gives for some texts.

    pip install torch==2.11.0 transformers==5.23.0 safetensors numpy
    python clip.py

clip/legacy: model_type `clip_text_model`, quick_gelu, eos_token_id 2 (the largest id of a text), no projection.
clip/projected: model_type `clip` with a vision tower beside, exact gelu, the end token by its id, a projection to 6.
Each holds config.json, tokenizer.json and model.safetensors (f16, to be small), and expected.json: per text its ids and the
tower's pooled output, not normalised. The tokenizer is CLIP's pipeline with a vocabulary of bytes.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

HERE = Path(__file__).parent / "clip"
START, END = "<|startoftext|>", "<|endoftext|>"
TEXTS = [
    "A red boat.",
    "a",
    "",
    "Café crème — 老街 🙂",
    "Two gulls sit on its mast, far away.",
    "an end<|endoftext|> inside",
]
POSITIONS = 48


def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {}
    for token in [*alphabet, *(letter + "</w>" for letter in alphabet), "bo", "at</w>", "boat</w>", START, END]:
        vocab[token] = len(vocab)
    merges = [("b", "o"), ("a", "t</w>"), ("bo", "at</w>")]
    model = models.BPE(vocab=vocab, merges=merges, unk_token=END, continuing_subword_prefix="", end_of_word_suffix="</w>")
    out = Tokenizer(model)
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    out.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    out.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    out.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, vocab[START]), (END, vocab[END])]
    )
    out.add_special_tokens([START, END])
    return out, vocab


def write(name, model, config, tokens, ids, pooled):
    folder = HERE / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    tokens.save(str(folder / "tokenizer.json"))
    state = {key: value.half().contiguous() for key, value in model.state_dict().items() if "position_ids" not in key}
    save_file(state, folder / "model.safetensors")
    rows = [{"text": text, "ids": i, "pooled": p.tolist()} for text, i, p in zip(TEXTS, ids, pooled)]
    (folder / "expected.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


def rounded(model):
    """Weights as the file holds them: in half precision."""
    model.load_state_dict({k: v.half().float() if v.is_floating_point() else v for k, v in model.state_dict().items()})
    return model.eval()


def randomised(model, seed):
    """Biases and norms too, which transformers starts at 0 and 1: a wrong one must show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            one = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            scale = 0.3 if parameter.dim() > 1 else 0.1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale + one)
    return rounded(model)


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    tokens, vocab = tokenizer()
    ids = [tokens.encode(text).ids for text in TEXTS]
    assert all(len(row) <= POSITIONS for row in ids)
    shape = {
        "vocab_size": len(vocab),
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": POSITIONS,
        "projection_dim": 6,
        "bos_token_id": vocab[START],
        "pad_token_id": vocab[END],
    }

    legacy = {**shape, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "eos_token_id": 2}
    model = randomised(CLIPTextModel(CLIPTextConfig(**legacy, attn_implementation="eager")), 1)
    with torch.no_grad():
        pooled = [model(input_ids=torch.tensor([row])).pooler_output[0] for row in ids]
    write("legacy", model, {"model_type": "clip_text_model", **legacy}, tokens, ids, pooled)

    text = {**shape, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "eos_token_id": vocab[END]}
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 8,
              "patch_size": 4, "projection_dim": 6}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)
    config._attn_implementation = "eager"
    model = randomised(CLIPModel(config), 2)
    with torch.no_grad():
        pooled = [model.text_projection(model.text_model(input_ids=torch.tensor([row])).pooler_output)[0] for row in ids]
    config = {"model_type": "clip", "projection_dim": 6, "text_config": text, "vision_config": vision}
    write("projected", model, config, tokens, ids, pooled)


main()

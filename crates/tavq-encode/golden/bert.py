"""Makes bert.json and bert.safetensors: what transformers gives for ten texts and some trees.

    pip install torch==2.11.0 transformers==5.23.0 safetensors numpy
    python bert.py DIR_OF_ALL_MINILM_L6_V2

bert.json: per text the token ids (special tokens included), and trees as byte spans.
bert.safetensors: `units` [10, 384], mean over all tokens of each text, not normalised, attention mask on, the
texts of one window encoded in one padded batch; `tree.N.words|phrases|sentences`, normalised.
A text longer than the 512 positions is cut into windows as the documentation of the crate says: windows of 510 tokens, neighbours
share 127 (the last window ends with the text, so it may share more), each token is taken from the window in
which it lies on the far side of the middle of the shared part; every token joins the mean once, and of the special
tokens the first window's first and the last window's last.
"""

import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

HERE = Path(__file__).parent
POSITIONS = 512

CLAUSE = "beside the harbour a row of narrow houses painted in faded yellow, pale blue and brick red leans over the water "
TEXTS = [
    "A red bicycle with a wicker basket leans against a white wall. Two sparrows sit on its saddle.",
    "The café’s crème brûlée costs €7.50 — naïve visitors from Zürich smile. Señor Núñez pours œufs à la neige.",
    "🎉 Two friends 👩‍🚀 wave 🙂 under a 🌈! One wears a t-shirt with a 🐱.",
    "老街上的红灯笼 hang above the 東京 station. 서울 and ไทย are written on small signs。夜色很美。",
    "“Don’t touch,” says the sign; ‘wet paint’ it adds. The O’Neill boys’ hands are “blue”…",
    (CLAUSE * 40).strip() + ".",
    "",
    " \u200b\u00ad\t ",
    "".join(f"Photograph {i}: {CLAUSE.strip()}, seen from {i * 7} metres away. " for i in range(1, 11)).strip(),
    "Cafe\u0301 Zu\u0308rich in decomposed letters, a \u200bhidden space, [MASK] and [SEP] in the text, ﬁne ligatures, ĲSSEL.",
]

# Phrases of the trees, by text; the first occurrence of each.
PHRASES = {
    0: ["A red bicycle", "a wicker basket", "a white wall", "Two sparrows", "its saddle"],
    1: ["The café’s crème brûlée", "naïve visitors", "œufs à la neige"],
    2: ["Two friends", "a 🌈", "a t-shirt with a 🐱"],
    3: ["老街上的红灯笼", "the 東京 station", "서울 and ไทย"],
    4: ["the sign", "‘wet paint’", "The O’Neill boys’ hands"],
    5: ["a row of narrow houses", "the water beside the harbour", "pale blue and brick red"],
    8: ["Photograph 3", "70 metres"],
    9: ["Cafe\u0301 Zu\u0308rich", "a \u200bhidden space", "ﬁne ligatures"],
}


def byte_span(text, start, end):
    return [len(text[:start].encode()), len(text[:end].encode())]


def tree(text, phrases):
    """Rough, so that it needs no splitter: the spans are data, not a claim about sentences. At most 16 words."""
    sentences = [(m.start(), m.end()) for m in re.finditer(r"\S.*?(?:[.!?…。]+(?=\s|$|夜)|$)", text)]
    words = [(m.start(), m.end()) for m in re.finditer(r"[\w\u0300-\u036f]+|[^\w\s.,;:!?\u200b]", text)]
    spans = [(text.index(p), text.index(p) + len(p)) for p in phrases]
    return sentences, spans, words[:: 1 + len(words) // 16]


class Encoder:
    def __init__(self, folder):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=True, truncation=False)["input_ids"]

    def states(self, rows):
        """States of each row of ids, from one padded batch."""
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        with torch.no_grad():
            out = self.model(input_ids=ids, attention_mask=mask, token_type_ids=torch.zeros_like(ids)).last_hidden_state
        return [out[i, : len(row)] for i, row in enumerate(rows)]

    def text_states(self, text):
        """First special token, one state per token of the text, last special token; window ids."""
        ids = self.ids(text)
        inner, room = ids[1:-1], POSITIONS - 2
        if len(inner) <= room:
            return self.states([ids])[0], [ids]
        step = room - room // 4
        starts = []
        while not starts or starts[-1] + room < len(inner):
            starts.append(min(len(starts) * step, len(inner) - room))
        windows = [[ids[0], *inner[s : s + room], ids[-1]] for s in starts]
        parts = [self.states([w])[0] for w in windows]
        rows = [parts[0][0]]
        for t in range(len(inner)):
            w = 0
            while w + 1 < len(starts) and t >= starts[w + 1] + (starts[w] + room - starts[w + 1] + 1) // 2:
                w += 1
            rows.append(parts[w][1 + t - starts[w]])
        rows.append(parts[-1][-1])
        return torch.stack(rows), windows

    def offsets(self, text):
        return self.tokenizer(text, add_special_tokens=False, truncation=False, return_offsets_mapping=True)["offset_mapping"]


def normalised(x):
    return torch.nn.functional.normalize(x, dim=-1)


def main():
    encoder = Encoder(sys.argv[1])
    tensors, out = {}, {"texts": [], "trees": []}

    units = [None] * len(TEXTS)
    short = []
    for i, text in enumerate(TEXTS):
        states, windows = encoder.text_states(text)
        out["texts"].append({"text": text, "ids": windows})
        units[i] = states.mean(0)
        if len(windows) == 1:
            short.append(i)
    for i, states in zip(short, encoder.states([encoder.ids(TEXTS[i]) for i in short])):
        units[i] = states.mean(0)
    tensors["units"] = torch.stack(units)

    for n, (i, phrases) in enumerate(PHRASES.items()):
        text = TEXTS[i]
        sentences, phrase_spans, words = tree(text, phrases)
        lists = {"words": words, "phrases": phrase_spans, "sentences": sentences}
        found = {}
        vectors = {"words": [None] * len(words), "phrases": [None] * len(phrase_spans), "sentences": [None] * len(sentences)}
        parents = {"words": [], "phrases": []}
        for k, (s, e) in enumerate(sentences):
            part = text[s:e]
            found[k] = (encoder.text_states(part)[0], encoder.offsets(part))
            vectors["sentences"][k] = found[k][0].mean(0)
        for kind in ("phrases", "words"):
            for j, (s, e) in enumerate(lists[kind]):
                k = next(k for k, (a, b) in enumerate(sentences) if a <= s and e <= b)
                states, offsets = found[k]
                base = sentences[k][0]
                hit = [1 + t for t, (a, b) in enumerate(offsets) if min(b, e - base) > max(a, s - base)]
                over = [p for p, (a, b) in enumerate(phrase_spans) if a <= s and e <= b]
                phrase = over[0] if kind == "words" and over else None
                parents[kind].append([k, phrase])
                if hit:
                    vectors[kind][j] = states[hit].mean(0)
                else:
                    vectors[kind][j] = vectors["sentences"][k] if phrase is None else vectors["phrases"][phrase]
        for kind, rows in vectors.items():
            tensors[f"tree.{n}.{kind}"] = normalised(torch.stack(rows)).contiguous()
        spans = {kind: [byte_span(text, s, e) for s, e in items] for kind, items in lists.items()}
        out["trees"].append({"text": i, **spans, "parents": parents})

    save_file(tensors, HERE / "bert.safetensors")
    body = json.dumps(out, ensure_ascii=True)
    (HERE / "bert.json").write_text(body.replace("}, {", "},\n{") + "\n")


main()

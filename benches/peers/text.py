"""Times other splitters on the texts of text-bench: python text.py FOLDER spacy|pysbd

Prints one JSON line about itself, then answers each JSON line on its input with one on its output, as `text-bench serve` does.
No package ships weights for spaCy: its pipeline here has the shape of en_core_web_sm and random weights, which take as long.
"""

import json
import sys
import time
import warnings
from pathlib import Path

from serve import repeated, serve

# This file would hide a package of its name.
sys.path.pop(0)
warnings.filterwarnings("ignore")
TEXTS = json.loads((Path(sys.argv[1]) / "texts.json").read_text())


class Spacy:
    packages = ("spacy",)

    def __init__(self):
        import spacy

        self.spacy = spacy
        self.held = {}

    def prepare(self, solver):
        if solver == "sentences":
            nlp = self.spacy.blank("en")
            nlp.add_pipe("sentencizer")
        else:
            nlp = self.pipeline()
        batch = 64
        return lambda texts: sum(len(list(doc.sents)) for doc in nlp.pipe(texts, batch_size=batch))

    def pipeline(self):
        """tok2vec, tagger and parser: tags, sentences and what noun chunks are read from."""
        nlp = self.spacy.blank("en")
        listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96}
        nlp.add_pipe("tok2vec")
        nlp.add_pipe("tagger", config={"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": listener}})
        state = {"state_type": "parser", "extra_state_tokens": False, "hidden_width": 64, "maxout_pieces": 2,
                 "use_upper": True}
        parser = {"@architectures": "spacy.TransitionBasedParser.v2", **state, "tok2vec": listener}
        nlp.add_pipe("parser", config={"model": parser})
        examples = [self.example(nlp, text) for text in TEXTS[:20]]
        nlp.initialize(lambda: examples)
        return nlp

    def example(self, nlp, text):
        """Made-up answers: the labels and actions must be there for the shapes to be."""
        doc = nlp.make_doc(text)
        tags = [f"T{i % 50}" for i in range(len(doc))]
        heads = [max(i - 1, 0) for i in range(len(doc))]
        labels = ["ROOT" if i == 0 else f"d{i % 40}" for i in range(len(doc))]
        from spacy.training import Example

        return Example.from_dict(doc, {"tags": tags, "heads": heads, "deps": labels})


class Pysbd:
    packages = ("pysbd",)

    def prepare(self, solver):
        import pysbd

        segmenter = pysbd.Segmenter(language="en", clean=False)
        return lambda texts: sum(len(segmenter.segment(text)) for text in texts)


def answer(library, held, request):
    solver, limit = request["solver"], request.get("limit", 30.0)
    if solver not in held:
        run = library.prepare(solver)
        run(TEXTS[:8])
        size = sum(len(text.encode()) for text in TEXTS[:8])
        start = time.perf_counter()
        run(TEXTS[:8])
        pace = (time.perf_counter() - start) / size
        # As many texts as the limit allows: the speed is what counts.
        texts, bytes_ = [], 0
        for text in TEXTS:
            if texts and (bytes_ + len(text.encode())) * pace > limit:
                break
            texts.append(text)
            bytes_ += len(text.encode())
        held[solver] = run, texts, bytes_
    run, texts, bytes_ = held[solver]
    seconds, count = repeated(request, lambda: run(texts))
    return {"seconds": seconds, "status": "done", "work": bytes_, "count": count}


library = {"spacy": Spacy, "pysbd": Pysbd}[sys.argv[2]]
serve(library, library.packages, answer)

"""Measure `classify` on a git-base-size model with random weights: the trie against its rivals.

    OMP_NUM_THREADS=1 python docs/tools/measure/classify.py --labels 20000

The labels are random, of 1 to 6 tokens, and many begin alike: each goes on from an earlier one with
probability --shared. The rivals score some of the labels, drawn at random, and their times are
extrapolated to all of them. On a busy machine the processor's seconds say more than the clock's.

    batches    32 labels a call, padded, the image cached    (what the trie itself gains)
    cached     one label a call, the image cached
    anew       one label a call, the image read anew each time
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from refgit import GitConfig, GitForCausalLM, KeyValueCache
from refgit.generation.classification.ranking import label_log_probabilities
from refgit.generation.classification.trie import Trie

BATCH = 32
Labels = list[list[int]]


def draw_labels(count: int, vocab_size: int, seed: int, shared: float) -> Labels:
    """Distinct labels of 1 to 6 tokens; some begin with tokens of an earlier one."""
    random = np.random.default_rng(seed)
    labels: dict[tuple[int, ...], None] = {}
    drawn: list[tuple[int, ...]] = []
    while len(labels) < count:
        length = int(random.integers(1, 7))
        start: tuple[int, ...] = ()
        if drawn and random.random() < shared:
            start = drawn[random.integers(len(drawn))][: length - 1]
        rest = random.integers(1000, vocab_size, length - len(start))
        label = (*start, *map(int, rest))
        if label not in labels:
            labels[label] = None
            drawn.append(label)
    return [list(label) for label in labels]


def log_softmax_at(logits: np.ndarray, words: list[int]) -> float:
    """Sum of the log probabilities of words (T,) by logits (T, V)."""
    top = logits.max(axis=-1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(axis=-1))
    return float((logits[np.arange(len(words)), words] - total).sum())


def alone(model: GitForCausalLM, label: list[int], image: KeyValueCache | np.ndarray) -> float:
    """Score one label by teacher forcing."""
    config = model.config
    ids, words = [[config.bos_token_id, *label]], [*label, config.eos_token_id]
    if isinstance(image, KeyValueCache):
        logits = model(ids, past_key_values=image.fork()).logits
    else:
        logits = model(ids, pixel_values=image, use_cache=False).logits
    return log_softmax_at(logits[0, -len(words) :], words)


def in_batches(model: GitForCausalLM, labels: Labels, image: KeyValueCache) -> list[float]:
    """Score labels by teacher forcing, many a call, shorter ones padded on the right."""
    config, found = model.config, []
    for start in range(0, len(labels), BATCH):
        batch = labels[start : start + BATCH]
        ids = np.zeros((len(batch), 1 + max(map(len, batch))), np.int64)
        ids[:, 0] = config.bos_token_id
        for row, label in zip(ids, batch, strict=True):
            row[1 : 1 + len(label)] = label
        logits = model(ids, past_key_values=image.fork()).logits  # (b, T, V)
        for row, label in zip(logits, batch, strict=True):
            words = [*label, config.eos_token_id]
            found.append(log_softmax_at(row[: len(words)], words))
    return found


def timed(run: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds by the clock and of the processor (all threads), and the result."""
    start, busy = time.perf_counter(), time.process_time()
    result = run()
    return time.perf_counter() - start, time.process_time() - busy, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shared", type=float, default=0.6)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--cached", type=int, default=200, help="labels scored alone, image cached")
    parser.add_argument("--anew", type=int, default=20, help="labels scored alone, image read anew")
    parser.add_argument("--batched", type=int, default=320, help="labels scored in batches")
    options = parser.parse_args()

    model = GitForCausalLM(GitConfig(), seed=options.seed)
    random = np.random.default_rng(options.seed)
    pixels = random.standard_normal((1, 3, 224, 224)).astype(np.float32)
    labels = draw_labels(options.labels, model.config.vocab_size, options.seed, options.shared)
    tokens = sum(len(label) + 1 for label in labels)
    build, _, trie = timed(lambda: Trie(labels, model.config.eos_token_id))
    print(
        f"{len(labels)} labels, {tokens} tokens with their ends, {trie.inner} distinct beginnings "
        f"({tokens / (trie.inner + 1):.2f} tokens each); trie built in {build:.2f} s; "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )
    model.encode_image(pixels)  # warm up
    encode, _, image = timed(lambda: model.encode_image(pixels))
    print(f"image read in {encode:.2f} s")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    walk, busy, scores = timed(
        lambda: label_log_probabilities(
            model, labels=trie, past_key_values=image, batch_size=options.batch_size
        )
    )
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{'':8} {'clock':>9} {'processor':>11}   ratio of each")
    print(f"trie     {walk:7.1f} s {busy:9.1f} s   {more:.0f} MiB above the model and the image")

    order = random.permutation(len(labels))
    rivals = {
        "batches": (options.batched, lambda some: in_batches(model, some, image)),
        "cached": (options.cached, lambda some: [alone(model, label, image) for label in some]),
        "anew": (options.anew, lambda some: [alone(model, label, pixels) for label in some]),
    }
    for name, (count, score) in rivals.items():
        chosen = order[:count]
        if not len(chosen):
            continue
        spent, spent_busy, found = timed(lambda: score([labels[i] for i in chosen]))  # noqa: B023
        all_clock, all_busy = (x / len(chosen) * len(labels) for x in (spent, spent_busy))
        error = np.abs(scores[0, chosen] - found).max()
        print(
            f"{name:8} {all_clock:7.0f} s {all_busy:9.0f} s   {all_clock / walk:.1f} "
            f"{all_busy / busy:.1f}   from {len(chosen)} labels; differs by {error:.0e} at most"
        )


if __name__ == "__main__":
    main()

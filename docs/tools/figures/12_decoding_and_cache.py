"""What a step of decoding costs with and without a cache; and the beams of a real caption."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import style

from refgit import GitConfig, GitForCausalLM, GitProcessor
from refgit.demo import demo_path
from refgit.generation.decoding import Decoding
from refgit.generation.search.beam import BeamSearch, highest
from refgit.generation.search.beams import run_beams
from refgit.generation.session import Rules
from refgit.generation.stopping import EosToken
from refgit.processing import load_image

WAYS = ("nothing cached", "words cached", "image and words cached")
COLOURS = (style.WRONG, style.TEXT, style.RIGHT)


# ---- what a step costs, in multiplications


def image_side(config: GitConfig) -> tuple[float, int]:
    """Of the image encoder and the projection, and the number of image tokens."""
    v = config.vision_config
    n = v.num_positions
    patches = (n - 1) * v.num_channels * v.patch_size**2 * v.hidden_size
    d, f = v.hidden_size, v.intermediate_size
    layer = n * (4 * d * d + 2 * d * f) + 2 * n * n * d
    return patches + v.num_hidden_layers * layer + n * d * config.hidden_size, n


def decoder(config: GitConfig, new: int, keys: int) -> float:
    """Of `new` tokens that look at `keys`, through all layers."""
    d, f = config.hidden_size, config.intermediate_size
    return config.num_hidden_layers * (new * (4 * d * d + 2 * d * f) + 2 * new * keys * d)


def step_costs(config: GitConfig, words: int) -> dict[str, list[float]]:
    """Of each step, the first of which reads the image and the opening token."""
    image, n = image_side(config)
    d, head = config.hidden_size, config.hidden_size * config.vocab_size
    f, layers = config.intermediate_size, config.num_hidden_layers
    before_last = (layers - 1) * (n * (4 * d * d + 2 * d * f) + 2 * n * n * d)
    reading = before_last + n * 2 * d * d  # of the last layer, keys and values alone
    costs: dict[str, list[float]] = {way: [] for way in WAYS}
    for t in range(1, words + 1):
        first = t == 1
        costs[WAYS[0]].append(image + decoder(config, n + t, n + t) + head)
        costs[WAYS[1]].append(image + decoder(config, n + 1, n + t) + head)
        cost = decoder(config, 1, n + t) + head
        costs[WAYS[2]].append(cost + image + reading if first else cost)
    return costs


def counted(seen: Mapping[str, np.ndarray], model: GitForCausalLM) -> float:
    """Multiplications of a real call, from the tensors that it made."""
    total, weights = 0.0, model.state_dict()
    for name, x in seen.items():
        if name.endswith((".scores", ".probabilities")):  # each of D/H channels, twice
            side = model.config.vision_config if "image_encoder" in name else model.config
            total += x.size * (side.hidden_size // side.num_attention_heads)
        elif f"{name}.weight" in weights and not name.startswith("git.embeddings"):
            weight = weights[f"{name}.weight"]
            if weight.ndim > 1:  # a linear map, not a layer norm
                total += x.size // weight.shape[0] * weight.size
    return total


def check(model: GitForCausalLM, pixels: np.ndarray) -> None:
    """The formulas above are what the bundled model really does."""
    costs = step_costs(model.config, 2)
    seen: dict[str, np.ndarray] = {}
    cache = model.encode_image(pixels, hook=seen.__setitem__)
    first = counted(seen, model)
    for t in range(2):
        seen.clear()
        model.next_token_logits(np.array([[2]]), cache, hook=seen.__setitem__)
        found = counted(seen, model) + (first if t == 0 else 0)
        assert found == costs[WAYS[2]][t], (t, found, costs[WAYS[2]][t])
    seen.clear()
    model(input_ids=[[2, 2]], pixel_values=pixels, hook=seen.__setitem__)
    head = model.config.hidden_size * model.config.vocab_size
    unused = (seen["output"].shape[1] - 1) * head  # a search scores the last token alone
    assert counted(seen, model) - unused == costs[WAYS[0]][1]


def draw_costs(axes, config: GitConfig, title: str, words: int) -> None:
    costs = step_costs(config, words)
    x = np.arange(1, words + 1)
    for way, colour in zip(WAYS, COLOURS, strict=True):
        total = sum(costs[way]) / 1e9
        axes.plot(x, np.array(costs[way]) / 1e9, "o-", markersize=3, color=colour,
                  label=f"{way}: {total:.3g} in all")  # fmt: skip
    axes.set(yscale="log", title=title, xlabel="word", ylabel="billion multiplications")
    axes.set_ylim(top=axes.get_ylim()[1] * 6)
    axes.legend(fontsize=7.5, loc="upper right")


# ---- beams


class Watched(BeamSearch):
    """A beam search that writes down which candidates it looked at."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.steps: list[list[tuple[tuple[int, ...], float, str]]] = []

    def advance(self, log_probabilities):
        """See `BeamSearch`; each candidate ends, goes on or is dropped."""
        before, scores, size = self.ids, self.scores, log_probabilities.shape[1]
        result = super().advance(log_probabilities)
        total = np.reshape(self.processed + scores[:, None], -1)
        going = {tuple(row) for row in self.ids.tolist()}
        candidates = []
        for i in highest(total, self.num_candidates(self.num_beams)):
            ids = (*before[i // size].tolist(), int(i % size))
            ended = any(text.finished and tuple(text.ids.tolist()) == ids for text in self.texts)
            fate = "ends" if ended else "goes on" if ids in going and not self.done else "dropped"
            candidates.append((ids, float(total[i]), fate))
        self.steps.append(candidates)
        return result


def beams(model: GitForCausalLM, pixels: np.ndarray, k: int) -> Watched:
    prompt = np.array([model.config.bos_token_id])
    rules = Rules([], [EosToken(model.config.eos_token_id)], longest=12)
    found = Watched(prompt, rules, model.generation_config.replace(num_beams=k))
    for _ in run_beams(Decoding(model, model.encode_image(pixels), [prompt]), [found]):
        pass
    return found


def draw_tree(axes, found: Watched, names: list[str]) -> None:
    """A column for each step, its candidates by score from top to bottom."""
    style.plain(axes)
    shades = {"goes on": style.TEXT, "ends": style.RIGHT, "dropped": style.FAINT}
    place = {tuple(found.steps[0][0][0][:1]): (-0.1, 0.0)}
    axes.text(-0.15, 0, "[CLS]", ha="right", va="center", fontsize=8.5)
    best = tuple(found.best(1)[0].ids.tolist())
    for step, candidates in enumerate(found.steps):
        x = 1.0 + 2.0 * step
        for row, (ids, score, fate) in enumerate(candidates):
            y = (len(candidates) - 1) / 2 - row
            start = place[ids[:-1]]
            wide = 2.4 if ids == best[: len(ids)] else 1.0
            axes.plot([start[0], x - 0.75], [start[1], y], color=shades[fate], linewidth=wide,
                      alpha=0.45 if fate == "dropped" else 0.9)  # fmt: skip
            bold = "bold" if ids == best[: len(ids)] else "normal"
            label = f"{names[ids[-1]]}  {score:.2f}"
            axes.text(x - 0.72, y, label, va="center", fontsize=8,
                      color=shades[fate] if fate == "dropped" else style.INK, fontweight=bold,
                      bbox={"boxstyle": "round,pad=0.15", "fc": style.CARD, "lw": 1.0,
                            "ec": shades[fate]})  # fmt: skip
            place.setdefault(ids, (x - 0.68 + 0.053 * len(label), y))
        axes.text(x - 0.2, len(candidates) / 2 + 0.45, f"step {step + 1}", ha="center", fontsize=8)
    high = max(len(c) for c in found.steps) / 2
    axes.set(xlim=(-0.8, 2.0 * len(found.steps) - 0.3), ylim=(-high - 0.1, high + 0.8))


if __name__ == "__main__":
    model = GitForCausalLM.from_pretrained(demo_path())
    processor = GitProcessor.from_pretrained(demo_path())
    heart = load_image("docs/images/red-heart.png")
    pixels = processor(images=heart, return_tensors="np").pixel_values
    check(model, pixels)
    figure, (left, right) = style.figure(7.6, 3.3, 1, 2)
    draw_costs(left, GitConfig(), "git-base, 197 image tokens", 20)
    draw_costs(right, model.config, "Bundled model, 50 image tokens", 20)
    style.save(figure, "12-decoding-and-cache")

    found = beams(model, pixels, k=3)
    names = processor.tokenizer.convert_ids_to_tokens(list(range(model.config.vocab_size)))
    figure, axes = style.figure(7.6, 2.9)
    draw_tree(axes, found, names)
    style.save(figure, "12-beam-tree")

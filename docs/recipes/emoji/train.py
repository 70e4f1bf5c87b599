"""Train the bundled emoji model: a small GIT, by transformers on torch.

A development step (about 55 minutes on 2 cores, ten of them for the teacher), resumable: run it
again with the same --work and it goes on from its last checkpoint.

    python docs/recipes/emoji/fetch.py --work /tmp/refgit-demo
    python docs/recipes/emoji/train.py --work /tmp/refgit-demo
    python docs/recipes/emoji/export.py --work /tmp/refgit-demo --out refgit/demo

First the image encoder learns alone, from a small convolutional teacher (see teacher.py) and by
naming classes with a linear head; both are thrown away afterwards. Then the whole model learns to
write. Two tasks share the decoder, as in the paper
(sections 3.2 and 3.3): a caption follows the image directly; an answer follows the image and the
question.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from teacher import Teacher
from transformers import GitConfig, GitForCausalLM
from transformers.modeling_outputs import BaseModelOutput

SEED = 20221
IMAGE, PATCH = 84, 12
N_IMAGE = (IMAGE // PATCH) ** 2 + 1
MAX_TEXT = 24
QUESTION = "what kind of thing is this?"
HELD_OUT = "twemoji"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, _ = range(5)
# CLIP's constants, the ones GIT's checkpoints name in preprocessor_config.json
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
# Sets drawn by one hand count as one family: a name is kept when six families drew it.
FAMILY = {
    "fluent-flat": 0,
    "fluent": 0,
    "fluent-3d": 0,
    "noto": 1,
    "noto-v1": 2,
    "emojione": 3,
    "emojione-v1": 3,
    "fxemoji": 4,
    "openmoji": 5,
    "streamline": 6,
}


def words(text: str) -> list[str]:
    """BERT's basic tokens of an ASCII string: runs of letters and digits, single punctuation."""
    return re.findall(r"[a-z0-9]+|[^a-z0-9\s]", text.lower())


def caption_of(name: str) -> str:
    return name.lower().replace("’", "'").replace("“", '"').replace("”", '"').replace("ñ", "n")


def answer_of(group: str) -> str:
    return group.lower().replace("&", "and")


class Data:
    """The kept drawings, their captions and answers, and the vocabulary they need."""

    def __init__(self, path: Path) -> None:
        raw = np.load(path)
        vendor_names = raw["vendors"].tolist()
        vendor, label = raw["vendor"], raw["label"]
        family = np.array([FAMILY.get(name, -1) for name in vendor_names])[vendor]
        kept = [
            c
            for c in range(len(raw["names"]))
            if len(set(family[label == c]) - {-1}) >= 6 and (family[label == c] == -1).any()
        ]
        inside = np.isin(label, kept)
        self.images = torch.from_numpy(raw["images"][inside])
        self.label = torch.from_numpy(np.searchsorted(kept, label[inside]))
        self.family = family[inside]
        self.vendor = np.array(vendor_names)[vendor[inside]]
        self.captions = [caption_of(raw["names"][c]) for c in kept]
        self.answers = [answer_of(raw["groups"][c]) for c in kept]
        texts = [*self.captions, *self.answers, QUESTION]
        characters = "abcdefghijklmnopqrstuvwxyz0123456789"
        pieces = {w for t in texts for w in words(t)} | set(characters) | set("!?.,:;'\"()-&/")
        self.vocab = [*SPECIAL, *sorted(pieces), *("##" + c for c in characters)]
        self.token = {w: i for i, w in enumerate(self.vocab)}
        self.train_index = np.flatnonzero(self.family >= 0)
        self.test_index = np.flatnonzero(self.family < 0)

    def encode(self, text: str) -> list[int]:
        return [self.token[w] for w in words(text)]


def make_config(vocab_size: int) -> GitConfig:
    vision = {
        "hidden_size": 160,
        "intermediate_size": 640,
        "num_hidden_layers": 5,
        "num_attention_heads": 5,
        "image_size": IMAGE,
        "patch_size": PATCH,
        "initializer_range": 0.06,
    }
    return GitConfig(
        vision_config=vision,
        vocab_size=vocab_size,
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=384,
        max_position_embeddings=64,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.06,
        pad_token_id=PAD,
        bos_token_id=CLS,
        eos_token_id=SEP,
    )


def normalise(rgb: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(c).view(1, 3, 1, 1) for c in (MEAN, STD))
    return (rgb - mean) / std


def plain(images: torch.Tensor) -> torch.Tensor:
    """RGBA uint8 (B, 96, 96, 4) -> pixels (B, 3, IMAGE, IMAGE) on white."""
    x = images.permute(0, 3, 1, 2).float() / 255
    x = x[:, :3] * x[:, 3:] + (1 - x[:, 3:])
    return normalise(F.interpolate(x, (IMAGE, IMAGE), mode="bicubic", antialias=True).clamp(0, 1))


def augment(images: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Random position, size, rotation, squeeze, background, colour and blur."""
    b = len(images)

    def u(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(b, *shape, generator=g) * (high - low) + low

    x = images.permute(0, 3, 1, 2).float() / 255
    x[:, :3] *= x[:, 3:]  # premultiply: interpolation must not bleed the colour of clear pixels
    angle = u(-0.15, 0.15) * (torch.rand(b, generator=g) < 0.6)
    scale = torch.exp(u(-0.06, 0.25))  # > 1 shrinks the drawing
    squeeze = torch.exp(u(-0.1, 0.1))
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    room = 0.08 + (scale - 1).clamp(min=0)
    theta = torch.stack(
        [
            torch.stack([cos * squeeze, -sin, u(-1, 1) * room], 1),
            torch.stack([sin, cos / squeeze, u(-1, 1) * room], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [b, 4, IMAGE, IMAGE], align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", align_corners=False)
    # Colour: a gain for each channel, contrast, a turn of the hue now and then.
    gain = torch.exp(u(-0.15, 0.15, 3, 1, 1) + u(-0.2, 0.2, 1, 1, 1))
    alpha = x[:, 3:]
    rgb = (x[:, :3] * gain + u(-0.08, 0.08, 1, 1, 1) * alpha).clamp(0, 1)
    grey = rgb.mean(1, keepdim=True)
    rgb = grey + (rgb - grey) * u(0.6, 1.25, 1, 1, 1)
    # Background: mostly white, else a colour running into another.
    far, near = u(0, 1, 3, 1, 1), u(0, 1, 3, 1, 1)
    ramp = torch.linspace(0, 1, IMAGE).view(1, 1, 1, IMAGE)
    background = near + (far - near) * ramp * (torch.rand(b, 1, 1, 1, generator=g) < 0.5)
    white = torch.rand(b, 1, 1, 1, generator=g) < 0.6
    background = torch.where(white, torch.ones(()), background)
    rgb = rgb + background * (1 - alpha)
    if torch.rand((), generator=g) < 0.25:
        small = int(torch.randint(40, 80, (), generator=g))
        rgb = F.interpolate(F.interpolate(rgb, small, mode="area"), IMAGE, mode="bilinear")
    rgb = rgb + torch.randn(rgb.shape, generator=g) * u(0, 0.04, 1, 1, 1)
    # A hole now and then, so that no single part carries the name.
    cy, cx = u(0, IMAGE, 1, 1, 1), u(0, IMAGE, 1, 1, 1)
    half = u(6, 16, 1, 1, 1) * (torch.rand(b, 1, 1, 1, generator=g) < 0.15)
    axis = torch.arange(IMAGE).float()
    hole = ((axis.view(1, 1, -1, 1) - cy).abs() < half) & (
        (axis.view(1, 1, 1, -1) - cx).abs() < half
    )
    return normalise(torch.where(hole, u(0, 1, 3, 1, 1), rgb.clamp(0, 1)))


def epoch_batches(data: Data, batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless batches; a drawing's chance falls with the size of its family."""
    size = {f: (data.family[data.train_index] == f).sum() for f in set(FAMILY.values())}
    weight = np.array([size[f] ** -0.5 for f in data.family[data.train_index]])
    weight /= weight.sum()
    while True:
        yield rng.choice(data.train_index, batch, p=weight)


def make_text(
    data: Data, label: torch.Tensor, rng: np.random.Generator
) -> tuple[torch.Tensor, ...]:
    """(input_ids, labels), each (B, T): a caption, or for one in six a question with its answer."""
    question = data.encode(QUESTION)
    rows, targets = [], []
    for c in label.tolist():
        if rng.random() < 1 / 6:
            answer = [*data.encode(data.answers[c]), SEP]
            rows.append([CLS, *question, *answer])
            targets.append([-100] * (1 + len(question)) + answer)
        else:
            caption = [*data.encode(data.captions[c]), SEP]
            rows.append([CLS, *caption])
            targets.append([-100, *caption])
    length = max(map(len, rows))
    ids = torch.tensor([r + [PAD] * (length - len(r)) for r in rows])
    labels = torch.tensor([t + [-100] * (length - len(t)) for t in targets])
    return ids, labels


def train_teacher(data: Data, path: Path, steps: int, batch: int = 64) -> Teacher:
    """The teacher from its file, or trained and stored there."""
    teacher = Teacher(len(data.captions)).to(memory_format=torch.channels_last)
    if path.exists():
        teacher.load_state_dict(torch.load(path, weights_only=True))
        return teacher.eval().requires_grad_(False)
    rng, g = np.random.default_rng(SEED), torch.Generator().manual_seed(SEED)
    batches = epoch_batches(data, batch, rng)
    optimiser = torch.optim.AdamW(teacher.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 3e-3, total_steps=steps, pct_start=0.15
    )
    start, shown = time.time(), 7.0
    for step in range(steps):
        index = next(batches)
        _, _, scores = teacher(augment(data.images[index], g))
        loss = F.cross_entropy(scores, data.label[index], label_smoothing=0.1)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        shown = 0.95 * shown + 0.05 * loss.item()
        if (step + 1) % 250 == 0:
            speed = (step + 1) / (time.time() - start)
            print(f"teacher step {step + 1} class {shown:.3f} {speed:.2f} steps/s", flush=True)
    teacher.eval().requires_grad_(False)
    scores = torch.cat(
        [teacher(plain(data.images[i]))[-1] for i in np.array_split(data.test_index, 8)]
    )
    right = (scores.argmax(-1) == data.label[data.test_index]).float().mean()
    print(f"teacher held-out {right:.3f}", flush=True)
    torch.save(teacher.state_dict(), path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
    return teacher


class School(torch.nn.Module):
    """What helps the image encoder learn and is not shipped: linear maps on its tokens."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classes = torch.nn.Linear(width, classes)
        self.early = torch.nn.Linear(width, Teacher.hint_width)
        self.late = torch.nn.Linear(width, Teacher.width)

    def loss(
        self, seen: BaseModelOutput, pixels: torch.Tensor, label: torch.Tensor, teacher: Teacher
    ) -> torch.Tensor:
        """Cross-entropy with the label, divergence from the teacher, distances of the features."""
        with torch.no_grad():
            *features, scores = teacher(pixels)
            early, late = (F.layer_norm(x, x.shape[-1:]) for x in features)
        own = self.classes(seen.last_hidden_state.mean(1))
        imitate = F.kl_div(
            F.log_softmax(own, -1),
            F.log_softmax(scores, -1),
            log_target=True,
            reduction="batchmean",
        )
        return (
            F.cross_entropy(own, label, label_smoothing=0.05)
            + imitate
            + 2 * F.mse_loss(self.early(seen.hidden_states[2][:, 1:]), early)
            + 2 * F.mse_loss(self.late(seen.last_hidden_state[:, 1:]), late)
        )


def training_loss(
    model: GitForCausalLM,
    school: School,
    teacher: Teacher,
    data: Data,
    index: np.ndarray,
    g: torch.Generator,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(language-model loss, school's loss) of one batch."""
    label = data.label[index]
    ids, labels = make_text(data, label, rng)
    pixels = augment(data.images[index], g)
    seen = model.git.image_encoder(pixels, output_hidden_states=True)
    # hand the tokens on instead of encoding the image a second time
    with mock.patch.object(model.git.image_encoder, "forward", return_value=seen):
        hidden = model.git(input_ids=ids, pixel_values=pixels, use_cache=False).last_hidden_state
    logits = model.output(hidden[:, N_IMAGE:-1])  # the text positions that predict a token
    target = labels[:, 1:]
    loss = F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), target.reshape(-1), label_smoothing=0.05
    )
    return loss, school.loss(seen, pixels, label, teacher)


@torch.no_grad()
def greedy(model: GitForCausalLM, pixels: torch.Tensor, prefix: list[int]) -> list[list[int]]:
    ids = torch.tensor([prefix] * len(pixels))
    done = torch.zeros(len(pixels), dtype=torch.bool)
    for _ in range(12):
        hidden = model.git(input_ids=ids, pixel_values=pixels, use_cache=False).last_hidden_state
        step = model.output(hidden[:, -1]).argmax(-1).masked_fill(done, PAD)
        ids = torch.cat([ids, step[:, None]], 1)
        done |= step == SEP
        if done.all():
            break
    return [[t for t in row if t not in (PAD, SEP)] for row in ids[:, len(prefix) :].tolist()]


def evaluate(model: GitForCausalLM, data: Data, index: np.ndarray, question: bool = False) -> float:
    """Share of greedy captions (or answers) equal to the reference, word for word."""
    model.eval()
    right = 0
    prefix = [CLS, *data.encode(QUESTION)] if question else [CLS]
    texts = data.answers if question else data.captions
    for chunk in np.array_split(index, math.ceil(len(index) / 128)):
        found = greedy(model, plain(data.images[chunk]), prefix)
        wanted = [data.encode(texts[c]) for c in data.label[chunk].tolist()]
        right += sum(a == b for a, b in zip(found, wanted, strict=True))
    model.train()
    return right / len(index)


@torch.no_grad()
def naming_accuracy(model: GitForCausalLM, school: School, data: Data, index: np.ndarray) -> float:
    """Share of classes the school's head gets right."""
    features = model.git.image_encoder(plain(data.images[index])).last_hidden_state
    return float((school.classes(features.mean(1)).argmax(-1) == data.label[index]).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--encoder-steps", type=int, default=5000, help="of them for it alone")
    parser.add_argument("--teacher-steps", type=int, default=3500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()
    torch.manual_seed(SEED)
    data = Data(args.work / "emoji.npz")
    print(
        f"{len(data.captions)} names, {len(data.train_index)} drawings to train on,",
        f"{len(data.test_index)} held out, {len(data.vocab)} tokens",
        flush=True,
    )
    model = GitForCausalLM(make_config(len(data.vocab)))
    average = GitForCausalLM(model.config).eval()
    average.load_state_dict(model.state_dict())
    school = School(model.config.vision_config.hidden_size, len(data.captions))
    teacher = train_teacher(data, args.work / "teacher.pt", args.teacher_steps)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    decay = [p for p in model.parameters() if p.ndim > 1]
    other = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decay, "weight_decay": 0.05},
        {"params": other, "weight_decay": 0.0},
        {"params": list(school.parameters()), "weight_decay": 0.05},
    ]
    optimiser = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), fused=True)
    checkpoint, first = args.work / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        school.load_state_dict(state["school"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
        print(f"resumed at step {first}", flush=True)
    # Each stretch has its own stream of random numbers, so a resumed run needs no stored state.
    rng = np.random.default_rng([SEED, first])
    g = torch.Generator().manual_seed(SEED + first)
    torch.manual_seed(SEED + first)
    batches = epoch_batches(data, args.batch, rng)
    sample = np.random.default_rng(SEED).choice(data.test_index, 256, replace=False)
    model.train()
    start, shown = time.time(), [0.0, 0.0]
    for step in range(first, args.steps):
        warm = min(1.0, (step + 1) / 500)
        lr = args.lr * warm * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * step / args.steps)))
        for group in optimiser.param_groups:
            group["lr"] = lr
        optimiser.zero_grad(set_to_none=True)
        if step < args.encoder_steps:
            index = next(batches)
            pixels = augment(data.images[index], g)
            seen = model.git.image_encoder(pixels, output_hidden_states=True)
            loss = classes = school.loss(seen, pixels, data.label[index], teacher)
            classes.backward()
        else:
            loss, classes = training_loss(model, school, teacher, data, next(batches), g, rng)
            (loss + 0.3 * classes).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            rate = min(0.999, (1 + step) / (10 + step))
            pairs = zip(average.parameters(), model.parameters(), strict=True)
            for a, p in pairs:
                a.lerp_(p, 1 - rate)
        shown = [0.95 * shown[0] + 0.05 * loss.item(), 0.95 * shown[1] + 0.05 * classes.item()]
        if (step + 1) % 100 == 0:
            speed = (step + 1 - first) / (time.time() - start)
            left = (args.steps - step - 1) / speed / 60
            print(
                f"step {step + 1} lm {shown[0]:.3f} school {shown[1]:.3f}",
                f"{speed:.2f} steps/s {left:.0f} min left",
                flush=True,
            )
        if (step + 1) % 1000 == 0 or step + 1 == args.steps:
            torch.save(
                {
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "school": school.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "step": step + 1,
                },
                checkpoint.with_suffix(".tmp"),
            )
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            score = naming_accuracy(average, school, data, sample)
            if step >= args.encoder_steps:
                score = evaluate(average, data, sample)
            print(f"step {step + 1}: held-out sample {score:.3f}", flush=True)
    results = {
        "caption_held_out": evaluate(average, data, data.test_index),
        "caption_training": evaluate(average, data, data.train_index),
        "answer_held_out": evaluate(average, data, data.test_index, question=True),
        "answer_training": evaluate(average, data, data.train_index, question=True),
    }
    print(json.dumps(results), flush=True)
    (args.work / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()

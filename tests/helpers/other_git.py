"""Another GIT, written apart from refgit: einsum, float32, its own names, and places to break it.

It plays a port in another language. `OtherGit(state, config).run(...)` returns its tensors
under its own names; `canonical` gives them refgit's. A `Mutation` breaks one operation at one
place: the code asks `self.at(place, layer)` what is wrong there and does it.

Nothing is imported from refgit: what agrees agrees because both are right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

A = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Mutation:
    """One thing that is wrong: `kind` at a `place` of layer `layer` (None outside the layers)."""

    place: str
    kind: str
    layer: int | None = None


ERF = np.vectorize(math.erf, otypes=[np.float64])


def activate(x: A, name: str) -> A:
    if name == "gelu":
        return (x * 0.5 * (1 + ERF(x.astype(np.float64) / 2**0.5))).astype(x.dtype)
    if name == "gelu_new":
        return 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    if name == "quick_gelu":
        return x / (1 + np.exp(-1.702 * x))
    if name == "silu":
        return x / (1 + np.exp(-x))
    if name == "relu":
        return np.where(x > 0, x, 0)
    if name == "selu":
        return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1))
    raise KeyError(name)


def half(x: A) -> A:
    return x.astype(np.float16).astype(x.dtype)


def brain(x: A) -> A:
    """Bits of bfloat16, rounded half away."""
    bits = (x.astype(np.float32).view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(x.dtype)


class OtherGit:
    """The model: parameters by checkpoint name, config.json's entries, and what is wrong."""

    def __init__(
        self,
        state: dict[str, A],
        config: dict[str, Any],
        mutations: list[Mutation] | None = None,
        dtype: Any = np.float32,
    ) -> None:
        self.w = {name: np.asarray(x, dtype) for name, x in state.items()}
        self.c, self.v = config, config["vision_config"]
        self.mutations = mutations or []
        self.dtype = dtype
        self.hooks: dict[str, A] = {}
        self.keys: dict[int, list[A]] = {}
        self.values: dict[int, list[A]] = {}
        self.mask: A | None = None
        self.n_image = self.n_text = 0
        self.step = 0

    # ---- plumbing

    def at(self, place: str, layer: int | None = None) -> str:
        """What is wrong here, "" for nothing."""
        for m in self.mutations:
            if m.place == place and m.layer == layer:
                return m.kind
        return ""

    def hook(self, name: str, x: A) -> A:
        self.hooks[f"{self.step}/{name}"] = np.array(x)
        return x

    # ---- building blocks

    def norm(self, name: str, x: A, eps: float, place: str, layer: int | None = None) -> A:
        kind = self.at(place, layer)
        if kind == "other_layer":
            name = neighbour(name, self.w)
        g, b = self.w[name + ".weight"], self.w[name + ".bias"]
        if kind.startswith("eps="):
            eps = float(kind[4:])
        mu = x.mean(-1, keepdims=True)
        var = x.var(-1, keepdims=True, ddof=1 if kind == "unbiased" else 0)
        if kind == "clamped":  # foreseen by no hypothesis
            var = np.maximum(var, 2 * np.median(var))
        if kind == "rms":
            mu, var = 0, (x * x).mean(-1, keepdims=True)
        if kind == "outside":
            y = (x - mu) / (np.sqrt(var) + self.dtype(eps))
        else:
            y = (x - mu) / np.sqrt(var + self.dtype(eps))
        if kind == "no_bias":
            return y * g
        if kind == "no_weight":
            return y + b
        if kind == "twice":
            y = y * g + b
            y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + eps)
        if kind == "missing":
            return x
        return y * g + b

    def dense(self, name: str, x: A, place: str, layer: int | None = None) -> A:
        kind = self.at(place, layer)
        if kind == "other_layer":
            name = neighbour(name, self.w)
        if kind.startswith("weights_of="):
            name = name.rsplit(".", 1)[0] + "." + kind.split("=")[1]
        w, b = self.w[name + ".weight"], self.w[name + ".bias"]
        if kind == "transposed":
            return np.einsum("...i,io->...o", x, w) + b
        if kind == "reshaped":
            return np.einsum("...i,io->...o", x, w.reshape(w.shape[1], w.shape[0])) + b
        if kind == "half_weights":
            w, b = half(w), half(b)
        if kind == "brain_weights":
            w, b = brain(w), brain(b)
        if kind == "row_lost":
            w = np.concatenate([0 * w[:1], w[1:]])
        if kind == "bias_of_first":
            b = np.full_like(b, b[0])
        if kind == "half_inputs":
            x = half(x)
        if kind == "int8":
            s = np.abs(w).max(1, keepdims=True) / 127
            w = np.round(w / s) * s
        y = np.einsum("...i,oi->...o", x, w)
        if kind == "no_bias":
            return y
        y = y + 2 * b if kind == "double_bias" else y + b
        return half(y) if kind == "half_output" else y

    def activation(self, x: A, name: str, place: str, layer: int) -> A:
        kind = self.at(place, layer)
        if kind == "none":
            return x
        if kind == "hard":
            return x * np.clip(x / 6 + 0.5, 0, 1)
        if kind == "clipped":
            return np.minimum(activate(x, name), np.median(np.abs(x)))
        return activate(x, kind if kind else name)

    def add(self, x: A, h: A, place: str, layer: int, other: A | None = None) -> A:
        kind = self.at(place, layer)
        if kind == "missing":
            return h
        if kind == "branch_missing":
            return x
        if kind == "twice":
            return 2 * x + h
        if kind == "dropout_scale":
            return x + h / 0.9
        if kind == "weak":
            return x + h * self.dtype(0.7)
        if kind == "elsewhere" and other is not None:
            return other + h
        return x + h

    # ---- the image

    def image(self, pixels: A) -> A:
        v = self.v
        p, c = v["patch_size"], "git.image_encoder.vision_model."
        frames = pixels.shape[1] if pixels.ndim == 5 else None
        if frames:
            pixels = pixels.reshape(-1, *pixels.shape[2:])
        x = self.patches(pixels.astype(self.dtype), self.w[c + "embeddings.patch_embedding.weight"])
        x = self.hook("v.patches", x)
        grid = (pixels.shape[2] // p, pixels.shape[3] // p)
        x = self.hook("v.embedded", self.place_patches(x, grid, c + "embeddings."))
        eps = v["layer_norm_eps"]
        x = self.hook("v.pre", self.norm(c + "pre_layrnorm", x, eps, "pre"))
        for i in range(v["num_hidden_layers"]):
            x = self.vision_layer(i, x)
        if self.at("post") == "skip_last":
            x = self.hooks[f"{self.step}/v{v['num_hidden_layers'] - 2}.end"]
        x = self.hook("v.post", self.norm(c + "post_layernorm", x, eps, "post"))
        if frames:
            x = self.string(x, frames)
        name = "git.visual_projection.visual_projection."
        x = self.hook("p.map", self.dense(name + "0", x, "proj"))
        return self.hook("p.norm", self.norm(name + "1", x, eps, "projnorm"))

    def patches(self, pixels: A, w: A) -> A:
        kind, p = self.at("patch"), self.v["patch_size"]
        if kind == "bgr":
            pixels = pixels[:, ::-1]
        b, c, height, width = pixels.shape
        r, s = height // p, width // p
        cut = pixels[:, :, : r * p, : s * p].reshape(b, c, r, p, s, p)
        if kind == "channels_last":
            flat = cut.transpose(0, 2, 4, 3, 5, 1).reshape(b, r * s, -1)
            return np.einsum("bni,di->bnd", flat, w.reshape(w.shape[0], -1))
        if kind == "transposed":
            w = w.transpose(0, 1, 3, 2)
        y = np.einsum("bcrpsq,dcpq->brsd", cut, w)
        if kind == "by_column":
            y = y.transpose(0, 2, 1, 3)
        return y.reshape(b, r * s, -1)

    def place_patches(self, x: A, grid: tuple[int, int], name: str) -> A:
        kind = self.at("vemb")
        cls = np.broadcast_to(self.w[name + "class_embedding"], (x.shape[0], 1, x.shape[2]))
        table = self.w[name + "position_embedding.weight"]
        pos = self.fitted(table, grid, kind)
        if kind == "no_class":
            return x + pos[1:]
        if kind == "class_last":
            return np.concatenate([x + pos[1:], cls + pos[0]], 1)
        if kind == "class_no_position":
            return np.concatenate([cls, x + pos[1:]], 1)
        if kind == "no_positions":
            return np.concatenate([cls, x], 1)
        if kind == "one_wrong":
            pos = pos[[0, 1, 1, *range(3, len(pos))]]
        if kind == "shifted":
            return np.concatenate([cls, x + pos[:-1]], 1)
        return np.concatenate([cls, x], 1) + pos

    def fitted(self, table: A, grid: tuple[int, int], kind: str) -> A:
        side = math.isqrt(len(table) - 1)
        if grid == (side, side):
            return table
        old = table[1:].reshape(side, side, -1).astype(np.float64)
        if kind == "cropped":
            new = old[: grid[0], : grid[1]]
            return np.concatenate([table[:1], new.reshape(-1, table.shape[1])]).astype(self.dtype)
        for axis, count in enumerate(grid):
            old = np.moveaxis(stretch(np.moveaxis(old, axis, 0), count, kind), 0, axis)
        flat = old.reshape(-1, table.shape[1])
        return np.concatenate([table[:1], flat]).astype(self.dtype)

    def string(self, x: A, frames: int) -> A:
        kind = self.at("time")
        x = x.reshape(-1, frames, *x.shape[1:])
        t = np.stack([self.w[f"git.img_temperal_embedding.{i}"][0, 0] for i in range(frames)])
        if kind == "reversed":
            t = t[::-1]
        if kind != "missing":
            x = x + t[None, :, None]
        if kind == "interleaved":
            x = x.swapaxes(1, 2)
        return x.reshape(x.shape[0], -1, x.shape[-1])

    def vision_layer(self, i: int, x: A) -> A:
        v, name = self.v, f"git.image_encoder.vision_model.encoder.layers.{i}."
        eps = v["layer_norm_eps"]
        h = self.hook(f"v{i}.n1", self.norm(name + "layer_norm1", x, eps, "v.ln1", i))
        h_qkv = x if self.at("v.prenorm", i) == "skipped" else h
        q, k, val = (
            self.hook(f"v{i}.{s}", self.dense(f"{name}self_attn.{s}_proj", h_qkv, f"v.{s}", i))
            for s in "qkv"
        )
        s = self.hook(f"v{i}.s", self.score("v.scores", i, q, [k], v["num_attention_heads"]))
        p = self.hook(f"v{i}.p", self.soft(s, None, "v.probs", i, v["num_attention_heads"], q))
        o = self.hook(f"v{i}.o", self.gather("v.ctx", i, p, [val], v["num_attention_heads"]))
        o = self.hook(f"v{i}.out", self.dense(name + "self_attn.out_proj", o, "v.out", i))
        start = x
        x = self.hook(f"v{i}.mid", self.add(x, o, "v.res1", i, other=h))
        src = start if self.at("v.ln2", i) == "reads_start" else x
        h = self.hook(f"v{i}.n2", self.norm(name + "layer_norm2", src, eps, "v.ln2", i))
        h = self.hook(f"v{i}.f1", self.dense(name + "mlp.fc1", h, "v.fc1", i))
        h = self.hook(f"v{i}.a", self.activation(h, v["hidden_act"], "v.act", i))
        h = self.hook(f"v{i}.f2", self.dense(name + "mlp.fc2", h, "v.fc2", i))
        return self.hook(f"v{i}.end", self.add(x, h, "v.res2", i, other=start))

    # ---- attention

    def split(self, x: A, n: int, kind: str) -> A:
        """(B, L, D) -> (B, H, L, D/H)."""
        b, length, d = x.shape
        if kind == "interleaved":
            return x.reshape(b, length, d // n, n).transpose(0, 3, 1, 2)
        if kind == "unmoved":
            return x.reshape(b, n, length, d // n)
        return x.reshape(b, length, n, d // n).transpose(0, 2, 1, 3)

    def score(self, place: str, i: int, q: A, keys: list[A], n: int, table: A | None = None) -> A:
        kind, d = self.at(place, i), q.shape[-1] // n
        k = np.concatenate(keys, 1)
        qh, kh = self.split(q, n, kind), self.split(k, n, kind)
        raw = np.einsum("bhid,bhjd->bhij", qh, kh)
        scale = {
            "no_scale": 1.0, "twice": 1 / d, "by_D": 1 / math.sqrt(d * n), "multiplied": d**0.5,
            "tempered": 0.9 / math.sqrt(d),
        }.get(kind, 1 / math.sqrt(d))  # fmt: skip
        if table is None or kind == "no_relative":
            return raw * self.dtype(scale)
        middle = (len(table) - 1) // 2
        total = k.shape[1]
        at = np.arange(total - q.shape[1], total)
        if kind == "last_query":
            at = at * 0 + total - 1
        dist = at[:, None] - np.arange(total)[None]
        dist = -dist if kind == "reversed" else dist
        e = table[middle + dist]
        bias = np.einsum("bhid,ijd->bhij", qh, e)
        if self.c["position_embedding_type"] == "relative_key_query":
            bias = bias + np.einsum("bhjd,ijd->bhij", kh, e)
        if kind == "relative_unscaled":
            return raw * self.dtype(scale) + bias
        return (raw + bias) * self.dtype(scale)

    def soft(self, s: A, see: A | None, place: str, i: int, n: int, q: A) -> A:
        """Softmax of scores where `see` (B, Q, K) allows."""
        kind = self.at(place, i)
        if kind == "scaled_again":
            s = s * self.dtype((q.shape[-1] // n) ** -0.5)
        if see is not None and kind == "zero":
            s = s * see[:, None]
        elif see is not None and kind not in ("after", "one"):
            s = np.where(see[:, None], s, self.dtype(-np.inf))
        if see is not None and kind == "one":
            s = s + see[:, None]
        axis = -2 if kind == "over_queries" else 1 if kind == "over_heads" else -1
        low = np.finfo(s.dtype).min
        with np.errstate(invalid="ignore", over="ignore"):
            e = np.exp(s - np.max(np.maximum(s, low), axis=axis, keepdims=True))
        p = e / np.maximum(e.sum(axis, keepdims=True), np.finfo(s.dtype).tiny)
        p = p * see[:, None] if see is not None and kind == "after" else p
        p = np.where(p < 0.05, 0, p) if kind == "pruned" else p
        p = p / self.dtype(0.9) if kind == "dropout_scale" else p
        return p.astype(self.dtype)

    def gather(self, place: str, i: int, p: A, values: list[A], n: int) -> A:
        kind = self.at(place, i)
        vh = self.split(np.concatenate(values, 1), n, kind)
        if kind == "transposed":
            p = p.swapaxes(-1, -2)
        o = np.einsum("bhij,bhjd->bhid", p, vh)
        b, _, length, d = o.shape
        if kind == "interleaved":
            return o.transpose(0, 2, 3, 1).reshape(b, length, -1)
        if kind in ("unmoved", "merge_unmoved"):
            return o.reshape(b, length, n * d)
        return o.transpose(0, 2, 1, 3).reshape(b, length, -1)

    # ---- the text

    def words(self, ids: A, position_ids: A | None) -> A:
        c, name = self.c, "git.embeddings."
        kind = self.at("word")
        wrong = {"plus_one": (ids + 1) % c["vocab_size"], "late": np.roll(ids, 1, 1)}.get(kind, ids)
        table = self.w["output.weight" if kind == "head" else name + "word_embeddings.weight"]
        x = table[wrong]
        x = x * self.dtype(c["hidden_size"] ** 0.5) if kind == "scaled" else x
        x = self.hook("t.words", x)
        if c["position_embedding_type"] == "absolute":
            kind = self.at("pos")
            if position_ids is None:
                position_ids = np.arange(self.n_text, self.n_text + ids.shape[1])[None]
            shift = {"behind_image": self.n_image, "one": 1, "minus": -1}.get(kind, 0)
            if kind == "step_behind_image" and self.step:
                shift = self.n_image
            if kind == "step_from_zero" and self.step:
                shift = -self.n_text
            at = position_ids + shift
            if kind == "skip_padding" and self.mask is not None:
                at = np.maximum(np.cumsum(self.mask, 1) - 1, 0)[:, -ids.shape[1] :]
            p = self.hook("t.positions", self.w[name + "position_embeddings.weight"][at])
            kind = self.at("tsum")
            x = self.hook("t.sum", x if kind == "no_positions" else x + p)
        eps = c.get("embedding_layer_norm_eps", c["layer_norm_eps"])
        return self.hook("t.norm", self.norm(name + "LayerNorm", x, eps, "tln"))

    def join(self, image: A, text: A) -> A:
        kind = self.at("join")
        times = text.shape[0] // image.shape[0]
        image = np.repeat(image, times, 0) if kind == "repeat" else np.tile(image, (times, 1, 1))
        parts = [text, image] if kind == "text_first" else [image, text]
        return np.concatenate(parts, 1)

    def visible(self, rows: int, n_query: int, kind: str) -> A:
        """Who sees whom: (B, Q, K)."""
        n, total = self.n_image, self.n_image + self.n_text
        i, j = np.arange(total - n_query, total)[:, None], np.arange(total)[None]
        see = {
            "": (j < n) | (j <= i),
            "causal": j <= i,
            "none": j < total + 0 * i,
            "image_sees_text": (i < n) | (j <= i),
            "text_blind": np.where(i < n, j < n, (j >= n) & (j <= i)),
            "image_diagonal": np.where(i < n, j == i, j <= i),
            "off_by_one": (j < n) | (j <= i + 1),
            "strict": (j < n) | (j < i),
            "text_bidirectional": (j < n) | (i >= n),
        }.get(kind, (j < n) | (j <= i))  # fmt: skip
        see = np.broadcast_to(see, (rows, *see.shape)).copy()
        if self.mask is not None and kind not in ("padding_ignored",):
            mask = 1 - self.mask if kind == "padding_inverted" else self.mask
            if kind == "past_padding_ignored" and self.step:
                mask = np.concatenate([0 * mask[:, :-1] + 1, mask[:, -1:]], 1)
            pad = np.ones((rows, total), bool)
            if kind == "padding_in_front":
                pad[:, : mask.shape[1]] = mask != 0
            else:
                pad[:, n:] = mask != 0
            see &= pad[:, None]
        return see

    def text_layer(self, i: int, x: A) -> A:
        c, name = self.c, f"git.encoder.layer.{i}."
        n, eps = c["num_attention_heads"], c["layer_norm_eps"]
        att, src = name + "attention.self.", x
        if self.at("t.prenorm", i) == "normed":
            src = self.norm(name + "attention.output.LayerNorm", x, eps, "", i)
        q, k, v = (
            self.hook(f"t{i}.{s[0]}", self.dense(att + s, src, f"t.{s}", i))
            for s in ("query", "key", "value")
        )
        self.keys.setdefault(i, []).append(k)
        self.values.setdefault(i, []).append(v)
        table = None
        if c["position_embedding_type"] != "absolute":
            table = self.w[att + "distance_embedding.weight"]
        s = self.hook(f"t{i}.s", self.score("t.scores", i, q, self.keys[i], n, table))
        see = self.visible(x.shape[0], x.shape[1], self.at("t.mask", i))
        p = self.hook(f"t{i}.p", self.soft(s, see, "t.probs", i, n, q))
        o = self.hook(f"t{i}.o", self.gather("t.ctx", i, p, self.values[i], n))
        o = self.hook(f"t{i}.out", self.dense(name + "attention.output.dense", o, "t.out", i))
        start = x
        r = self.hook(f"t{i}.r1", self.add(x, o, "t.res1", i, other=q))
        x = self.norm(name + "attention.output.LayerNorm", r, eps, "t.ln1", i)
        x = self.hook(f"t{i}.n1", x)
        h = self.hook(f"t{i}.f1", self.dense(name + "intermediate.dense", x, "t.fc1", i))
        h = self.hook(f"t{i}.a", self.activation(h, c["hidden_act"], "t.act", i))
        h = self.hook(f"t{i}.f2", self.dense(name + "output.dense", h, "t.fc2", i))
        other = r if self.at("t.res2", i) == "elsewhere" else start
        r = self.hook(f"t{i}.r2", self.add(x, h, "t.res2", i, other=other))
        return self.hook(f"t{i}.n2", self.norm(name + "output.LayerNorm", r, eps, "t.ln2", i))

    def head(self, x: A) -> A:
        kind = self.at("head")
        w, b = self.w["output.weight"], self.w["output.bias"]
        w = self.w["git.embeddings.word_embeddings.weight"] if kind == "tied" else w
        w = w * (np.arange(len(w)) != 3)[:, None] if kind == "word_lost" else w
        y = np.einsum("bld,vd->blv", x, w) + (0 if kind == "no_bias" else b)
        return np.roll(y, 1, 1) if kind == "late" else y

    # ---- calls

    def run(
        self,
        pixels: A | None,
        ids: A,
        mask: A | None = None,
        position_ids: A | None = None,
        step_ids: list[A] | None = None,
        step_positions: list[A] | None = None,
    ) -> dict[str, A]:
        """Prefill and steps; returns the hooks under refgit's names."""
        self.mask = mask
        image = None
        if pixels is not None:
            image = self.image(pixels)
            self.n_image = image.shape[1]
        self.forward(ids, position_ids, image)
        for number, new in enumerate(step_ids or [], 1):
            self.step = number
            if self.mask is not None:
                self.mask = np.concatenate([self.mask, np.ones_like(new)], 1)
            self.forward(new, None if not step_positions else step_positions[number - 1], None)
        return canonical(self.hooks)

    def forward(self, ids: A, position_ids: A | None, image: A | None) -> None:
        x = self.words(ids, position_ids)
        x = x if image is None else self.join(image, x)
        self.n_text += ids.shape[1]
        for i in range(self.c["num_hidden_layers"]):
            x = self.text_layer(i, x)
        if self.at("head") == "before_norm":
            x = self.hooks[f"{self.step}/t{self.c['num_hidden_layers'] - 1}.r2"]
        self.hook("logits", self.head(x))


def stretch(old: A, count: int, kind: str) -> A:
    """Resample the first axis to `count` points."""
    n, new = len(old), []
    a = -0.5 if kind == "catmull" else -0.75
    for o in range(count):
        u = (o + 0.5) * n / count - 0.5
        if kind == "corners":
            u = o * (n - 1) / max(count - 1, 1)
        b, row = math.floor(u), np.zeros(old.shape[1:])
        if kind == "bilinear":
            hooks = [(b, 1 - (u - b)), (b + 1, u - b)]
        else:
            hooks = [(b + k, cubic(abs(u - b - k), a)) for k in (-1, 0, 1, 2)]
        for source, weight in hooks:
            row = row + weight * old[min(max(source, 0), n - 1)]
        new.append(row)
    return np.stack(new)


def cubic(d: float, a: float) -> float:
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def neighbour(name: str, weights: dict[str, A]) -> str:
    """The same place in the next layer, or in the one before."""
    parts = name.split(".")
    at = next(i for i, part in enumerate(parts) if part.isdigit())
    for step in (1, -1):
        other = ".".join([*parts[:at], str(int(parts[at]) + step), *parts[at + 1 :]])
        if other + ".weight" in weights:
            return other
    return name


# ---- its names in refgit's

VISION, TEXT = "git.image_encoder.vision_model.", "git.embeddings."
OUTSIDE = {
    "v.patches": VISION + "embeddings.patch_embedding", "v.embedded": VISION + "embeddings",
    "v.pre": VISION + "pre_layrnorm", "v.post": VISION + "post_layernorm",
    "p.map": "git.visual_projection.visual_projection.0",
    "p.norm": "git.visual_projection.visual_projection.1",
    "t.words": TEXT + "word_embeddings", "t.positions": TEXT + "position_embeddings",
    "t.sum": TEXT + "sum", "t.norm": TEXT + "LayerNorm", "logits": "output",
}  # fmt: skip
VISION_LAYER = {
    "n1": "layer_norm1", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
    "v": "self_attn.v_proj", "s": "self_attn.scores", "p": "self_attn.probabilities",
    "o": "self_attn.context", "out": "self_attn.out_proj", "mid": "self_attn.residual",
    "n2": "layer_norm2", "f1": "mlp.fc1", "a": "mlp.activation_fn", "f2": "mlp.fc2", "end": "",
}  # fmt: skip
TEXT_LAYER = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "s": "attention.self.scores", "p": "attention.self.probabilities",
    "o": "attention.self.context", "out": "attention.output.dense",
    "r1": "attention.output.residual", "n1": "attention.output.LayerNorm",
    "f1": "intermediate.dense", "a": "intermediate.intermediate_act_fn", "f2": "output.dense",
    "r2": "output.residual", "n2": "output.LayerNorm",
}  # fmt: skip


def canonical(hooks: dict[str, A]) -> dict[str, A]:
    """The hooks under refgit's names."""
    found = {}
    for own, x in hooks.items():
        step, name = own.split("/")
        prefix = f"step.{step}." if step != "0" else ""
        found[prefix + renamed(name)] = x
    return found


def renamed(name: str) -> str:
    if name in OUTSIDE:
        return OUTSIDE[name]
    tower, rest = name.split(".")
    if tower[0] == "v":
        return f"{VISION}encoder.layers.{tower[1:]}.{VISION_LAYER[rest]}".rstrip(".")
    return f"git.encoder.layer.{tower[1:]}.{TEXT_LAYER[rest]}"

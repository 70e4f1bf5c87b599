"""ONNX Runtime: the graphs of `onnx_graphs.py`, and search in NumPy around them.

Keys and values stay in ONNX Runtime's own arrays between two steps.
"""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

GRAPHS = Path(__file__).parents[2] / "export" / "onnx_graphs.py"

Case = dict[str, Any]


class Engine:
    """Three sessions and how each case is run with them."""

    def __init__(self, settings: dict[str, Any]) -> None:
        if settings["device"] != "cpu" or settings["dtype"] != "float32":
            raise ValueError("this peer runs on the CPU in float32 only")
        self.runtime = import_module("onnxruntime")
        self.settings = settings
        self.folder = Path(settings["model"])
        self.config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        self.graphs = graphs_of(self.folder, Path(settings["cache"]))
        self.load()
        layers = range(self.config["num_hidden_layers"])
        self.image_names = [f"{kind}{i}" for i in layers for kind in ("key", "value")]

    @property
    def facts(self) -> dict[str, Any]:
        """Versions and threads."""
        return {
            "onnxruntime": self.runtime.__version__,
            "numpy": np.__version__,
            "threads": self.settings["threads"],
        }

    def load(self) -> None:
        """Open the sessions, as for a first use: the graphs are optimised again."""
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = self.settings["threads"]
        options.inter_op_num_threads = 1
        self.sessions = {
            name: self.runtime.InferenceSession(
                str(self.graphs / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
            )
            for name in ("vision", "image", "step")
        }

    def wait(self) -> None:
        """Nothing runs on: `run` returns when all is done."""

    def host(self, result: Any) -> Any:
        """A result as a NumPy array."""
        return result.numpy() if hasattr(result, "numpy") else result

    def value(self, array: Any) -> Any:
        """An array as ONNX Runtime's own."""
        return self.runtime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))

    def case(self, case: Case) -> Any:
        """What is timed, and what is done before it each time."""
        return getattr(self, f"case_{case['kind']}")(case)

    def case_load(self, case: Case) -> Any:
        """Open the sessions once more."""
        return None, self.load

    def case_preprocess(self, case: Case) -> Any:
        """An image in memory to pixel values."""
        image = import_module("PIL.Image").open(case["image"]).convert("RGB")
        return None, lambda: preprocess(image, self.folder)

    def case_vision(self, case: Case) -> Any:
        """The image encoder only."""
        pixels = self.value(np.load(case["pixels"]))
        return None, lambda: self.features(pixels)

    def case_prefill(self, case: Case) -> Any:
        """The image and the opening token, to scores of the first token."""
        pixels, ids = self.value(np.load(case["pixels"])), np.array(case["ids"], np.int64)

        def run() -> Any:
            state = State(self, self.read_image(pixels), len(ids))
            return state.step(ids[:, 0])

        return None, run

    def case_decode(self, case: Case) -> Any:
        """One more token, with the cache of those before."""
        pixels, ids = self.value(np.load(case["pixels"])), np.array(case["ids"], np.int64)
        state = State(self, self.read_image(pixels), len(ids))
        for column in ids[:, :-1].T:
            state.step(column)
        text, length = state.text, state.length

        def before() -> None:
            state.text, state.length = text, length

        return before, lambda: state.step(ids[:, -1])

    def case_generate(self, case: Case) -> Any:
        """A text of a fixed length."""
        pixels = self.value(np.load(case["pixels"]))
        return None, lambda: self.generate(pixels, case)

    def features(self, pixels: Any) -> Any:
        """Pixels to features, in ONNX Runtime's arrays."""
        return self.sessions["vision"].run_with_ort_values(["features"], {"pixels": pixels})[0]

    def read_image(self, pixels: Any) -> dict[str, Any]:
        """Pixels to keys and values of the image, by the names the step knows them by."""
        feed = {"features": self.features(pixels)}
        found = self.sessions["image"].run_with_ort_values(self.image_names, feed)
        return {f"image_{name}": x for name, x in zip(self.image_names, found, strict=True)}

    def generate(self, pixels: Any, case: Case) -> Any:
        """Tokens (B, 1 + tokens), by greedy or beam search; the end token is suppressed."""
        beams, image = case["beams"], self.read_image(pixels)
        n_images = image["image_key0"].shape()[0]
        state = State(self, image, n_images)
        ids = np.full((n_images, 1), self.config["bos_token_id"], np.int64)
        scores = state.step(ids[:, 0])
        if beams > 1:
            return beam_search(state, ids, scores, beams, case["tokens"], self.ends)
        for step in range(case["tokens"]):
            scores = scores if step == 0 else state.step(ids[:, -1])
            scores[:, self.ends] = -np.inf
            ids = np.concatenate([ids, scores.argmax(axis=1)[:, None]], axis=1)
        return ids

    @property
    def ends(self) -> list[int]:
        """Tokens that end a text."""
        end = self.config["eos_token_id"]
        return end if isinstance(end, list) else [end]


class State:
    """What has been read: the images' keys and values, and the texts' so far."""

    def __init__(self, engine: Engine, image: dict[str, Any], rows: int) -> None:
        self.engine, self.image, self.length = engine, image, 0
        config = engine.config
        heads, width = config["num_attention_heads"], config["hidden_size"]
        none = engine.value(np.zeros((rows, heads, 0, width // heads), np.float32))
        self.text = dict.fromkeys(engine.image_names, none)
        self.names = ["scores", *(f"new_{name}" for name in engine.image_names)]

    def step(self, tokens: Any) -> Any:
        """Read a token of each batch row; return scores (R, V)."""
        value = self.engine.value
        place = np.array([self.length], np.int64)
        feed = {"ids": value(tokens), "place": value(place), **self.image, **self.text}
        scores, *new = self.engine.sessions["step"].run_with_ort_values(self.names, feed)
        self.text = dict(zip(self.engine.image_names, new, strict=True))
        self.length += 1
        return scores.numpy()

    def select(self, rows: Any) -> None:
        """Go on with these batch rows."""
        value = self.engine.value
        self.text = {name: value(x.numpy()[rows]) for name, x in self.text.items()}


def beam_search(
    state: State, ids: Any, scores: Any, beams: int, tokens: int, ends: list[int]
) -> Any:
    """The likeliest text of each image: no text ends, so the best `beams` prefixes go on."""
    n_images, vocabulary = len(ids), scores.shape[1]
    sums, alive = np.zeros((n_images, 1), np.float32), 1
    for step in range(tokens):
        if step:
            scores = state.step(ids[:, -1])
        top = scores.max(axis=1, keepdims=True)
        total = np.log(np.exp(scores - top).sum(axis=1, keepdims=True)) + top
        scores -= total - sums.reshape(-1, 1)
        scores[:, ends] = -np.inf
        flat = scores.reshape(n_images, alive * vocabulary)
        best = np.argpartition(flat, -beams, axis=1)[:, -beams:]
        values = np.take_along_axis(flat, best, axis=1)
        order = np.argsort(-values, axis=1)
        best, sums = (np.take_along_axis(x, order, axis=1) for x in (best, values))
        parents = (best // vocabulary + np.arange(n_images)[:, None] * alive).reshape(-1)
        tokens_now = (best % vocabulary).reshape(-1, 1)
        ids = np.concatenate([ids[parents], tokens_now], axis=1)
        if step < tokens - 1 and (alive < beams or (parents != np.arange(len(parents))).any()):
            state.select(parents)
        alive = beams
    return ids[::beams]


def _module_of(file: Path) -> Any:
    """Import a file by its path: the peer's environment has no refgit."""
    spec = spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def graphs_of(folder: Path, cache: Path) -> Path:
    """The folder of the graphs, built on first use."""
    file = folder / "model.safetensors"
    stat = file.stat() if file.exists() else folder.stat()
    key = f"{folder.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode() + GRAPHS.read_bytes()
    target = cache / "onnx" / hashlib.sha256(key).hexdigest()[:16]
    if not (target / "ready").exists():
        _module_of(GRAPHS).build(folder, target)
        (target / "ready").touch()
    return target


def preprocess(image: Any, folder: Path) -> Any:
    """What preprocessor_config.json asks for: resize, cut the middle out, scale, normalise."""
    settings = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    size, crop = settings["size"], settings["crop_size"]
    if settings.get("do_resize", True):
        if "shortest_edge" in size:
            edge, short = size["shortest_edge"], min(image.size)
            wide, high = (edge if x == short else int(edge * x / short) for x in image.size)
        else:
            wide, high = size["width"], size["height"]
        image = image.resize((wide, high), settings.get("resample", 3))
    pixels = np.asarray(image)
    if settings.get("do_center_crop", True):
        top, left = (pixels.shape[0] - crop["height"]) // 2, (pixels.shape[1] - crop["width"]) // 2
        pixels = pixels[top : top + crop["height"], left : left + crop["width"]]
    mean = np.array(settings["image_mean"], np.float32)
    std = np.array(settings["image_std"], np.float32)
    scale = np.float32(settings.get("rescale_factor", 1 / 255)) / std
    return np.ascontiguousarray((pixels * scale - mean / std).transpose(2, 0, 1)[None])


def once(settings: dict[str, Any], case: Case) -> Any:
    """From nothing to the tokens of a caption of an image file, and their text."""
    engine = Engine(settings)
    image = import_module("PIL.Image").open(case["image"]).convert("RGB")
    pixels = preprocess(image, engine.folder)
    ids = engine.generate(engine.value(pixels), case)
    tokenizer = import_module("tokenizers").Tokenizer
    tokenizer.from_file(str(engine.folder / "tokenizer.json")).decode_batch(ids.tolist())
    return ids.tolist()

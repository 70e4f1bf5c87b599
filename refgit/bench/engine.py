"""refgit as the benchmark's worker sees it: how each case is run, and the limits beside it.

Run by `workers/serve.py` in a process of its own, like every peer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from refgit.model.causal_lm import GitForCausalLM
from refgit.pipeline import Captioner
from refgit.processing import GitProcessor, load_image
from refgit.version import __version__

Case = dict[str, Any]
Runs = tuple[Callable[[], None] | None, Callable[[], Any]]


class Engine:
    """A model of refgit, and how each case is run with it.

    Parameters
    ----------
    settings : dict
        model (directory), backend, dtype, threads.
    model : GitForCausalLM, optional
        One that is there already; nothing is read then.
    """

    def __init__(self, settings: dict[str, Any], model: Any = None) -> None:
        self.settings = settings
        self.model = self.load() if model is None else model
        self.limits: Any = None

    @property
    def facts(self) -> dict[str, Any]:
        """Versions, backend and threads."""
        backend = self.model.backend
        return {
            "refgit": __version__,
            "numpy": np.__version__,
            "backend": backend.name,
            "kernels": sorted(backend.kernels),
            "dtype": self.model.dtype,
            "device": backend.device_name,
        }

    def load(self) -> Any:
        """Read the checkpoint."""
        backend, dtype = self.settings["backend"], self.settings["dtype"]
        return GitForCausalLM.from_pretrained(self.settings["model"], backend=backend, dtype=dtype)

    def wait(self) -> None:
        """Return when the device has done its work."""
        self.model.backend.synchronize()

    def host(self, result: Any) -> Any:
        """A result as a NumPy array."""
        return None if result is None else self.model.backend.to_numpy(result)

    def case(self, case: Case) -> Runs:
        """What is timed, and what is done before it each time."""
        runs: Runs = getattr(self, f"case_{case['kind']}")(case)
        return runs

    def case_limit(self, case: Case) -> Runs:
        """What the machine allows for a case: see `limits`."""
        from refgit.bench.limits import Limits  # a cold start does not need it

        if self.limits is None:
            self.limits = Limits(self.model, self.settings.get("threads", 1))
        return None, self.limits.run_of(case)

    def case_load(self, case: Case) -> Runs:
        """Read the checkpoint once more."""

        def run() -> None:
            self.load()

        return None, run

    def case_preprocess(self, case: Case) -> Runs:
        """An image in memory to pixel values."""
        image = load_image(case["image"])
        processor = GitProcessor.from_pretrained(self.settings["model"])
        return None, lambda: processor(images=image, return_tensors="np")["pixel_values"]

    def case_vision(self, case: Case) -> Runs:
        """The image encoder only."""
        model, pixels = self.model, self.pixels(case)
        encoder = model.git.image_encoder
        return None, lambda: encoder(pixels, interpolate_pos_encoding=True).last_hidden_state

    def case_prefill(self, case: Case) -> Runs:
        """The image and the opening tokens, to scores of the first token."""
        model, pixels, ids = self.model, self.pixels(case), np.array(case["ids"], np.int64)

        def run() -> Any:
            cache = model.encode_image(pixels, interpolate_pos_encoding=True)
            return model.next_token_logits(ids, cache).logits

        return None, run

    def case_decode(self, case: Case) -> Runs:
        """One more token, with the cache of those before."""
        model, ids = self.model, np.array(case["ids"], np.int64)
        cache = model.encode_image(self.pixels(case), interpolate_pos_encoding=True)
        model.next_token_logits(ids[:, :-1], cache)

        def before() -> None:
            cache.crop(ids.shape[1] - 1)

        return before, lambda: model.next_token_logits(ids[:, -1:], cache).logits

    def case_generate(self, case: Case) -> Runs:
        """A text of a fixed length."""
        pixels, options = self.pixels(case), options_of(case)
        prompt = {"input_ids": np.array(case["ids"], np.int64)} if "ids" in case else {}
        return None, lambda: self.model.generate(pixels, **prompt, **options)

    def pixels(self, case: Case) -> Any:
        """The pixel values of a case, on the device."""
        return self.model.backend.asarray(np.load(case["pixels"]), self.model.dtype)


def options_of(case: Case) -> dict[str, Any]:
    """Options of `generate` that make a text of so many tokens, whatever the model says."""
    length = case["tokens"] + len(case["ids"][0]) if "ids" in case else case["tokens"] + 1
    return {
        "num_beams": case["beams"],
        "do_sample": False,
        "max_length": length,
        "min_length": length,
        "interpolate_pos_encoding": True,
    }


def once(settings: dict[str, Any], case: Case) -> Any:
    """Write a caption of an image file, from nothing to its token ids and their text."""
    backend, dtype = settings["backend"], settings["dtype"]
    captioner = Captioner.from_pretrained(settings["model"], backend=backend, dtype=dtype)
    found = captioner.model.generate(captioner.read(case["image"]), **options_of(case))
    ids = captioner.model.backend.to_numpy(found)
    captioner.processor.batch_decode(ids, skip_special_tokens=True)
    return ids.tolist()

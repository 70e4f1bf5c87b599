"""transformers, either line of it: 4.56 (the model file of the hub) and 5.

Both do what their users get: default attention, `generate` as it is. Two things are done for them:
the head runs on the last position only where that can be asked for, and 5's decode step gets the
right positions (it counts the image in, unless told).
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import numpy as np

Case = dict[str, Any]


class Engine:
    """A model in torch and how each case is run with it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.torch = import_module("torch")
        self.transformers = import_module("transformers")
        self.transformers.logging.set_verbosity_error()
        self.torch.set_num_threads(settings["threads"])
        self.torch.set_grad_enabled(False)
        self.settings = settings
        self.device = settings["device"]
        if self.device == "cuda" and not self.torch.cuda.is_available():
            raise RuntimeError("this torch sees no GPU; measure on one with a CUDA build of torch")
        self.major = int(self.transformers.__version__.split(".")[0])
        self.model = self.load()
        forward = inspect.signature(self.model.forward).parameters
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in forward else {}

    @property
    def facts(self) -> dict[str, Any]:
        """Versions and threads."""
        return {
            "transformers": self.transformers.__version__,
            "torch": self.torch.__version__,
            "attention": getattr(self.model.config, "_attn_implementation", "eager"),
            "threads": self.torch.get_num_threads(),
            "device": self.device,
        }

    def load(self) -> Any:
        """Read the checkpoint."""
        name = "dtype" if self.major >= 5 else "torch_dtype"
        options = {name: getattr(self.torch, self.settings["dtype"])}
        model = self.transformers.GitForCausalLM.from_pretrained(self.settings["model"], **options)
        return model.eval().to(self.device)

    def wait(self) -> None:
        """Return when the GPU, if there is one, has done its work."""
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def host(self, result: Any) -> Any:
        """A result as a NumPy array."""
        if result is None or isinstance(result, np.ndarray):
            return result
        if result.is_floating_point():
            result = result.float()
        return result.cpu().numpy()

    def tensor(self, array: Any) -> Any:
        """An array on the device, in the model's dtype if it is of floating point."""
        x = self.torch.from_numpy(np.asarray(array)).to(self.device)
        return x.to(self.model.dtype) if x.is_floating_point() else x

    def case(self, case: Case) -> Any:
        """What is timed, and what is done before it each time."""
        return getattr(self, f"case_{case['kind']}")(case)

    def case_load(self, case: Case) -> Any:
        """Read the checkpoint once more."""

        def run() -> None:
            self.load()

        return None, run

    def case_preprocess(self, case: Case) -> Any:
        """An image in memory to pixel values."""
        image = import_module("PIL.Image").open(case["image"]).convert("RGB")
        processor = self.processor()
        return None, lambda: processor(images=image, return_tensors="pt")["pixel_values"]

    def processor(self) -> Any:
        """Read the checkpoint's processor."""
        return self.transformers.AutoProcessor.from_pretrained(self.settings["model"])

    def case_vision(self, case: Case) -> Any:
        """The image encoder only."""
        pixels = self.tensor(np.load(case["pixels"]))
        return None, lambda: self.model.git.image_encoder(pixels).last_hidden_state

    def case_prefill(self, case: Case) -> Any:
        """The image and the opening token, to scores of the first token."""
        pixels, ids = self.tensor(np.load(case["pixels"])), self.tensor(case["ids"])
        options = {"pixel_values": pixels, "input_ids": ids, "use_cache": True, **self.last_only}
        return None, lambda: self.model(**options).logits[:, -1]

    def case_decode(self, case: Case) -> Any:
        """One more token, with the cache of those before."""
        pixels, ids = self.tensor(np.load(case["pixels"])), self.tensor(case["ids"])
        cache = self.model(pixel_values=pixels, input_ids=ids[:, :-1]).past_key_values
        length = cache.get_seq_length()
        options: dict[str, Any] = {"input_ids": ids[:, -1:], "past_key_values": cache}
        if self.major < 5:  # as its `generate` does: the image goes through again at every token
            options |= {"pixel_values": pixels, "attention_mask": self.torch.ones_like(ids[:, -1:])}
        else:
            place = self.torch.full_like(ids[:, -1:], ids.shape[1] - 1)
            options |= {"position_ids": place, **self.last_only}

        def before() -> None:
            more = cache.get_seq_length() - length
            if more:
                cache.crop(-more)

        return before, lambda: self.model(use_cache=True, **options).logits[:, -1]

    def case_generate(self, case: Case) -> Any:
        """A text of a fixed length."""
        pixels = self.tensor(np.load(case["pixels"]))
        return None, lambda: self.generate(pixels, case)

    def generate(self, pixels: Any, case: Case) -> Any:
        """Tokens (B, 1 + tokens), by greedy or beam search."""
        length = case["tokens"] + 1
        return self.model.generate(
            pixel_values=pixels,
            num_beams=case["beams"],
            do_sample=False,
            max_length=length,
            min_length=length,
        )


def once(settings: dict[str, Any], case: Case) -> list[list[int]]:
    """From nothing to the tokens of a caption of an image file, and their text."""
    engine = Engine(settings)
    processor = engine.processor()
    image = import_module("PIL.Image").open(case["image"]).convert("RGB")
    pixels = processor(images=image, return_tensors="pt")["pixel_values"]
    ids = engine.generate(pixels.to(engine.device, engine.model.dtype), case)
    processor.batch_decode(ids, skip_special_tokens=True)
    return ids.tolist()  # type: ignore[no-any-return]

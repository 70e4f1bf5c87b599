"""Make the golden tensors: what transformers 4.56.2 on torch computes, case by case.

    python3 -m venv /tmp/oracle
    /tmp/oracle/bin/pip install -r golden/requirements.txt
    /tmp/oracle/bin/python golden/generate.py            # all cases
    /tmp/oracle/bin/python golden/generate.py tiny       # cases whose name starts so

Each case is one safetensors file in golden/data/, with tensors named
    weight.NAME   a parameter (where they are not made by golden/weights.py or shipped)
    input.NAME    an argument of the forward pass
    tap.NAME      the output of the module NAME, or NAME.probabilities of an attention module
    output.NAME   logits, loss, last_hidden_state ...
    ids.NAME      ids that `generate` wrote
    scores.NAME   scores of its words, of each step; sequences_scores.NAME of its texts
and golden/manifest.json says of each: its config, how weights came about, tolerance, sha256, and
the versions of the oracle.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from cases import generation, models, processing
from safetensors.numpy import save_file

HERE = Path(__file__).parent
ORACLE = {"torch": "2.13.0", "transformers": "4.56.2"}


def softmax_at_full_width() -> None:
    """Let float64 stay float64.

    transformers' eager attention of the image encoder casts its softmax to float32 even in a
    float64 model, which costs eight digits; its other implementations do not.
    """
    plain = torch.nn.functional.softmax

    def softmax(x: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        return plain(x, dim=dim, dtype=None if x.dtype == torch.float64 else dtype)

    torch.nn.functional.softmax = softmax


def cases() -> Iterator[tuple[str, models.Case]]:
    """All cases but those of the processor, which come from one call."""
    yield from models.cases()
    yield "generation_modes", lambda: generation.modes(models.build)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(wanted: list[str]) -> None:
    found = {"torch": torch.__version__.partition("+")[0], "transformers": transformers.__version__}
    if found != ORACLE:
        sys.exit(f"the oracle is {found}; golden tensors are made with {ORACLE}")
    torch.set_num_threads(1)  # one order of summation
    softmax_at_full_width()
    data, manifest_path = HERE / "data", HERE / "manifest.json"
    data.mkdir(exist_ok=True)
    manifest = json.loads(manifest_path.read_text()) if manifest_path.exists() else {}
    for name, make in cases():
        if wanted and not name.startswith(tuple(wanted)):
            continue
        tensors, entry = make()
        path = data / f"{name}.safetensors"
        save_file(tensors, path)
        entry |= {"oracle": ORACLE, "files": {path.name: digest(path)}}
        manifest[name] = entry
        print(f"{name}: {len(tensors)} tensors, {path.stat().st_size:,} bytes")
    if not wanted or "processing".startswith(tuple(wanted)):
        for entry in processing.generate(data):
            name, files = entry.pop("case"), entry.pop("files")
            digests = {Path(f).name: digest(data / Path(f).name) for f in files}
            manifest[name] = {**entry, "oracle": ORACLE, "files": digests}
            print(f"{name}: {', '.join(digests)}")
    manifest_path.write_text(json.dumps(dict(sorted(manifest.items())), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

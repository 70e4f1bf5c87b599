"""Caption every held-out drawing with refgit and with transformers; count equal captions.

    python docs/recipes/emoji/compare_captions.py --work /tmp/refgit-demo

needs both implementations in one environment:
pip install -r docs/recipes/emoji/requirements.txt . (the drawings come from fetch.py)
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from export import captions, on_white
from train import CLS, Data
from transformers import GitForCausalLM as OracleModel
from transformers import GitProcessor as OracleProcessor

from refgit import GitForCausalLM, GitProcessor
from refgit.demo import demo_path
from refgit.processing import load_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    data = Data(parser.parse_args().work / "emoji.npz")
    folder = demo_path()
    with tempfile.TemporaryDirectory() as pictures:
        files = []
        for number, rgba in enumerate(data.images[data.test_index].numpy()):
            files.append(Path(pictures) / f"{number}.png")
            on_white(rgba).save(files[-1])
        images = [load_image(file) for file in files]
    oracle = OracleModel.from_pretrained(folder).float().eval()
    wanted = captions(oracle, OracleProcessor.from_pretrained(folder), images, [CLS])
    model, processor = GitForCausalLM.from_pretrained(folder), GitProcessor.from_pretrained(folder)
    found = []
    for image in images:
        pixels = processor(images=image, return_tensors="np")["pixel_values"]
        ids = model.generate(pixel_values=pixels, max_length=24)
        found += processor.batch_decode(ids, skip_special_tokens=True)
    equal = sum(a == b for a, b in zip(found, wanted, strict=True))
    for a, b in zip(found, wanted, strict=True):
        if a != b:
            print(f"refgit: {a!r}  transformers: {b!r}")
    print(f"{equal} of {len(found)} captions equal")
    path = Path(__file__).parent / "results.json"
    results = json.loads(path.read_text())
    results |= {"captions_compared": len(found), "captions_equal": equal}
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# A LoRA adapter of GIT that also trains visual_projection is saved and cannot be loaded again.
#
# Versions: peft 0.21.0, transformers 4.56.2, torch 2.13.0, CPU.
# Expected: modules_to_save=["visual_projection"] trains that module beside the LoRA matrices; what
#   save_pretrained writes, PeftModel.from_pretrained loads, or the setting is refused at once.
# What happens: GIT has a module `visual_projection` with a module `visual_projection` inside. Names
#   are matched by their end, so both are wrapped. Training and saving work without a word; loading
#   raises KeyError on a key of the inner one, so the training is lost to whoever has only the
#   adapter.
# Output seen:
#   saved: 4 tensors of visual_projection
#   loading: KeyError 'base_model.model.git.visual_projection.visual_projection.0.weight'
# Way out: name one of the two only, "visual_projection.visual_projection", as shown below.
#   loading with the inner name only: done
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export TRANSFORMERS_VERBOSITY=error PIP_DISABLE_PIP_VERSION_CHECK=1

cat > "$WORK/adapter.py" <<'PYTHON'
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import GitConfig, GitForCausalLM


def model():
    torch.manual_seed(0)
    small = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    vision = {**small, "image_size": 8, "patch_size": 4}
    return GitForCausalLM(GitConfig(vision_config=vision, **small, vocab_size=50)).eval()


def save_and_load(name, folder):
    config = LoraConfig(r=2, target_modules=["query"], modules_to_save=[name])
    get_peft_model(model(), config).save_pretrained(folder)
    names = load_file(f"{folder}/adapter_model.safetensors")
    print("saved:", sum("visual_projection" in name for name in names), "tensors of visual_projection")
    PeftModel.from_pretrained(model(), folder)


try:
    save_and_load("visual_projection", sys.argv[1] + "/both")
except KeyError as error:
    print("loading: KeyError", error)
    assert "visual_projection.visual_projection" in str(error), "the behaviour has changed"
else:
    raise SystemExit("the behaviour has changed")
save_and_load("visual_projection.visual_projection", sys.argv[1] + "/inner")
print("loading with the inner name only: done")
PYTHON

python3 -m venv "$WORK/env"
"$WORK/env/bin/pip" install --quiet torch==2.13.0 transformers==4.56.2 peft==0.21.0
"$WORK/env/bin/python" "$WORK/adapter.py" "$WORK"

#!/usr/bin/env bash
# Video checkpoints of GIT lose their time embeddings when a newer transformers loads them.
#
# Versions: written by transformers 4.56.2, read by 4.56.2 and by 5.23.0, on torch 2.13.0, CPU.
# Expected: a directory that save_pretrained wrote loads completely in a later version, as
#   microsoft/git-base-vatex and the other video checkpoints of the hub, which have the same names.
# What happens: the parameters were renamed from img_temperal_embedding to img_temporal_embedding
#   (a spelling) in 4.57, without a rule that renames them in files. from_pretrained reports them as
#   unexpected and missing, and returns a model whose time embeddings are not those of the file.
# Output seen:
#   transformers 4.56.2: 0 missing, 0 unexpected, time embeddings loaded: True
#   transformers 5.23.0: 3 missing, 3 unexpected, time embeddings loaded: False
#   transformers 5.23.0 with key_mapping: 0 missing, 0 unexpected, time embeddings loaded: True
# Way out: from_pretrained(..., key_mapping={"img_temperal_embedding": "img_temporal_embedding"}).
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1 PIP_DISABLE_PIP_VERSION_CHECK=1

cat > "$WORK/video.py" <<'PYTHON'
import sys

import torch
import transformers
from safetensors.torch import load_file
from transformers import GitConfig, GitForCausalLM

folder, action = sys.argv[1:]
small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
if action == "write":
    config = GitConfig(
        vision_config={**small, "image_size": 8, "patch_size": 4},
        **small,
        vocab_size=50,
        max_position_embeddings=32,
        num_image_with_embedding=3,
    )
    model = GitForCausalLM(config)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "temperal" in name:
                parameter.normal_()
    model.save_pretrained(folder)
stored = {
    name.replace("temperal", "temporal"): x
    for name, x in load_file(f"{folder}/model.safetensors").items()
    if "temperal" in name
}


def load(said, complete, **options):
    model, report = GitForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    found = {n.replace("temperal", "temporal"): p for n, p in model.named_parameters()}
    loaded = all(torch.equal(found[name], x) for name, x in stored.items())
    missing, unexpected = len(report["missing_keys"]), len(report["unexpected_keys"])
    print(f"{said}: {missing} missing, {unexpected} unexpected, time embeddings loaded: {loaded}")
    wanted = (0, 0, True) if complete else (3, 3, False)
    assert (missing, unexpected, loaded) == wanted, "the behaviour has changed"


said = f"transformers {transformers.__version__}"
load(said, transformers.__version__ == "4.56.2")
if transformers.__version__ != "4.56.2":
    mapping = {"img_temperal_embedding": "img_temporal_embedding"}
    load(f"{said} with key_mapping", True, key_mapping=mapping)
PYTHON

python3 -m venv "$WORK/env"
"$WORK/env/bin/pip" install --quiet torch==2.13.0 transformers==4.56.2
"$WORK/env/bin/python" "$WORK/video.py" "$WORK/model" write
"$WORK/env/bin/pip" install --quiet transformers==5.23.0
"$WORK/env/bin/python" "$WORK/video.py" "$WORK/model" read

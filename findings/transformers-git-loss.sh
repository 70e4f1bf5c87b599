#!/usr/bin/env bash
# GitForCausalLM's loss scores the token after the next: the labels are shifted twice.
#
# Versions: transformers 5.14.1 (and every one from 4.48.3 on) against 5.15.0, on torch 2.13.0, CPU.
# Expected: the loss of a causal language model is the mean cross-entropy of the logits at text
#   position t and the token at t + 1, as the documentation of `labels` says.
# What happens: up to 5.14.1 forward() cuts the last logit and the first label and then calls
#   self.loss_function, ForCausalLMLoss, which shifts again. What is trained is the token at t + 2;
#   batches are flattened in between, so the last token of a sequence is scored with the first of
#   the next one. There is no warning and the loss still falls: fine-tuned captions get worse.
# Output seen:
#   transformers 5.14.1: loss 5.7962, next token 6.2672, token after it 5.7962
#   transformers 5.15.0: loss 6.2672, next token 6.2672, token after it 5.7962
# Way out: transformers >= 5.15.0 or <= 4.48.2, or compute the loss from the logits.
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export TRANSFORMERS_VERBOSITY=error PIP_DISABLE_PIP_VERSION_CHECK=1

cat > "$WORK/loss.py" <<'PYTHON'
import torch
import transformers
from transformers import GitConfig, GitForCausalLM

torch.manual_seed(0)
small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
config = GitConfig(
    vision_config={**small, "image_size": 8, "patch_size": 4},
    **small,
    vocab_size=50,
    max_position_embeddings=32,
    initializer_range=0.5,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
model = GitForCausalLM(config).eval()
ids = torch.randint(3, 50, (2, 8))
pixels = torch.randn(2, 3, 8, 8)
with torch.no_grad():
    out = model(input_ids=ids, pixel_values=pixels, labels=ids)
logits = out.logits[:, -8:]  # of the text tokens
entropy = torch.nn.functional.cross_entropy
once = entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
twice = entropy(logits[:, :-1].flatten(0, 1)[:-1], ids[:, 1:].flatten()[1:])
print(
    f"transformers {transformers.__version__}: loss {out.loss:.4f}, "
    f"next token {once:.4f}, token after it {twice:.4f}"
)
wanted = twice if transformers.__version__ == "5.14.1" else once
assert torch.isclose(out.loss, wanted, rtol=1e-5), "the behaviour has changed"
assert not torch.isclose(once, twice, rtol=1e-2)
PYTHON

python3 -m venv "$WORK/env"
"$WORK/env/bin/pip" install --quiet torch==2.13.0 transformers==5.14.1
"$WORK/env/bin/python" "$WORK/loss.py"
"$WORK/env/bin/pip" install --quiet transformers==5.15.0
"$WORK/env/bin/python" "$WORK/loss.py"

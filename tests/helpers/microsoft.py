"""A vocabulary with bert-base-uncased's special ids, for Microsoft's checkpoints."""

from __future__ import annotations

# bert-base-uncased's first ids: [PAD] 0, [UNK] 100, [CLS] 101, [SEP] 102, [MASK] 103.
VOCABULARY = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY += list("abcdef")
WORDS = len(VOCABULARY)  # 110

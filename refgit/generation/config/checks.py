"""What each argument of `generate` may be: fields of GenerationConfig, and what refgit lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refgit.generation.config.constraints import Constraint, are_forced_words
from refgit.validation import (
    Rule,
    are_id_lists,
    are_ids,
    are_strings,
    is_biases,
    is_decay,
    is_flag,
    is_id_or_ids,
    is_integer,
    is_number,
    is_positive,
    is_size,
    or_none,
)


def _are_constraints(value: Any) -> bool:
    several = isinstance(value, list | tuple) and len(value) > 0
    return several and all(isinstance(x, Constraint) for x in value)


# What is expected of each field, and whether a value is that.
RULES: tuple[Rule, ...] = (
    ("max_length num_beams num_beam_groups num_return_sequences", "a positive integer", is_size),
    ("max_new_tokens", "None or a positive integer", or_none(is_size)),
    ("min_length", "an integer of at least 0", is_integer),
    ("min_new_tokens top_k no_repeat_ngram_size encoder_no_repeat_ngram_size",
     "None or an integer of at least 0", or_none(is_integer)),
    ("early_stopping", 'True, False or "never"', lambda x: is_flag(x) or x == "never"),
    ("max_time temperature penalty_alpha diversity_penalty", "None or a number of at least 0",
     or_none(lambda x: is_number(x, 0))),
    ("top_p min_p typical_p", "None or a number from 0 to 1",
     or_none(lambda x: is_number(x, 0, 1))),
    ("epsilon_cutoff eta_cutoff", "None or a number of at least 0 and below 1",
     or_none(lambda x: is_number(x, 0) and x < 1)),
    ("repetition_penalty encoder_repetition_penalty", "None or a number above 0",
     or_none(is_positive)),
    ("length_penalty", "a number", is_number),
    ("beam_scoring", '"transformers" or "microsoft"',
     lambda x: isinstance(x, str) and x in ("transformers", "microsoft")),
    ("guidance_scale", "None or a number", or_none(is_number)),
    ("stop_strings", "None, a string or a list of strings, none of them empty",
     or_none(are_strings)),
    ("do_sample use_cache renormalize_logits remove_invalid_values no_immediate_repeat "
     "output_attentions output_hidden_states output_scores return_dict_in_generate",
     "True or False", is_flag),
    ("output_logits", "None, True or False", or_none(is_flag)),
    ("bad_words_ids", "None or a list of lists of token ids, none of them empty",
     or_none(are_id_lists)),
    ("force_words_ids", "None or a list of phrases (lists of token ids), or of lists of phrases",
     or_none(are_forced_words)),
    ("constraints", "None or a list of refgit.generation.config.constraints.Constraint",
     or_none(_are_constraints)),
    ("forced_bos_token_id pad_token_id bos_token_id",
     "None or a token id, which is an integer of at least 0", or_none(is_integer)),
    ("forced_eos_token_id eos_token_id",
     "None, a token id, which is an integer of at least 0, or a list of them",
     or_none(is_id_or_ids)),
    ("exponential_decay_length_penalty", "None or (start, factor), an integer and a number above 0",
     or_none(is_decay)),
    ("suppress_tokens begin_suppress_tokens", "None or a list of token ids", or_none(are_ids)),
    ("sequence_bias", "None, a mapping of tuples of token ids to numbers, or a list of such pairs",
     or_none(is_biases)),
)  # fmt: skip

# Arguments of transformers that refgit does not have: values that ask for nothing, and the reason.
_SPEED = "it changes only speed, and refgit has nothing like it"
_DRAFTS = "refgit has no speculative decoding; the texts are the same without"
_ENCODER = "GIT has no text encoder"
NOT_HERE: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "cache_implementation": ((None, "dynamic"), _SPEED),
    "cache_config": ((None,), _SPEED),
    "return_legacy_cache": ((None, False), "refgit has one kind of cache"),
    "prefill_chunk_size": ((None,), _SPEED),
    "compile_config": ((None,), _SPEED),
    "disable_compile": ((None, False, True), _SPEED),
    "low_memory": ((None, False), _SPEED),
    "synced_gpus": ((None, False), "refgit runs on one device"),
    "assistant_model": ((None,), _DRAFTS),
    "assistant_tokenizer": ((None,), _DRAFTS),
    "assistant_early_exit": ((None,), _DRAFTS),
    "assistant_confidence_threshold": ((None, 0.4), _DRAFTS),
    "assistant_lookbehind": ((None, 10), _DRAFTS),
    "target_lookbehind": ((None, 10), _DRAFTS),
    "is_assistant": ((None, False), _DRAFTS),
    "num_assistant_tokens": ((None, 20), _DRAFTS),
    "num_assistant_tokens_schedule": ((None, "constant"), _DRAFTS),
    "prompt_lookup_num_tokens": ((None,), _DRAFTS),
    "max_matching_ngram_size": ((None,), _DRAFTS),
    "decoder_start_token_id": ((None,), f"{_ENCODER}; use bos_token_id or input_ids"),
    "decoder_input_ids": ((None,), f"{_ENCODER}; use input_ids"),
    "decoder_attention_mask": ((None,), f"{_ENCODER}; use attention_mask"),
    "encoder_outputs": ((None,), f"{_ENCODER}; use past_key_values of model.encode_image"),
    "token_healing": ((None, False), "refgit does not rewrite prompts"),
    "watermarking_config": ((None,), "refgit marks no texts"),
    "dola_layers": ((None,), "transformers 4.56 cannot do so either without code of others"),
    "custom_generate": ((None,), "refgit runs no code of others"),
    "trust_remote_code": ((None, False), "refgit runs no code of others"),
}
# Those a file may hold to no effect on the text are passed over there; these are not.
CHANGES_THE_TEXT = ("token_healing", "watermarking_config", "dola_layers")

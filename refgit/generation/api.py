"""`model.generate`: from images and prompts to whole texts, by any of the searches.

The image is read once into the cache, whatever is asked; a step then costs one token a row.
(GIT paper, section 3.1: one token after the other, each read before the next is chosen.)
"""

from __future__ import annotations

from typing import Any

from refgit.generation.prompt import check_images, read_prompts
from refgit.generation.protocol import CaptionModel
from refgit.generation.request import Request
from refgit.generation.resolve import resolve
from refgit.generation.results import Output
from refgit.generation.search.base import Search
from refgit.generation.search.token_by_token import TokenSearch
from refgit.generation.session import Call, rules_of
from refgit.layers._array_api import Array


def generate(
    model: CaptionModel, pixel_values: Any = None, input_ids: Any = None, **options: Any
) -> Array | Output:
    """Write texts below images.

    Parameters
    ----------
    model : GitForCausalLM
    pixel_values : array (B', C, S, S) or (B', frames, C, S, S), floating point, optional
        The images or videos; each is read once.
    input_ids : array (B, T), integer, optional
        What each text starts with; B is a multiple of B'. By default the token ``bos_token_id``,
        once for each image.
    attention_mask : array (B, T), optional
        1 for text, 0 for padding in `input_ids`, on either side. Each text becomes what it would
        become by itself, without its padding. By default ``pad_token_id`` is padding wherever it
        occurs in `input_ids`.
    head_mask : array (H,) or (layers, H), optional
        1 for heads of the text decoder that count, 0 for heads to silence.
    past_key_values : KeyValueCache, optional
        From `model.encode_image`, in the place of `pixel_values`; it is left as it was, for
        further texts below the same images.
    interpolate_pos_encoding : bool
        Take images of any height and width.
    generation_config : GenerationConfig, optional
        Of this call, in the place of the model's.
    preset : {"paper"}, optional
        "paper" decodes as Microsoft's implementation does, with which the paper's models came; see
        `refgit.generation.resolve`.
    search : str, optional
        Name of the search, one of `refgit.generation.search.SEARCHES`; by default the one that the
        fields below ask for.
    seed : int or numpy.random.Generator, optional
        Of what is drawn when sampling; by default it differs from call to call.
    logits_processor, stopping_criteria : iterables of callables
        ``processor(ids, scores) -> scores`` and ``criterion(ids, scores) -> ended`` of the caller,
        on NumPy arrays (rows, T) and (rows, V). Rows whose prompts differ in length come in
        separate calls, and with beams the rows of each text.
    prefix_allowed_tokens_fn : callable, optional
        ``(text b, its ids so far) -> token ids`` that may follow.
    tokenizer : BertTokenizer, optional
        Reads `stop_strings`.
    streamer : optional
        Has ``put(ids)``, called with the prompts and then with the tokens of each step, and
        ``end()``. See `model.stream` for more.
    use_model_defaults : bool, optional
        See `resolve.fill`.
    **options
        Those above but the first three; and fields of `GenerationConfig`, each in the place of the
        checkpoint's: ``max_length``, ``max_new_tokens``, ``num_beams``, ``do_sample`` ... Lengths
        count each text's own tokens, without padding.

    Returns
    -------
    array (R, length), int64, on the model's backend
        `input_ids` and what was written, to the end token; ``pad_token_id`` after it. R is B times
        ``num_return_sequences``, the texts of one prompt next to one another.
    GenerateDecoderOnlyOutput, GenerateBeamDecoderOnlyOutput
        With ``return_dict_in_generate``.

    Raises
    ------
    ValueError, TypeError
        An argument is unknown, impossible, without effect, or does not fit another; the message
        names it. This is found before the image is read.

    Notes
    -----
    Source: GIT paper, section 3.1. Ids equal those of transformers 4.56's `generate`, and what is
    drawn has its distribution.
    """
    request = Request.of(pixel_values, input_ids, options)
    shown_by = None if request.streamer is None else "streamer"
    search, call = prepare(model, request, shown_by=shown_by)
    return search.write(call, request.streamer)


def prepare(
    model: CaptionModel, request: Request, *, shown_by: str | None = None
) -> tuple[Search, Call]:
    """Check everything, then read the images; see `generate`.

    `shown_by` is the name of what shows each token as it comes, if anything: there can be no beams.
    """
    request.check()
    images = check_images(
        model,
        request.pixel_values,
        request.past_key_values,
        any_size=request.interpolate_pos_encoding,
    )
    room = model.config.text_room(images.length)
    resolved = resolve(model.generation_config, request, room)
    config, search = resolved.config, resolved.search
    if shown_by is not None and not isinstance(search, TokenSearch):
        raise ValueError(
            f"{shown_by} was asked for and num_beams is {config.num_beams}; beam search can revise "
            "tokens that were already emitted, so expected num_beams=1."
        )
    prompts = read_prompts(model, request.input_ids, request.attention_mask, config, images.number)
    rules = rules_of(model, request, prompts, resolved.below)
    cache = images.read(request.head_mask)
    return search, Call(model, config, prompts, rules, cache, request.head_mask, request.seed)

"""The README.md of a kit: what a porter needs to know, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXT = """\
# GIT conformance kit

{n_cases} cases for an implementation of GIT (Generative Image-to-text Transformer) in any
language. Each is a file of inputs and a file of what should come out. Made by refgit {version}
from seeds; all weights, pictures and texts were made up for it.

Your program reads `kit.json`, computes the cases it can, and writes one file a case into a
directory of its own. Then, on any machine with refgit:

    refgit check RESULTS_DIR --kit THIS_DIR

prints what passed, the first failure in the order below, and a badge line.

## What is here

- `kit.json`: the index. It lists the levels, and for each case its `id`, `level`, `operation`,
  `description`, `arguments`, the files `inputs`, `weights`, `expected`, and of each tensor its
  `shape`, `tolerance` and whether it is `required`.
- `cases/ID.inputs.*` and `cases/ID.expected.*`: tensors as safetensors, texts and lists of ids as
  JSON.
- `models/NAME/`: `config.json` and `model.safetensors` as any GIT checkpoint has them. The names
  of the weights that a case needs begin with its `weights.prefix`.
- `pictures/*.png`: the pictures of the preprocessing cases. The inputs hold the same as raw RGB,
  (height, width, 3) bytes, if you have no PNG reader.
- `tokenizer/vocab.txt`: one token a line; its id is the number of the line, from 0.

## Reading safetensors

    n      = first 8 bytes as an unsigned little-endian integer
    header = the next n bytes as JSON: name -> {{dtype, shape, data_offsets: [first, stop]}}
    data   = all that follows
    for each name, except "__metadata__":
        raw    = data[first : stop]
        values = raw as little-endian numbers: F32 float, I64 integer, U8 byte
        tensor = values in row-major order (the last axis runs fastest), of that shape
    a writer does the same backwards; pad the header with spaces to a multiple of 8 bytes

## Where to begin

In this order; each level needs only what stands before it, and every case has inputs of its own,
so an error does not spread from one case to the next.

| level | cases | look at, if it is the first to fail |
|---|---|---|
{levels}

A case's `operation` says what to compute; `description` says it in words. Tensors with
`required: false` lie on the way (q, k, v, scores ...). They may be left out. Where they are
given, the first wrong one is named, which is mostly the answer.

## What to write

For each case one file in RESULTS_DIR: `ID.safetensors`, `ID.npz`, or `ID.json` (an object, with
nested lists for tensors). Names and shapes are those of the expected file. Floats of any
precision, integers of any width. Cases that you leave out count as missing, not as wrong.

## What a tolerance means

Expected values were computed in float64 and stored as float32. The same case was then computed
in float32 with sums taken in up to five orders; `noise` is the largest distance seen, for this
tensor and these inputs. `tolerance` = {margin:g} x max(noise, 2^-24 x largest value). The largest
absolute error of your tensor must not exceed it. `check` gives errors in multiples of it: a
float32 port is mostly between 0.05 and 0.5, a wrong formula above 10. Half precision does not fit
these tolerances; run the kit in float32.

In preprocessing, `noise` is the distance between Pillow, which rounds to bytes after the rows and
again after the columns, and the formula in floating point; `tolerance` is twice that where the
picture is resized. Texts must be equal. So must ids, up to the end token; what stands behind it
is not compared. No id hangs on rounding: with scores shaken by 0.002 the same ids come out.

## What a port must decide

Implementations of GIT differ here. The kit does it thus:

- **Positions.** Text positions count from 0 behind the image, also in a step on top of a cache.
  (transformers 5 counts the image in if a step has no position ids.)
- **Relative positions.** The distance is query minus key over the joint sequence of image and
  text, with a cache or without. (transformers 4 with a cache takes every query for the last.)
- **Padding** stays masked in every step of decoding. Image tokens are never masked. What comes
  out at padded tokens is not compared (`counts` names a tensor of the expected file, 1 where a
  row is compared).
- **Several texts for an image.** Text b belongs to image b modulo the number of images.
- **Layer norm eps.** The image encoder and the visual projection take vision_config's (1e-5), the
  decoder its own (1e-12).
- **Activations.** quick_gelu in the image encoder, gelu with erf in the decoder.
- **Loss.** Logits at token t - 1 against label t; the first label of a row never counts.
  (transformers 4.56 shifts the labels twice.)
- **Other image sizes.** Positions are stretched bicubically, a = -0.75, no antialiasing; the
  class token's is kept. Pictures are resized with a = -0.5 and with antialiasing.
- **Beam search** with k beams. At each step take the 2 k best continuations of all beams by summed
  log-probability. One that ends ([SEP], or max_length reached) is kept if it is among the k best
  of these, with score sum / n^length_penalty, n the words without the prompt, [SEP] included. The
  k best others go on. Keep the k best kept texts. Stop when there are k of them and the best
  running sum / n^length_penalty does not beat the worst of them, or all of the 2 k ended. At the
  first step a prompt counts as one beam. Return the `num_return_sequences` best.
"""


def readme(index: Mapping[str, Any]) -> str:
    """Return the text of README.md for the content of kit.json."""
    levels = [
        f"| {level['name']} | {level['cases']} | {level['look_at']} |" for level in index["levels"]
    ]
    return _TEXT.format(
        n_cases=len(index["cases"]),
        version=index["refgit"],
        levels="\n".join(levels),
        margin=index["margin"],
    )

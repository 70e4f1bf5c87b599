#!/usr/bin/env bash
# A PNG's transparent colour is lost, or is another colour, where a channel has not 8 bits.
#
# Versions: Pillow 11.3.0 and 12.0.0, NumPy 2.2.6.
# Expected: a PNG may name one colour as transparent (chunk tRNS). After convert("RGBA") the pixels of
#   that colour have alpha 0 and all others 255, whatever the depth of the file: so it is with 8 bits.
# What happens: Pillow scales the pixels of 2 and 4 bits grey and of 16 bits RGB to 8 bits, and leaves
#   the colour as it stood in the file. Of 16 bits RGB the pixels of that colour stay opaque, and
#   pixels that were another colour become transparent: here black. Of 16 bits grey it is dropped.
#   There is no warning.
# What a user of GIT meets: a drawing or a scan whose background is transparent in every viewer is
#   captioned with its background, or with holes in its black lines.
# Output seen, of a pixel that is the transparent colour and one that is not:
#   Pillow 11.3.0: grey, 8 bits: alpha 0 255
#   Pillow 11.3.0: grey, 4 bits: alpha 255 255
#   Pillow 11.3.0: grey, 16 bits: alpha 255 255
#   Pillow 11.3.0: RGB, 16 bits: alpha 255 0
# Way out: read tRNS from the file, and compare before scaling.
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1

cat > "$WORK/png.py" <<'PYTHON'
import io
import struct
import zlib

import numpy as np
from PIL import Image, __version__


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth, colour, row, key):
    """A PNG of two pixels, with a transparent colour."""
    head = struct.pack(">IIBBBBB", 2, 1, depth, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)),
            chunk(b"IDAT", zlib.compress(b"\0" + row)),
            chunk(b"IEND", b""),
        ]
    )


GREY, RGB = 0, 2
files = {  # the first pixel has the transparent colour
    "grey, 8 bits": (png(8, GREY, bytes([5, 0]), [5]), [0, 255]),
    "grey, 4 bits": (png(4, GREY, bytes([0x50]), [5]), [255, 255]),
    "grey, 16 bits": (png(16, GREY, struct.pack(">2H", 1000, 2000), [1000]), [255, 255]),
    "RGB, 16 bits": (
        png(16, RGB, struct.pack(">6H", 256, 512, 768, 0, 0, 0), [256, 512, 768]),
        [255, 0],
    ),
}
for name, (data, expected) in files.items():
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    alpha = np.asarray(image)[0, :, 3].tolist()
    print(f"Pillow {__version__}: {name}: alpha {alpha[0]} {alpha[1]}")
    assert alpha == expected, "the behaviour has changed"
PYTHON

python3 -m venv "$WORK/env"
for version in 11.3.0 12.0.0; do
  "$WORK/env/bin/pip" install --quiet numpy==2.2.6 "pillow==$version"
  "$WORK/env/bin/python" "$WORK/png.py"
done

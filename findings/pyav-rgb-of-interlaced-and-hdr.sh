#!/usr/bin/env bash
# PyAV's to_ndarray("rgb24") gives other pixels than FFmpeg's own filters, for interlaced and HDR film.
#
# Versions: PyAV 16.1.0 and 18.1.0, NumPy 2.2.6.
# Expected: frame.to_ndarray(format="rgb24") and FFmpeg's filter "format=rgb24", which is also what
#   the command `ffmpeg -pix_fmt rgb24` runs, convert a frame alike, as they do for ordinary film.
# What happens: from PyAV 17.0.0 on interlaced frames differ, before they were equal (16.1.0 and
#   17.0.0 were tried); HDR frames (PQ, 10 bits) differ in both, by other amounts. Presumably
#   to_ndarray hands libswscale all that the frame says of itself, and the filter does not. Nothing
#   warns.
# What a user of GIT meets: the same video and the same model give other captions after an upgrade of
#   PyAV, or beside a program that decodes with ffmpeg.
# Output seen (the largest difference, of 255):
#   PyAV 16.1.0: progressive 0, interlaced 0, HDR 30
#   PyAV 18.1.0: progressive 0, interlaced 43, HDR 84
# Way out: convert by a filter graph: buffer -> format=rgb24 -> buffersink.
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1

cat > "$WORK/rgb.py" <<'PYTHON'
import io

import av
import numpy as np

PQ, BT2020 = 16, 9


def film(pixels, *, interlaced=False, hdr=False):
    """Four frames of coloured squares in H.264."""
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    settings = "log-level=none:threads=1" + (":interlaced=1" if interlaced else "")
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=25, options={"x264-params": settings, "qp": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixels
        if hdr:
            context = stream.codec_context
            context.color_trc, context.colorspace, context.color_primaries = PQ, BT2020, BT2020
        for _ in range(4):
            squares = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(squares, format="rgb24")))
        out.mux(stream.encode())
    file.seek(0)
    return file


def by_filter(frame, stream):
    graph = av.filter.Graph()
    nodes = graph.add_buffer(template=stream), graph.add("format", "pix_fmts=rgb24")
    sink = graph.add("buffersink")
    nodes[0].link_to(nodes[1])
    nodes[1].link_to(sink)
    graph.configure()
    graph.push(frame)
    return graph.pull().to_ndarray()


def difference(file):
    with av.open(file) as container:
        stream = container.streams.video[0]
        return max(
            int(np.abs(frame.to_ndarray(format="rgb24") - by_filter(frame, stream).astype(int)).max())
            for frame in container.decode(stream)
        )


plain = difference(film("yuv420p"))
fields = difference(film("yuv420p", interlaced=True))
hdr = difference(film("yuv420p10le", hdr=True))
print(f"PyAV {av.__version__}: progressive {plain}, interlaced {fields}, HDR {hdr}")
old = int(av.__version__.split(".")[0]) < 17
assert plain == 0 and hdr > 8 and (fields == 0 if old else fields > 8), "the behaviour has changed"
PYTHON

python3 -m venv "$WORK/env"
for version in 16.1.0 18.1.0; do
  "$WORK/env/bin/pip" install --quiet numpy==2.2.6 "av==$version"
  "$WORK/env/bin/python" "$WORK/rgb.py"
done

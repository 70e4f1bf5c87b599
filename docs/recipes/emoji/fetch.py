"""Fetch the open emoji drawings and render them to one array file.

A development step: it needs npm and ``pip install -r docs/recipes/emoji/requirements.txt``.
Nothing it downloads enters the repository; the sets and their licences are credited in
refgit/demo/README.md.

    python docs/recipes/emoji/fetch.py --work /tmp/refgit-demo

writes /tmp/refgit-demo/emoji.npz with
    images   uint8 (K, 96, 96, 4)   RGBA, straight alpha
    label    int32 (K,)             index into `names`
    vendor   int32 (K,)             index into `vendors`
    names, groups, vendors          the Unicode short name, its group, the drawing set
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

SIZE = 96
UNICODE = "unicode-emoji-json@0.9.0"
# name -> (npm package, version). The last one is held out from training.
ICON_SETS = {
    "fluent-flat": ("@iconify-json/fluent-emoji-flat", "1.2.6"),
    "fluent": ("@iconify-json/fluent-emoji", "1.2.7"),
    "noto": ("@iconify-json/noto", "1.2.9"),
    "noto-v1": ("@iconify-json/noto-v1", "1.2.5"),
    "emojione": ("@iconify-json/emojione", "1.2.3"),
    "emojione-v1": ("@iconify-json/emojione-v1", "1.2.3"),
    "fxemoji": ("@iconify-json/fxemoji", "1.2.2"),
    "openmoji": ("@iconify-json/openmoji", "1.2.29"),
    "streamline": ("@iconify-json/streamline-emojis", "1.2.4"),
    "twemoji": ("@iconify-json/twemoji", "1.2.5"),
}
FLUENT_3D = ("@lobehub/fluent-emoji-3d", "1.1.0")
HELD_OUT = "twemoji"

# People come in gender and skin variants that differ by a few pixels; flags are one drawing in
# every set. Neither teaches captioning, so both stay out.
VARIANTS = re.compile(
    r"(man|woman|men|women|family|kiss|couple with heart|keycap|person|people|deaf|boy|girl)\b"
)


def squash(name: str) -> str:
    """Icon names differ between sets in punctuation only; compare letters and digits."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("ñ", "n"))


def install(work: Path) -> Path:
    """npm-install every set below `work`; returns its node_modules folder."""
    packages = [f"{p}@{v}" for p, v in [*ICON_SETS.values(), FLUENT_3D]] + [UNICODE]
    work.mkdir(parents=True, exist_ok=True)
    (work / "package.json").write_text('{"private": true}')
    subprocess.run(["npm", "install", "--silent", *packages], cwd=work, check=True)
    return work / "node_modules"


def vocabulary(modules: Path) -> list[tuple[str, str, str]]:
    """(emoji, short name, group) of every emoji kept."""
    table = json.loads((modules / "unicode-emoji-json/data-by-emoji.json").read_text())
    return [
        (emoji, entry["name"], entry["group"])
        for emoji, entry in table.items()
        if entry["group"] not in ("Flags", "Component") and not VARIANTS.match(entry["name"])
    ]


def render_svg(body: str, width: float, height: float) -> np.ndarray:
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">{body}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE))
    return fit(Image.open(io.BytesIO(png)))


def fit(image: Image.Image) -> np.ndarray:
    """RGBA, resized to SIZE x SIZE keeping the aspect ratio, centred."""
    image = image.convert("RGBA")
    image.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (SIZE, SIZE))
    canvas.paste(image, ((SIZE - image.width) // 2, (SIZE - image.height) // 2))
    return np.asarray(canvas)


def icon_set(modules: Path, package: str, names: list[str]) -> dict[int, np.ndarray]:
    """Rendered drawings of one iconify set, by index into `names`."""
    data = json.loads((modules / package / "icons.json").read_text())
    icons = {squash(name): icon for name, icon in data["icons"].items()}
    for alias, entry in data.get("aliases", {}).items():
        plain = set(entry) == {"parent"} and entry["parent"] in data["icons"]
        if plain:  # aliases that rotate or flip another icon are left out
            icons.setdefault(squash(alias), data["icons"][entry["parent"]])
    drawings = {}
    for index, name in enumerate(names):
        icon = icons.get(squash(name))
        if icon is not None:
            width = icon.get("width", data.get("width", 16))
            height = icon.get("height", data.get("height", 16))
            drawings[index] = render_svg(icon["body"], width, height)
    return drawings


def fluent_3d(modules: Path, emojis: list[str]) -> dict[int, np.ndarray]:
    folder = modules / FLUENT_3D[0] / "assets"
    drawings = {}
    for index, emoji in enumerate(emojis):
        points = [f"{ord(c):04x}" for c in emoji]
        bare = [p for p in points if p != "fe0f"]
        for stem in ("-".join(points), "-".join(bare), "-".join(bare) + "-fe0f"):
            if (folder / f"{stem}.webp").exists():
                drawings[index] = fit(Image.open(folder / f"{stem}.webp"))
                break
    return drawings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work
    modules = install(work)
    entries = vocabulary(modules)
    names = [name for _, name, _ in entries]
    vendors = [*ICON_SETS, "fluent-3d"]
    images, label, vendor = [], [], []
    for v, vendor_name in enumerate(vendors):
        if vendor_name == "fluent-3d":
            drawings = fluent_3d(modules, [emoji for emoji, _, _ in entries])
        else:
            drawings = icon_set(modules, ICON_SETS[vendor_name][0], names)
        print(f"{vendor_name:12s} {len(drawings)} drawings", flush=True)
        for index, image in drawings.items():
            if image[..., 3].any():  # a few sets carry empty placeholders
                images.append(image)
                label.append(index)
                vendor.append(v)
    np.savez(
        work / "emoji.npz",
        images=np.stack(images),
        label=np.array(label, np.int32),
        vendor=np.array(vendor, np.int32),
        names=np.array(names),
        groups=np.array([group for _, _, group in entries]),
        vendors=np.array(vendors),
    )


if __name__ == "__main__":
    main()

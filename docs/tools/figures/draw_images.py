"""Draw the example images of docs/images with Pillow.

    python docs/tools/figures/draw_images.py

Nothing here comes from an emoji set: each picture is a few circles, curves and polygons. They are
drawn at four times their size and reduced, which smooths the edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

SIZE, SCALE = 256, 4
Pen = ImageDraw.ImageDraw
Point = tuple[float, float]


def circle(pen: Pen, x: float, y: float, radius: float, colour: str) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def curve(start: Point, control: Point, end: Point, steps: int = 40) -> list[Point]:
    """Points of a quadratic Bezier curve."""
    return [
        tuple(
            (1 - t) ** 2 * a + 2 * t * (1 - t) * c + t * t * b
            for a, c, b in zip(start, control, end, strict=True)
        )
        for t in (i / steps for i in range(steps + 1))
    ]


def red_apple(pen: Pen) -> None:
    outline = (
        curve((512, 300), (330, 190), (190, 330))
        + curve((190, 330), (90, 500), (240, 760))
        + curve((240, 760), (350, 930), (512, 850))
        + curve((512, 850), (674, 930), (784, 760))
        + curve((784, 760), (934, 500), (834, 330))
        + curve((834, 330), (694, 190), (512, 300))
    )
    pen.polygon(outline, fill="#d92b2b")
    pen.polygon(
        curve((250, 400), (220, 520), (280, 640)) + curve((280, 640), (270, 500), (250, 400)),
        fill="#f07a6e",
    )
    pen.line(curve((512, 310), (500, 200), (560, 110)), fill="#6b4423", width=36, joint="curve")
    pen.polygon(
        curve((540, 230), (640, 80), (800, 120)) + curve((800, 120), (740, 260), (540, 230)),
        fill="#4caf3a",
    )


def red_heart(pen: Pen) -> None:
    points = []
    for i in range(200):
        t = i / 200 * 2 * math.pi
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((512 + 26 * x, 480 - 26 * y))
    pen.polygon(points, fill="#dd2e44")


def star(pen: Pen) -> None:
    points = []
    for i in range(10):
        radius = 440 if i % 2 == 0 else 185
        angle = -math.pi / 2 + i * math.pi / 5
        points.append((512 + radius * math.cos(angle), 540 + radius * math.sin(angle)))
    pen.polygon(points, fill="#fdc62f")


def balloon(pen: Pen) -> None:
    pen.line(curve((512, 700), (440, 830), (540, 980)), fill="#8a8a8a", width=14, joint="curve")
    pen.polygon([(512, 650), (470, 730), (554, 730)], fill="#b81f33")
    pen.ellipse((260, 70, 764, 690), fill="#e0304a")
    pen.ellipse((350, 150, 450, 300), fill="#f4899a")


def cloud(pen: Pen) -> None:
    for x, y, radius in ((300, 600, 180), (480, 470, 220), (700, 560, 200), (520, 640, 160)):
        circle(pen, x, y, radius, "#cfe0ec")
    pen.rectangle((300, 600, 720, 780), fill="#cfe0ec")
    circle(pen, 300, 640, 140, "#cfe0ec")
    circle(pen, 720, 640, 140, "#cfe0ec")


def smiling_face(pen: Pen) -> None:
    circle(pen, 512, 512, 450, "#ffcc4d")
    pen.ellipse((320, 330, 410, 470), fill="#664500")
    pen.ellipse((614, 330, 704, 470), fill="#664500")
    pen.line(curve((300, 620), (512, 860), (724, 620)), fill="#664500", width=46, joint="curve")
    circle(pen, 300, 620, 23, "#664500")
    circle(pen, 724, 620, 23, "#664500")


def pencil(pen: Pen) -> None:
    pen.polygon([(700, 110), (910, 320), (380, 850), (170, 640)], fill="#f9b233")
    pen.polygon(
        [(740, 70), (780, 50), (974, 244), (954, 284), (910, 320), (700, 110)], fill="#ea5a78"
    )
    pen.polygon([(660, 150), (700, 110), (910, 320), (870, 360)], fill="#b8bec4")
    pen.polygon([(170, 640), (380, 850), (80, 940)], fill="#f3d2a2")
    pen.polygon([(110, 830), (190, 910), (80, 940)], fill="#2b2b2b")


PICTURES: dict[str, Callable[[Pen], None]] = {
    "red-apple": red_apple,
    "red-heart": red_heart,
    "star": star,
    "balloon": balloon,
    "cloud": cloud,
    "slightly-smiling-face": smiling_face,
    "pencil": pencil,
}


def draw(name: str) -> Image.Image:
    """One picture, 256 x 256 pixels."""
    large = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), "white")
    PICTURES[name](ImageDraw.Draw(large))
    return large.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def main() -> None:
    folder = Path(__file__).parents[2] / "images"
    folder.mkdir(exist_ok=True)
    for name in PICTURES:
        draw(name).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()

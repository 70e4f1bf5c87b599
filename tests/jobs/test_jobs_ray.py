"""The same work as a step of a Ray Data pipeline, on a cluster of two workers on this machine."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.backends import ROOT
from helpers.command_line import model, picture
from refgit.cli import main as cli
from refgit.demo import demo_path
from refgit.errors import JobError
from refgit.processing import Reading

__all__ = ["model"]  # a fixture
pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
IMAGES = ROOT / "docs" / "images"
EMOJI = [IMAGES / f"{x}.png" for x in ("balloon", "cloud", "pencil", "red-apple", "star")]
PAIR = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


# ---- the actor, which is ordinary code


def actor(**options: Any) -> Any:
    from refgit.jobs.ray import CaptionActor

    defaults: dict[str, Any] = {"model": None, "column": "image", "max_length": 50, "workers": 2}
    return CaptionActor(**{**defaults, "backend": None, "dtype": "float32", **options})


def test_an_actor_captions_a_table_and_keeps_its_other_columns() -> None:
    images = [
        {"bytes": EMOJI[0].read_bytes(), "path": "a"},
        {"bytes": None, "path": None},
        {"bytes": None, "path": str(EMOJI[4])},
    ]
    found = actor()(pa.table({"key": [7, 8, 9], "image": pa.array(images, PAIR)}))
    assert found.column_names == ["key", "image", "caption", "error"]
    assert found.to_pylist() == [
        {"key": 7, "image": "a", "caption": "balloon", "error": None},
        {"key": 8, "image": None, "caption": None, "error": "there is no image."},
        {"key": 9, "image": str(EMOJI[4]), "caption": "star", "error": None},
    ]


def test_an_actor_reads_files_as_it_is_told() -> None:
    pixels = np.asarray(Image.open(IMAGES / "red-heart.png"))
    seen = ~(pixels > 250).all(axis=2)  # all but the white background, which becomes transparent
    stream = io.BytesIO()
    cutout = np.dstack([pixels * seen[..., None], seen * np.uint8(255)])
    Image.fromarray(cutout).save(stream, "PNG")
    table = pa.table({"image": [stream.getvalue()]})
    assert actor()(table).column("caption").to_pylist() == ["red heart"]
    told = actor(reading=Reading(background="oracle"), decoding={"num_beams": 2})
    assert told(table).column("caption").to_pylist() == ["heart suit"]
    assert told.captioner.decoding["num_beams"] == 2


def test_tables_have_the_same_types_whatever_is_in_them() -> None:
    caption = actor(column="picture")
    good = caption(pa.table({"picture": [EMOJI[0].read_bytes()]}))
    bad = caption(pa.table({"picture": [b"no image"]}))
    assert good.schema == bad.schema


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"key": [1]}, r"no column 'picture'; it has key\. Name the one"),
        ({"picture": ["a"], "error": [1]}, "has a column 'error' already"),
    ],
)
def test_an_actor_refuses_columns_that_do_not_fit(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(JobError, match=words):
        actor(column="picture")(pa.table(columns))


def test_an_actor_draws_the_same_words_whatever_the_order(tmp_path: Path) -> None:
    folder = shutil.copytree(demo_path(), tmp_path / "model")
    file = folder / "generation_config.json"
    settings = {"do_sample": True, "temperature": 3.0}
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    images = [file.read_bytes() for file in EMOJI]
    found = []
    for order in ([0, 1, 2, 3, 4], [3, 2, 0, 4, 1]):
        table = pa.table({"image": [images[i] for i in order]})
        captions = actor(model=str(folder))(table)["caption"].to_pylist()
        found.append(dict(zip(order, captions, strict=True)))
    assert found[0] == found[1]
    assert len(set(found[0].values())) > 1


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from refgit.jobs.ray import caption_dataset

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(ImportError, match=r"pip install 'ray\[data\]' pyarrow"):
        caption_dataset(None)


# ---- on a cluster


@pytest.fixture(scope="module")
def ray_data() -> Iterator[Any]:
    """`ray.data`, on a head without work and two workers."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'ray[data]'")
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DATA_DISABLE_PROGRESS_BARS="1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        from ray.cluster_utils import Cluster

        memory = {"object_store_memory": 100 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **memory})
        for _ in range(2):
            cluster.add_node(num_cpus=2, resources={"place": 1}, **memory)
        ray.init(address=cluster.address, log_to_driver=False)
        import ray.data

        yield ray.data
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    return [picture(folder / f"{i:02}.png", i) for i in range(23)]


@pytest.fixture(scope="module")
def expected(
    images: list[Path], model: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """The rows of a job on one machine, one of which has an error."""
    out = tmp_path_factory.mktemp("expected") / "captions.parquet"
    names = [*map(str, images), str(images[0].with_name("99.png"))]
    options = ["--model", str(model), "--out", str(out), "--batch-size", "1"]
    assert cli.main(["caption", *names, *options]) == 1
    rows: list[dict[str, Any]] = pq.read_table(out).drop_columns(["index"]).to_pylist()
    return rows


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.parametrize("source", ["paths", "parquet"])
def test_two_workers_write_what_one_process_writes(
    source: str,
    ray_data: Any,
    model: Path,
    images: list[Path],
    expected: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    from refgit.jobs.ray import caption_dataset

    names = [row["image"] for row in expected]
    if source == "paths":
        dataset = ray_data.from_items([{"image": name} for name in names]).repartition(4)
    else:
        data = [
            {"bytes": Path(name).read_bytes() if Path(name).exists() else None, "path": name}
            for name in names
        ]
        for i in range(4):
            file = tmp_path / f"in-{i}.parquet"
            pq.write_table(pa.table({"image": pa.array(data[i::4], PAIR)}), file)
        dataset = ray_data.read_parquet([str(file) for file in sorted(tmp_path.glob("in-*"))])
    captioned = caption_dataset(dataset, model=str(model), batch_size=4, concurrency=2)
    captioned.write_parquet(str(tmp_path / "out"))
    found = pq.read_table(tmp_path / "out").to_pylist()
    assert sorted(found, key=lambda row: row["image"]) == expected
    assert [row["caption"] is None for row in expected] == [False] * 23 + [True]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_both_workers_have_a_share(
    ray_data: Any, images: list[Path], model: Path, tmp_path: Path
) -> None:
    from refgit.jobs.ray import CaptionActor, caption_dataset

    class Patient(CaptionActor):
        """Waits with its first batch until an actor on the other node has one as well.

        Otherwise one actor may do all of the work before the other has loaded its model. It is
        given a few batches at most while it waits, of twelve; the others are for its neighbour.
        """

        def __call__(self, batch: Any) -> Any:
            import time

            import ray

            node = ray.get_runtime_context().get_node_id()
            (tmp_path / node).touch()
            for _ in range(600):
                if len(list(tmp_path.iterdir())) == 2:
                    break
                time.sleep(0.1)
            found = super().__call__(batch)
            return found.append_column("node", pa.array([node] * len(found)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("refgit.jobs.ray.CaptionActor", Patient)
        dataset = ray_data.from_items([{"image": str(path)} for path in images]).repartition(12)
        # a place for one actor on each worker: spreading actors is a wish only
        options = {"batch_size": 2, "concurrency": 2, "resources": {"place": 1}}
        found = caption_dataset(dataset, model=str(model), **options).take_all()
    assert len({row["node"] for row in found}) == 2
    assert {row["image"] for row in found} == set(map(str, images))

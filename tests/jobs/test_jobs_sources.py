"""What a job is to caption: directories, lists and tables, in order, from any row on."""

from __future__ import annotations

import io
import os
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helpers.command_line import encoded, picture
from refgit.errors import JobError, MediaFileError
from refgit.jobs import sources
from refgit.jobs.sources import Item, Paths, items, parts_of
from refgit.processing.selection import Selection

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def parts(*inputs: Path | str, **options: Any) -> list[sources.Part]:
    chosen = {"recursive": False, "column": "image", "videos": False, **options}
    return parts_of(list(map(str, inputs)), **chosen)


def names(*inputs: Path | str, **options: Any) -> list[str]:
    return [item.name for item in items(parts(*inputs, **options))]


def table(path: Path, values: list[Any], kind: Any, column: str = "image", rows: int = 3) -> Path:
    pq.write_table(pa.table({"key": range(len(values)), column: pa.array(values, kind)}), path,
                   row_group_size=rows)  # fmt: skip
    return path


PAIR = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


# ---- directories and lists


def test_a_directory_stands_for_its_images_sorted_and_for_those_within_on_request(
    tmp_path: Path,
) -> None:
    for name in ("b.png", "a.JPG", "sub/c.png", "sub/deep/d.webp", "another/e.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.md").write_text("no image")
    (tmp_path / "clip.mp4").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    flat = [str(tmp_path / name) for name in ("a.JPG", "b.png")]
    assert names(tmp_path) == flat
    deep = ["another/e.png", "sub/c.png", "sub/deep/d.webp"]
    assert names(tmp_path, recursive=True) == flat + [str(tmp_path / name) for name in deep]
    assert names(tmp_path, videos=True) == [*flat, str(tmp_path / "clip.mp4")]


def test_a_list_has_a_path_on_each_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.png\r\n\n  \n two words .png\nb\xff.png\n/c.png")
    found = names(tmp_path / "list.txt")
    assert found == ["a.png", " two words .png", os.fsdecode(b"b\xff.png"), "/c.png"]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_list_is_read_in_the_encodings_of_editors(
    encoding: str, end: str, tmp_path: Path
) -> None:
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    expected = ["/photos/été 1.png", "犬.jpg", " odd\u2028\x0b#'\"[*]?.png ", "-.png"]
    text = mark + end.join([*expected[:2], "", *expected[2:]])
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    assert names(tmp_path / "list.txt") == expected


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("a.png\nb.png".encode("utf-16-le"), "has zero bytes.*begins with a byte-order mark"),
        (b"\xff\xfea.p", "begins as UTF-16 and is not: .*truncated.*Save it as UTF-8"),
        (b"\xef\xbb\xbf \r\n", "names no images"),
    ],
)
def test_a_list_that_is_no_text_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(JobError, match=words):
        parts(tmp_path / "list.txt")


def test_a_text_file_is_a_list_only_if_it_is_named_and_no_image_has_its_name(
    tmp_path: Path,
) -> None:
    for name in ("a.png", "b.jpg", "in/c.webp", "clip.mp4"):
        picture(tmp_path / name) if "mp4" not in name else (tmp_path / name).touch()
    lists = [tmp_path / name for name in ("a.txt", "b.jpg.txt", "in/c.caption", "clip.TXT")]
    own = [tmp_path / f"refgit.txt.jsonl{end}" for end in ("", ".job", ".partial")]
    for file in [*lists, *own, tmp_path / "list.txt"]:
        file.write_text("x.png")
    found = [str(tmp_path / name) for name in ("a.png", "b.jpg", "in/c.webp")]
    assert names(tmp_path, recursive=True) == found  # none of those inside a folder
    counts: Counter[str] = Counter()
    assert names(*lists, *own, tmp_path / "a.png", left_out=counts) == found[:1]
    assert counts == {".txt": 3, ".caption": 1, ".jsonl": 1, ".job": 1, ".partial": 1}
    assert names(*lists, tmp_path / "list.txt") == ["x.png"]
    for file in lists:
        with pytest.raises(JobError, match="lies beside an image of its name, so it is taken for"):
            parts(file)
    with pytest.raises(JobError, match="is what a job has written; expected images"):
        parts(own[0])


# ---- patterns


TREE = ("A.JPG", "b.png", "b_mask.png", "in/c.jpg", "in/deep/d.png", "thumbs/e.jpg", "x.dat")


@pytest.mark.parametrize(
    ("glob", "exclude", "expected"),
    [
        ([], [], TREE[:-1]),
        (["*.jpg"], [], ("A.JPG", "in/c.jpg", "thumbs/e.jpg")),
        (["*.jpg", "d.*"], [], ("A.JPG", "in/c.jpg", "in/deep/d.png", "thumbs/e.jpg")),
        (["in/*"], [], ("in/c.jpg",)),
        (["in/**"], [], ("in/c.jpg", "in/deep/d.png")),
        (["**/d.png", "/b*"], [], ("b.png", "b_mask.png", "in/deep/d.png")),
        (["[!a-b]*"], [], ("in/c.jpg", "in/deep/d.png", "thumbs/e.jpg")),
        (["*.dat", "x"], [], ("x.dat",)),
        ([], ["*_mask.*", "thumbs"], ("A.JPG", "b.png", "in/c.jpg", "in/deep/d.png")),
        ([], ["thumbs/", "in/deep", "*.JPG"], ("b.png", "b_mask.png")),
        ([], ["**/deep/**"], ("A.JPG", "b.png", "b_mask.png", "in/c.jpg", "thumbs/e.jpg")),
        (["*.png"], ["b*"], ("in/deep/d.png",)),
    ],
)
def test_patterns_choose_among_the_files_of_directories(
    glob: list[str], exclude: list[str], expected: tuple[str, ...], tmp_path: Path
) -> None:
    for name in TREE:
        picture((tmp_path / name).with_suffix(".png")).rename(tmp_path / name)
    chosen = Selection(glob=tuple(glob), exclude=tuple(exclude))
    found = names(tmp_path, recursive=True, selection=chosen)
    top = [x for x in expected if "/" not in x]
    assert found == [str(tmp_path / name) for name in [*top, *(x for x in expected if "/" in x)]]


def test_exclude_fits_files_that_are_named_or_listed_too(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("in/a.png\nb.png\nin/b.png")
    inputs = ("in/a.png", "c.png", tmp_path / "list.txt")
    assert names(*inputs, selection=Selection(exclude=("a.*", "in/b*"))) == ["c.png", "b.png"]
    assert names(*inputs, selection=Selection(exclude=("in",), glob=("*.jpg",))) == [
        "in/a.png", "c.png", "in/a.png", "b.png", "in/b.png"
    ]  # fmt: skip
    with pytest.raises(JobError, match="--exclude leaves no images"):
        parts("c.png", selection=Selection(exclude=("*.png",)))


def test_patterns_that_fit_nothing_say_so(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(JobError, match="no image files that --glob and --exclude choose;"):
        parts(tmp_path, selection=Selection(glob=("*.jpg",)))


def test_what_cannot_be_read_takes_its_place_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("")
    inputs = ("a.png", tmp_path / "empty", tmp_path / "list.txt", tmp_path / "gone.txt", "-")
    found = list(items(parts(*inputs, tolerant=True)))
    assert [item.name for item in found] == list(map(str, inputs))
    kinds = [str, MediaFileError, MediaFileError, FileNotFoundError, str]
    assert [type(item.content) for item in found] == kinds


@given(st.text("ab.*?[]!-^\\&~|", max_size=6), st.text("ab.-^![]\\", min_size=1, max_size=5))
def test_patterns_mean_for_names_what_they_mean_to_python(pattern: str, name: str) -> None:
    assume("**" not in pattern and pattern not in ("", "."))
    assert Selection(glob=(pattern,)).takes(name) == fnmatchcase(name, pattern)


# ---- the order


def test_inputs_keep_their_order_and_what_is_named_twice_comes_twice(tmp_path: Path) -> None:
    (tmp_path / "list.TXT").write_text("x.png\ny.png")
    file = table(tmp_path / "t.parquet", ["p.png", "q.png"], pa.string())
    found = list(items(parts("a.png", tmp_path / "list.TXT", file, "a.png", file)))
    assert [item.name for item in found] == [
        "a.png", "x.png", "y.png", "p.png", "q.png", "a.png", "p.png", "q.png"
    ]  # fmt: skip
    assert [item.index for item in found] == list(range(8))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.txt", b"\n \n", "names no images; expected a path on each line"),
        ("broken.parquet", b"PAR1 not really", "cannot be read as a Parquet file"),
        ("folder", None, "holds no image files.*add --recursive"),
    ],
)
def test_an_input_without_images_is_refused(
    name: str, content: bytes | None, words: str, tmp_path: Path
) -> None:
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(JobError, match=words):
        parts(tmp_path / name)


def test_a_directory_of_tables_alone_says_how_to_name_them(tmp_path: Path) -> None:
    table(tmp_path / "t.parquet", ["a.png"], pa.string())
    with pytest.raises(JobError, match=r"named one by one, as in .*\*\.parquet"):
        parts(tmp_path)


def test_standard_input_is_refused() -> None:
    with pytest.raises(JobError, match="standard input does not allow"):
        parts("a.png", "-")


@pytest.mark.parametrize("name", ["list.txt", "table.parquet"])
def test_an_input_that_is_missing_is_an_error_of_the_system(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        parts(tmp_path / name)


# ---- tables


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (pa.binary(), [b"1", b"2"], [("#0", b"1"), ("#1", b"2")]),
        (pa.large_binary(), [b"1"], [("#0", b"1")]),
        (pa.string(), ["a.png"], [("a.png", "a.png")]),
        (pa.dictionary(pa.int32(), pa.string()), ["a.png"], [("a.png", "a.png")]),
        (PAIR, [{"bytes": b"1", "path": "a.png"}], [("a.png", b"1")]),
        (PAIR, [{"bytes": b"1", "path": None}], [("#0", b"1")]),
        (PAIR, [{"bytes": None, "path": "a.png"}], [("a.png", "a.png")]),
        (pa.struct([("path", pa.string())]), [{"path": "a.png"}], [("a.png", "a.png")]),
    ],
    ids=str,
)
def test_a_column_holds_images_or_paths_or_both(
    kind: Any, values: list[Any], expected: list[tuple[str, Any]], tmp_path: Path
) -> None:
    file = table(tmp_path / "t.parquet", values, kind)
    wanted = [(f"{file}{n}" if n.startswith("#") else n, content) for n, content in expected]
    assert [(item.name, item.content) for item in items(parts(file))] == wanted


@pytest.mark.parametrize(
    ("kind", "value"), [(pa.binary(), None), (pa.binary(), b""), (pa.string(), ""),
                        (PAIR, {"bytes": None, "path": None}), (PAIR, None)]
)  # fmt: skip
def test_a_row_without_an_image_is_no_image(kind: Any, value: Any, tmp_path: Path) -> None:
    file = table(tmp_path / "t.parquet", [value], kind)
    (item,) = items(parts(file))
    assert item.name == f"{file}#0"
    assert isinstance(item.content, ValueError)
    assert str(item.content) == f"{file} has no image in row 0."


def test_another_column_is_named(tmp_path: Path) -> None:
    file = table(tmp_path / "t.parquet", ["a.png"], pa.string(), column="picture")
    assert names(file, column="picture") == ["a.png"]
    with pytest.raises(JobError, match=r"has no column 'image'; it has key, picture\. Name"):
        parts(file)
    with pytest.raises(JobError, match=r"column 'key' of .* holds int64; expected encoded images"):
        parts(file, column="key")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[sources.Part], list[Item]]:
    folder = tmp_path_factory.mktemp("mixed")
    values = [f"{i}.png" for i in range(8)]
    found = [
        Paths(["a", "b"]),
        *parts(table(folder / "t.parquet", values, pa.string(), rows=3)),
        *parts(table(folder / "empty.parquet", [], pa.string())),
        Paths(["c"]),
    ]
    return found, list(items(found))


@given(start=st.integers(0, 13))
@settings(max_examples=14)
def test_images_from_any_row_on_are_the_rest_of_all(
    start: int, mixed: tuple[list[sources.Part], list[Item]]
) -> None:
    found, everything = mixed
    assert len(everything) == sum(map(len, found)) == 11
    assert list(items(found, start)) == everything[start:]


# ---- what says which images they are


def test_other_names_or_another_order_are_other_images() -> None:
    lists = [["ab", "c"], ["a", "bc"], ["c", "ab"], ["ab"], ["ab", "c", "c"]]
    assert len({str(Paths(names).identity()) for names in lists}) == len(lists)
    assert Paths(["ab", "c"]).identity() == Paths(["ab", "c"]).identity()


def test_another_table_of_the_same_length_is_other_images(tmp_path: Path) -> None:
    first = table(tmp_path / "1.parquet", [encoded(1)], pa.binary())
    other = table(tmp_path / "2.parquet", [encoded(2)], pa.binary())
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(first.read_bytes())
    (a,), (b,), (c,) = parts(first), parts(other), parts(copy)
    assert a.identity() == c.identity() != b.identity()


def test_the_working_directory_matters_to_relative_names_alone(tmp_path: Path) -> None:
    data = table(tmp_path / "1.parquet", [encoded(1)], pa.binary())
    path = table(tmp_path / "2.parquet", ["a.png"], pa.string())
    found = [part.relative for part in (Paths(["/a"]), Paths(["/a", "b"]), *parts(data, path))]
    assert found == [False, True, False, True]


def test_reading_a_table_does_not_hold_all_of_it(tmp_path: Path) -> None:
    """Rows come in small batches, whatever the size of the groups they were written in."""
    from refgit.jobs.parquet import Table

    file = table(tmp_path / "t.parquet", [bytes(1000)] * 500, pa.binary(), rows=500)
    rows = Table(str(file), "image").contents(0)
    before = pa.total_allocated_bytes()
    assert io.BytesIO(next(rows)[1]).read() == bytes(1000)  # type: ignore[arg-type]
    assert pa.total_allocated_bytes() - before < 250_000
    rows.close()  # type: ignore[attr-defined]

"""Questions about images: told apart among a command's arguments, and read from files."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

from refgit.cli.arguments import STDIN
from refgit.processing.media import suffixes

Asked = tuple[str, str]  # an image, as it was named, and a question about it
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))  # of Windows' programs


def is_image(word: str) -> bool:
    """Whether an argument names an image, a video or a directory, by what is there or by its name.

    A word that looks like a file's name but is not there is an image, so that a slip of the keys is
    not taken for a question; one with white space is one only if it is there.
    """
    if word == STDIN or os.path.exists(word):
        return True
    return not re.search(r"\s", word) and Path(word).suffix.lower() in suffixes(videos=True)


def told_apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell the images among the arguments from the questions, which come after them.

    Raises
    ------
    ValueError
        A question stands before an image, or there is no image.
    """
    count = next((i for i, word in enumerate(words) if not is_image(word)), len(words))
    images, questions = list(words[:count]), list(words[count:])
    if questions and not images:
        raise ValueError(
            f"{questions[0]!r} stands where an image is expected, and there is no file of that "
            "name. Name the image first, then the questions, each in quotes."
        )
    for question in questions:
        refuse_image(question)
    return images, questions


def refuse_image(question: str, where: str = "") -> None:
    """Refuse an image in the place of a question.

    Parameters
    ----------
    question : str
    where : str
        What the message begins with, such as "FILE:3: ".

    Raises
    ------
    ValueError
        It is the name of a file.
    """
    if question.strip() and is_image(question):
        raise ValueError(
            f"{where}{question!r} is an image in the place of a question. Name all images first, "
            "then the questions, each in quotes."
        )


def questions_in(file: str) -> list[str] | list[Asked]:
    """Read a file of questions.

    Parameters
    ----------
    file : str
        A text with a question on each line, blank lines left out; or, if its name ends in .csv, a
        table whose first line names the columns question, and image where each question is about
        an image of its own. UTF-8, with a mark or without, or UTF-16 with one.

    Returns
    -------
    list of str, or list of (str, str)
        Questions, or images and questions.

    Raises
    ------
    ValueError
        The file cannot be read, or a line is not what it should be; the message has its number.
    """
    text = _text(file)
    if file.lower().endswith(".csv"):
        return _in_table(file, text)
    found = [(i, line.strip()) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not found:
        raise ValueError(f"{file} has no questions; expected one on each line.")
    for i, question in found:
        refuse_image(question, f"{file}:{i}: ")
    return [question for _, question in found]


def _in_table(file: str, text: str) -> list[str] | list[Asked]:
    table = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    names = table.fieldnames or []
    if "question" not in names:
        raise ValueError(
            f"{file} has the columns {', '.join(names) or '(none)'}; expected its first line to "
            "name image and question, or question alone."
        )
    found: list[tuple[int, str, str]] = []
    for row in table:
        question, image = (row["question"] or "").strip(), (row.get("image") or "").strip()
        where = f"{file}:{table.line_num}: "
        if not question or ("image" in names and not image):
            missing = "image" if question else "question"
            raise ValueError(f"{where}there is no {missing}; expected one on each line.")
        refuse_image(question, where)
        found.append((table.line_num, image, question))
    if not found:
        raise ValueError(f"{file} has no questions below its first line.")
    if "image" not in names:
        return [question for _, _, question in found]
    return [(image, question) for _, image, question in found]


def _text(file: str) -> str:
    try:
        data = Path(file).read_bytes()
        encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8-sig")
        return data.decode(encoding)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not a text in UTF-8 (byte {error.start} is "
            f"{error.object[error.start]:#x}); expected questions. Save it as UTF-8."
        ) from error

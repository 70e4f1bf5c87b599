"""An explanation that shows itself: as text, as a page, and written to a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from refgit.explain.data import ExplainError, ExplanationData
from refgit.explain.html import GENERATOR, as_page
from refgit.explain.text import as_text
from refgit.files import write_whole


@dataclass(frozen=True)
class Explanation(ExplanationData):
    """One text below one image, as the model saw both: probabilities, attention, states on the way.

    Its attributes, `attention` and `on_patches` are those of `ExplanationData`.
    """

    def to_text(self, *, width: int = 80, ascii_only: bool = False, colour: bool = False) -> str:
        """Show it in letters; see `refgit.explain.text`."""
        return as_text(self, width=width, ascii_only=ascii_only, colour=colour)

    def to_html(self, *, model_name: str = "", image_name: str = "") -> str:
        """Return it as a page for a browser that needs nothing else; see `refgit.explain.html`.

        Parameters
        ----------
        model_name, image_name : str
            For the head of the page; left out where empty.
        """
        return as_page(self, model_name=model_name, image_name=image_name)

    def save(self, path: str | Path, *, model_name: str = "", image_name: str = "") -> None:
        """Write the page; an earlier one is replaced, any other file is not.

        Parameters
        ----------
        path : str or Path
        model_name, image_name : str
            See `to_html`.

        Raises
        ------
        ExplainError
            Another file is there, or the file cannot be written.
        """
        require_free(path)
        target = Path(path).resolve()  # through a link, which stays
        text = self.to_html(model_name=model_name, image_name=image_name)
        try:
            write_whole(target, text)
        except OSError as error:
            raise ExplainError(f"{path} cannot be written: {error.strerror or error}.") from error


def require_free(path: str | Path) -> None:
    """Refuse a path at which there is anything but a page of refgit explain.

    Raises
    ------
    ExplainError
        It is a directory, a file of another kind, or in a directory that does not exist.
    """
    target = Path(path)
    try:
        if not target.exists():
            if not target.resolve().parent.is_dir():
                raise ExplainError(
                    f"{path} lies in a directory that does not exist; make it first."
                )
            return
        if not target.is_file():
            raise ExplainError(f"{path} is not a file; expected the name of one to write.")
        with target.open("rb") as file:
            start = file.read(2000)
    except OSError as error:
        raise ExplainError(f"{path} cannot be written: {error.strerror or error}.") from error
    if start and GENERATOR.encode() not in start:
        raise ExplainError(
            f"{path} is there, and is not a report of refgit explain; it is left as it is. Choose "
            "another name."
        )

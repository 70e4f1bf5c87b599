"""`refgit caption` of several images, without --out: in batches, printed in their order."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from refgit.cli.inputs import Sources, opened
from refgit.cli.output import Failures, print_json, print_texts
from refgit.cli.terminal import waiting
from refgit.errors import MediaFileError
from refgit.jobs.batching import BatchSize
from refgit.jobs.run import caption_items, row_for
from refgit.jobs.sources import Item
from refgit.pipeline import Captioner, Pixels
from refgit_backends.numpy.threads import cores


def run(arguments: argparse.Namespace, captioner: Captioner, sources: Sources) -> int:
    """Caption all of them; one that fails does not stop the others."""
    failures, begins = Failures(arguments), dict[int, str]()

    def images() -> Iterator[Item]:
        for item, before in sources:
            begins[item.index] = before
            yield item

    def read(content: Any) -> Pixels | Exception:
        try:
            return captioner.read_or_error(opened(content))
        except (MediaFileError, ImportError) as error:  # of this image alone
            return error

    batches = caption_items(
        images(),
        read,
        captioner,
        workers=arguments.workers or cores(),
        batch_size=BatchSize(arguments.batch_size, captioner.model.backend.lanes),
    )
    with waiting("captioning", "images") as bar, closing(batches):
        done = 0
        bar.advance(done, len(sources))
        for batch in batches:
            for item, found in batch:
                before, row = begins.pop(item.index), row_for(item, found)
                if isinstance(found, Exception):
                    failures.add(item.name, found, **_without(row, "error"))
                elif arguments.json:
                    print_json(**row)
                else:
                    print_texts(found, before)
            done += len(batch)
            bar.advance(done, len(sources))
    return failures.exit_code


def _without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}

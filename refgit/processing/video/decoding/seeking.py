"""Decoding only what chosen frames need: from the last entry point before each.

The frames are those that decoding everything would give. Whatever does not go as the packets
foresaw raises `IrregularError`, and the caller decodes everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.processing.video.decoding.packets import Packets


class IrregularError(Exception):
    """A file does not do what its packets said."""


@dataclass(frozen=True)
class Run:
    """Packets that are decoded in one go.

    Attributes
    ----------
    first, last : int
        Numbers of packets.
    wanted : frozenset of int
        Numbers of the packets whose frames are kept.
    """

    first: int
    last: int
    wanted: frozenset[int]


def plan(packets: Packets, wanted: Sequence[int]) -> list[Run]:
    """Decide what is decoded.

    Parameters
    ----------
    packets : Packets
        Regular ones.
    wanted : sequence of int
        Numbers of packets.

    Returns
    -------
    list of Run
        In order, one for each entry point that is needed.
    """
    entries = np.flatnonzero(packets.entry)
    runs: dict[int, list[int]] = {}
    for number in sorted(set(wanted)):
        # A picture that is shown before an entry point may refer to what lies before that.
        fit = entries[(entries <= number) & (packets.pts[entries] <= packets.pts[number])]
        runs.setdefault(int(fit[-1]) if len(fit) else 0, []).append(number)
    return [Run(first, numbers[-1], frozenset(numbers)) for first, numbers in sorted(runs.items())]


def frames_of(
    container: Any, track: Any, packets: Packets, runs: list[Run], *, linear: bool = False
) -> Iterator[Any]:
    """Decode runs of packets.

    Parameters
    ----------
    container : av.container.InputContainer
    track : av.VideoStream
    packets : Packets
    runs : list of Run
    linear : bool
        Read all packets instead of seeking: not every container can be sought in.

    Yields
    ------
    (int, av.VideoFrame)
        Number of a wanted packet, and its frame.

    Raises
    ------
    IrregularError
        Packets or frames are not those foreseen.
    """
    reader = _Reader(container, track, packets, linear)
    decoder = track.codec_context
    for run in runs:
        missing = {int(packets.pts[number]): number for number in run.wanted}
        for frame in _decoded(reader, decoder, packets, run):
            number = missing.pop(frame.pts, None)
            if number is not None:
                yield number, frame
        if missing:
            raise IrregularError
        decoder.flush_buffers()


def _decoded(reader: _Reader, decoder: Any, packets: Packets, run: Run) -> Iterator[Any]:
    reader.go_to(run.first)
    for number in range(run.first, run.last + 1):
        packet = reader.next(number)
        # Frames that no other refers to are skipped by the decoder, but for the wanted ones.
        decoder.skip_frame = "DEFAULT" if number in run.wanted else "NONREF"
        yield from decoder.decode(packet)
    yield from decoder.decode(None)


class _Reader:
    """A container's packets, by number."""

    def __init__(self, container: Any, track: Any, packets: Packets, linear: bool) -> None:
        self.container, self.track, self.linear = container, track, linear
        self.pts, self.dts = packets.pts, packets.dts
        self.order = np.argsort(packets.pts)
        self.packets: Iterator[Any] = container.demux(track)
        self.held: Any = None  # a packet that was read to see where one is

    def go_to(self, number: int) -> None:
        """Stand before a packet."""
        if not self.linear:
            self.container.seek(int(self.dts[number]), stream=self.track)
            self.packets = self.container.demux(self.track)
        for packet in self.packets:
            found = self.number_of(packet)
            if found == number:
                self.held = packet
                return
            if not self.linear and (found is None or found > number):
                break
        raise IrregularError

    def number_of(self, packet: Any) -> int | None:
        if packet.pts is None:
            return None
        at = int(np.searchsorted(self.pts, packet.pts, sorter=self.order))
        if at < len(self.pts) and self.pts[self.order[at]] == packet.pts:
            return int(self.order[at])
        return None

    def next(self, number: int) -> Any:
        packet, self.held = self.held, None
        if packet is None:
            packet = next(self.packets, None)
        if packet is None or self.number_of(packet) != number:
            raise IrregularError
        return packet

"""A film: a video file whose packets are read once, and whose frames are decoded when wanted."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refgit.processing.video.decoding.packets import Packets, scan
from refgit.processing.video.decoding.pixels import frame_to_rgb
from refgit.processing.video.decoding.seeking import IrregularError, Run, frames_of, plan
from refgit.processing.video.opening import (
    Origin,
    VideoFileError,
    import_av,
    opened,
    track_of,
)
from refgit.processing.video.timeline import Choice, Timeline, timeline_of
from refgit.processing.video.wholeness import missing_bytes

Picture = NDArray[np.uint8]


class Film:
    """A video file, of which several choices of frames can be read.

    Parameters
    ----------
    origin : Origin

    Attributes
    ----------
    timeline : Timeline
        By what the packets say; once frames were decoded that are others, by these.

    Raises
    ------
    ImportError
        PyAV is not installed.
    VideoFileError
        The file is not a video, or so much of it is missing that nothing can be read.
    """

    def __init__(self, origin: Origin) -> None:
        self.origin, self.name = origin, origin.name
        self._av = import_av(origin.name)
        with origin.stream() as file:
            self.missing = missing_bytes(file, origin.size)
        self._packets = self._scan()
        self.timeline = timeline_of(self._packets)

    def read(self, choice: Choice) -> list[Picture]:
        """Decode some frames.

        Raises
        ------
        VideoFileError
            There are not enough frames, the file is damaged, or cut short before the part chosen
            ends.
        """
        self._refuse_what_is_missing(choice)
        again = replace(choice, rng=copy.deepcopy(choice.rng))
        try:
            numbers = choice.numbers(self.timeline, self.name)
        except VideoFileError:
            if self._packets.regular:
                raise
            numbers = []  # there may be more frames than packets
        if self._packets.regular:
            for linear in (False, True):
                try:
                    return self._sought(numbers, linear=linear)
                except IrregularError:
                    continue
        found, seconds = self._decoded(set(numbers), to_the_end=choice.counts or not numbers)
        if seconds is not None and (not numbers or len(seconds) != len(self.timeline.seconds)):
            self.timeline = Timeline(seconds, max(self.timeline.duration, seconds[-1:].sum()))
            numbers = again.numbers(self.timeline, self.name)
            found, _ = self._decoded(set(numbers), to_the_end=False)
        return [found[number] for number in numbers]

    # ---- what the packets say

    def _scan(self) -> Packets:
        try:
            with opened(self.origin) as container:
                track = track_of(container, self.name)
                self._declared = _declared(container, track)
                packets = scan(self._av, container, track)
        except VideoFileError as error:
            if not self.missing:
                raise
            raise VideoFileError(
                f"{self.name} is cut short: {self._bytes_there()}, and without the rest nothing "
                "can be read. Copy it again."
            ) from error
        return self._with_clean_start(packets) if packets.regular else packets

    def _with_clean_start(self, packets: Packets) -> Packets:
        """Leave out what a recording begins with and no decoder shows: what refers to before."""
        entries = np.flatnonzero(packets.entry)
        upto = int(packets.pts[entries[0]]) if len(entries) else 2**62
        if packets.entry[:1].all() and (packets.pts[packets.shown] >= upto).all():
            return packets
        seen = set()
        with opened(self.origin) as container:
            for frame in container.decode(track_of(container, self.name)):
                if frame.pts is not None and frame.pts >= upto:
                    break
                seen.add(frame.pts)
        there = (packets.pts >= upto) | np.isin(packets.pts, [pts for pts in seen if pts])
        return replace(packets, shown=packets.shown & there)

    # ---- what cannot be read

    def _refuse_what_is_missing(self, choice: Choice) -> None:
        packets, declared = self._packets, self._declared
        if not packets.failure and (not self.missing or declared.are_all_in(packets)):
            return
        readable = self._readable()
        if choice.end is not None and choice.end <= readable:
            return
        of = f" of {declared.seconds:.2f} s" if declared.seconds > readable else ""
        count = int(np.searchsorted(self.timeline.seconds, readable - 1e-6))
        to = int(readable * 100) / 100
        rest = f", or read what is there with --end {to:g} (end={to:g} in Python)" if to else ""
        raise VideoFileError(
            f"{self.name} is cut short: {self._bytes_there()}, and it can be read up to "
            f"{readable:.2f} s{of} ({count} frames). Copy it again{rest}."
        )

    def _bytes_there(self) -> str:
        size = self.origin.size
        return (
            f"{size} of at least {size + self.missing} bytes are there"
            if self.missing
            else (f"reading ends within its {size} bytes ({self._packets.failure})")
        )

    def _readable(self) -> float:
        """Seconds up to which no frame is missing."""
        packets = self._packets
        if not len(packets.dts) or not len(self.timeline.seconds):
            return 0.0
        origin = int(packets.times()[0])
        said = float((int(packets.dts[-1]) - origin) * packets.time_base)
        return min(max(said, 0.0), self.timeline.duration)

    # ---- decoding

    def _rgb(self, frame: Any, track: Any) -> Picture:
        return frame_to_rgb(self._av, frame, track.sample_aspect_ratio)

    def _sought(self, numbers: list[int], *, linear: bool) -> list[Picture]:
        packets = self._packets
        order = np.flatnonzero(packets.shown)
        order = order[np.argsort(packets.pts[order])]  # packet numbers, as they are shown
        wanted = {number: int(order[number]) for number in numbers}
        runs = plan(packets, list(wanted.values()))
        # Two halves in a thread each take less time than two threads that share every frame.
        halves = [runs] if linear else [part for part in _halves(runs) if part]
        with ThreadPoolExecutor(2, "refgit-film") as pool:
            work = partial(self._run, threads="AUTO" if len(halves) == 1 else "NONE", linear=linear)
            found = {
                number: picture
                for part in pool.map(work, halves)
                for number, picture in part.items()
            }
        return [found[wanted[number]] for number in numbers]

    def _run(self, runs: list[Run], *, threads: str, linear: bool) -> dict[int, Picture]:
        """Decode runs of packets: {number of a wanted packet: its picture}."""
        with opened(self.origin) as container:
            track = track_of(container, self.name)
            track.thread_type = threads
            frames = frames_of(container, track, self._packets, runs, linear=linear)
            return {number: self._rgb(frame, track) for number, frame in frames}

    def _decoded(
        self, wanted: set[int], *, to_the_end: bool
    ) -> tuple[dict[int, Picture], NDArray[np.float64] | None]:
        """Decode everything, or until nothing is wanted any more; and say when frames are shown."""
        found: dict[int, Picture] = {}
        times: list[float] = []
        for frame, track in self._all():
            if len(times) in wanted:
                found[len(times)] = self._rgb(frame, track)
            times.append(float("nan") if frame.time is None else frame.time)
            if len(found) == len(wanted) and not to_the_end:
                return found, None
        return found, _ascending(times, self.timeline.duration)

    def _all(self, threads: str = "AUTO") -> Iterator[tuple[Any, Any]]:
        try:
            with opened(self.origin) as container:
                track = track_of(container, self.name)
                track.thread_type = threads
                yield from ((frame, track) for frame in container.decode(track))
        except VideoFileError as error:
            if threads == "NONE":
                raise
            count = 0  # with threads an error comes out late, so that frames are counted without
            try:
                for _ in self._all("NONE"):
                    count += 1
            except VideoFileError:
                pass
            raise VideoFileError(f"{error} Of its frames the first {count} can be read.") from error


def _halves(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    """Divide runs, each of which begins anew, where half of the packets are behind."""
    sizes = np.cumsum([run.last + 1 - run.first for run in runs])
    at = int(np.searchsorted(sizes, sizes[-1] / 2)) + 1 if len(runs) > 1 else len(runs)
    return runs[:at], runs[at:]


@dataclass(frozen=True)
class _Declared:
    """What a file's header says of its length: frames and seconds, 0 where it says nothing."""

    frames: int
    seconds: float

    def are_all_in(self, packets: Packets) -> bool:
        """Whether all that the header says is there."""
        if self.frames:
            return len(packets.pts) >= self.frames
        return 0 < self.seconds <= timeline_of(packets).duration + 0.05


def _declared(container: Any, track: Any) -> _Declared:
    kind, rate = container.format.name.split(",")[0], track.average_rate
    if kind in ("mov", "avi"):
        fits = track.duration and track.time_base and kind == "mov"
        seconds = track.duration * track.time_base if fits else track.frames / (rate or 1)
        return _Declared(track.frames, float(seconds))
    if kind in ("matroska", "flv", "asf"):
        return _Declared(0, (container.duration or 0) / 1e6)
    return _Declared(0, 0.0)  # FFmpeg's libraries guess from what is there


def _ascending(times: list[float], duration: float) -> NDArray[np.float64]:
    """Return times as a timeline has them; evenly spread where the file says none."""
    seconds = np.array(times, np.float64)
    if np.isnan(seconds).any():
        seconds = np.arange(len(times), dtype=np.float64) * (duration / max(len(times), 1))
    return np.array(np.maximum.accumulate(seconds - seconds[:1]), np.float64)

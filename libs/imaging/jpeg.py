"""The structure of a JPEG file (ITU-T T.81, Annex B) and its facts."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from libs.imaging import icc, quantisation
from libs.imaging.exif import HEAD, orientation
from libs.imaging.limits import MAX_SCANNED_PIXELS, MAX_SCANS, MAX_SEGMENTS, check_size
from libs.imaging.reasons import ImageError

SOI, EOI, SOS, DQT, COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xFE
APP0, APP1, APP2, APP14, APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # not DHT, JPG, DAC
_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})
_ARITHMETIC = frozenset({0xC9, 0xCA})
_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})
_HIERARCHICAL = frozenset({0xDE, 0xDF})
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})
_RESERVED = frozenset({*range(0x02, 0xC0), 0xC8, *range(0xF0, 0xFE)})

# In entropy-coded data FF is followed by 00, or it is a restart marker; anything else ends the data.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


@dataclass(frozen=True, slots=True)
class Segment:
    """One marker segment; after the header of a scan comes its entropy-coded data, in `scan`."""

    marker: int
    payload: bytes
    scan: bytes | memoryview = b""

    def head(self) -> bytes:
        """The segment as it stands in a file, up to its entropy-coded data."""
        return b"\xff%c%b%b" % (self.marker, (len(self.payload) + 2).to_bytes(2, "big"), self.payload)


@dataclass(frozen=True, slots=True)
class Jpeg:
    """What a JPEG says of itself, and its segments from the beginning to the end of its (first) image."""

    width: int
    height: int
    process: int
    components: int
    table_sums: tuple[int, ...]
    orientation: int
    profile: bytes | None
    exif: bytes
    segments: tuple[Segment, ...]

    @property
    def is_sequential(self) -> bool:
        """Whether each scan has all coefficients of its components; else it is progressive."""
        return self.process in _SEQUENTIAL

    @property
    def is_portable(self) -> bool:
        """Whether every viewer shows it as it is: upright, gray or of three colours, without arithmetic coding."""
        return self.components in {1, 3} and self.process in _HUFFMAN and self.orientation == 1

    def is_quality_at_most(self, quality: int) -> bool:
        """Whether its quantisation tables are at least as coarse as libjpeg's at `quality`."""
        return quantisation.at_most(quality, self.table_sums)


def parse(data: bytes, max_pixels: int) -> Jpeg:
    """Walks over `data` without decoding it.

    Bytes that belong to no segment are passed over, as libjpeg does; what follows the end of the image is ignored.

    Raises:
        ImageError: `too_many_pixels` and `too_complex` by the header and the number of scans; `unsupported_format`;
            `truncated` where the end is missing; `corrupt` where libjpeg would give up too.
    """
    frame: Segment | None = None
    scans = 0
    segments: list[Segment] = []
    for segment in _walk(data):
        segments.append(segment)
        if segment.marker in _FRAMES:
            if frame is not None:
                raise ImageError("corrupt", "two frame headers")
            _check_frame(segment, max_pixels)
            frame = segment
        elif segment.marker == SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise ImageError("too_complex", f"more than {MAX_SCANS} scans")
            if frame is not None and scans * math.prod(_size(frame.payload)) > MAX_SCANNED_PIXELS:
                raise ImageError("too_complex", f"{scans} scans are too many for a picture of its size")
    if frame is None or not scans:
        raise ImageError("corrupt", "there is no picture between the beginning and the end")
    return _facts(frame, tuple(segments))


def _walk(data: bytes) -> Iterator[Segment]:
    position = 2
    for _ in range(MAX_SEGMENTS):
        marker, position = _next_marker(data, position)
        if marker == EOI:
            return
        if marker in _WITHOUT_LENGTH:
            continue
        if marker in _RESERVED or marker == SOI:
            raise ImageError("corrupt", f"marker {marker:02X} cannot stand here")
        end = position + int.from_bytes(data[position : position + 2], "big")
        if position + 2 > len(data) or end > len(data):
            raise ImageError("truncated", f"ends within segment {marker:02X}")
        if end < position + 2:
            raise ImageError("corrupt", f"segment {marker:02X} has no length")
        scan_end = _scan_end(data, end) if marker == SOS else end
        yield Segment(marker, data[position + 2 : end], memoryview(data)[end:scan_end])
        if scan_end == len(data):
            raise ImageError("truncated", "ends within the compressed data")
        position = scan_end
    raise ImageError("too_complex", f"more than {MAX_SEGMENTS} segments")


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    start = data.find(b"\xff", position)
    while 0 <= start < len(data) - 1 and data[start + 1] == 0xFF:
        start += 1
    if start < 0 or start + 1 >= len(data):
        raise ImageError("truncated", "the end of the image is missing")
    return data[start + 1], start + 2


def _scan_end(data: bytes, position: int) -> int:
    found = _END_OF_SCAN.search(data, position)
    return found.start() if found else len(data)


def _check_frame(segment: Segment, max_pixels: int) -> None:
    payload = segment.payload
    if len(payload) < 6 or len(payload) < 6 + 3 * payload[5]:
        raise ImageError("corrupt", "the frame header is too short")
    check_size(*_size(payload), max_pixels)
    if segment.marker not in _HUFFMAN | _ARITHMETIC:
        raise ImageError("unsupported_format", f"JPEG process {segment.marker - 0xC0} is not supported")
    if payload[0] != 8:
        raise ImageError("unsupported_format", f"JPEG with {payload[0]} bits is not supported")
    if payload[5] not in {1, 3, 4}:
        raise ImageError("unsupported_format", f"JPEG with {payload[5]} components is not supported")


def _size(frame: bytes) -> tuple[int, int]:
    return int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")


def _facts(frame: Segment, segments: tuple[Segment, ...]) -> Jpeg:
    if any(segment.marker in _HIERARCHICAL for segment in segments):
        raise ImageError("unsupported_format", "hierarchical JPEG is not supported")
    components = frame.payload[5]
    sums = _table_sums(segments)
    width, height = _size(frame.payload)
    space = {1: icc.GRAY, 3: icc.RGB, 4: icc.CMYK}[components]
    exif = next((s.payload for s in segments if s.marker == APP1 and s.payload.startswith(HEAD)), b"")
    return Jpeg(
        width=width,
        height=height,
        process=frame.marker,
        components=components,
        table_sums=tuple(sums.get(frame.payload[8 + 3 * index], 0) for index in range(components)),
        orientation=orientation(exif),
        profile=icc.usable(icc.assemble([s.payload for s in segments if _is_profile(s)]), space),
        exif=exif,
        segments=segments,
    )


def _table_sums(segments: tuple[Segment, ...]) -> dict[int, int]:
    """The sum of each quantisation table; the finest where one is defined again between scans."""
    sums: dict[int, int] = {}
    for segment in segments:
        payload = segment.payload if segment.marker == DQT else b""
        while payload:
            width = 2 if payload[0] >> 4 else 1
            steps = payload[1 : 1 + 64 * width]
            total = sum(steps) if width == 1 else 256 * sum(steps[::2]) + sum(steps[1::2])
            sums[payload[0] & 15] = min(total, sums.get(payload[0] & 15, total))
            payload = payload[1 + 64 * width :]
    return sums


def _is_profile(segment: Segment) -> bool:
    return segment.marker == APP2 and segment.payload.startswith(b"ICC_PROFILE\0") and len(segment.payload) > 14

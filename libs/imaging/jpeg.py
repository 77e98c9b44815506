"""The structure of a JPEG file (ITU-T T.81, Annex B) and its facts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from libs.imaging import icc, quantisation
from libs.imaging.exif import HEAD, orientation
from libs.imaging.limits import MAX_SCANNED_PIXELS, MAX_SCANS, MAX_SEGMENTS, check_size
from libs.imaging.reasons import ImageError

SOI, EOI, SOS, DQT, COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xFE
APP0, APP1, APP2, APP14, APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
ADOBE_BYTES = 12  # Adobe Technical Note 5116: name, version, two words of flags, colour transform
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # not DHT, JPG, DAC
_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})
_ARITHMETIC = frozenset({0xC9, 0xCA})
_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})
_HIERARCHICAL = frozenset({0xDE, 0xDF})
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})
_MISPLACED = frozenset({*range(0x02, 0xC0), 0xC8, *range(0xF0, 0xFE), SOI})
_SPACES = {1: icc.GRAY, 3: icc.RGB, 4: icc.CMYK}
_PROFILE = b"ICC_PROFILE\0"

# What belongs to no segment is passed over, and a marker may begin with any number of FF (T.81, B.1.1.2). Nothing is
# tried twice, or a file of nothing but FF would take the square of its length.
_MARKER = re.compile(rb"[^\xff]*+\xff++(.)", re.DOTALL)

# In entropy-coded data FF is followed by 00, or it is a restart marker; anything else ends the data (T.81, B.1.1.5).
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


class Segment(NamedTuple):
    """One marker segment; after the header of a scan comes its entropy-coded data, in `scan`.

    A tuple, since every file has ten of them, and beside the codec of a small one the making of dataclasses shows.
    """

    marker: int
    payload: bytes
    scan: bytes | memoryview = b""

    def head(self) -> bytes:
        """The segment as it stands in a file, up to its entropy-coded data."""
        return b"\xff%c%b%b" % (self.marker, (len(self.payload) + 2).to_bytes(2, "big"), self.payload)


@dataclass(frozen=True, slots=True)
class Jpeg:
    """What a JPEG says of itself, and its segments from the beginning to the end of its (first) image.

    `adobe` is the segment that says how colours are coded: libjpeg goes by the last one before the first scan. `data`
    is the file that it was read from.
    """

    data: bytes
    width: int
    height: int
    process: int
    components: int
    table_sums: tuple[int, ...]
    orientation: int
    profile: bytes | None
    exif: bytes
    adobe: Segment | None
    segments: tuple[Segment, ...]

    @property
    def is_seamless(self) -> bool:
        """Whether the file is its segments and nothing else: no bytes between them, and none behind its end."""
        return 4 + sum([4 + len(payload) + len(scan) for _, payload, scan in self.segments]) == len(self.data)

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
    pixels = scans = 0
    segments: list[Segment] = []
    for segment in _walk(data):
        segments.append(segment)
        if segment.marker == SOS:
            if not segment.payload:
                raise ImageError("corrupt", "a scan without a header")
            scans += 1
            if scans > MAX_SCANS:
                raise ImageError("too_complex", f"more than {MAX_SCANS} scans")
            if scans * pixels > MAX_SCANNED_PIXELS:
                raise ImageError("too_complex", f"{scans} scans are too many for a picture of its size")
        elif segment.marker in _FRAMES:
            if frame is not None:
                raise ImageError("corrupt", "two frame headers")
            pixels = _checked_area(segment, max_pixels)
            frame = segment
        elif segment.marker in _HIERARCHICAL:
            raise ImageError("unsupported_format", "hierarchical JPEG is not supported")
    if frame is None or not scans:
        raise ImageError("corrupt", "there is no picture between the beginning and the end")
    return _facts(data, frame, segments)


def _walk(data: bytes) -> Iterator[Segment]:
    view, position = memoryview(data), 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.match(data, position)
        if found is None:
            raise ImageError("truncated", "the end of the image is missing")
        start = found.end()
        marker = data[start - 1]
        if marker == EOI:
            return
        if marker in _WITHOUT_LENGTH:
            position = start
            continue
        if marker in _MISPLACED:
            raise ImageError("corrupt", f"marker {marker:02X} cannot stand here")
        end = start + int.from_bytes(data[start : start + 2], "big")
        if end > len(data) or start + 2 > len(data):
            raise ImageError("truncated", f"ends within segment {marker:02X}")
        if end < start + 2:
            raise ImageError("corrupt", f"segment {marker:02X} has no length")
        if marker == SOS:
            position = _scan_end(data, end)
            yield Segment(marker, data[start + 2 : end], view[end:position])
            if position == len(data):
                raise ImageError("truncated", "ends within the compressed data")
        else:
            position = end
            yield Segment(marker, data[start + 2 : end])
    raise ImageError("too_complex", f"more than {MAX_SEGMENTS} segments")


def _scan_end(data: bytes, position: int) -> int:
    """Where entropy-coded data that begin at `position` end: at a marker, or with the file."""
    found = _END_OF_SCAN.search(data, position)
    return found.start() if found else len(data)


def _checked_area(segment: Segment, max_pixels: int) -> int:
    """Width times height of a frame that can be decoded."""
    payload = segment.payload
    if len(payload) < 6 or len(payload) < 6 + 3 * payload[5]:
        raise ImageError("corrupt", "the frame header is too short")
    width, height = _size(payload)
    check_size(width, height, max_pixels)
    if segment.marker not in _HUFFMAN | _ARITHMETIC:
        raise ImageError("unsupported_format", f"JPEG process {segment.marker - 0xC0} is not supported")
    if payload[0] != 8:
        raise ImageError("unsupported_format", f"JPEG with {payload[0]} bits is not supported")
    if payload[5] not in _SPACES:
        raise ImageError("unsupported_format", f"JPEG with {payload[5]} components is not supported")
    return width * height


def _size(frame: bytes) -> tuple[int, int]:
    return int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")


def _facts(data: bytes, frame: Segment, segments: list[Segment]) -> Jpeg:
    components = frame.payload[5]
    width, height = _size(frame.payload)
    sums: dict[int, int] = {}
    exif, adobe, is_header = b"", None, True
    profile: list[bytes] = []
    for segment in segments:
        marker, payload, _ = segment
        if marker == DQT:
            _add_table_sums(payload, sums)
        elif marker == SOS:
            is_header = False
        elif marker == APP1:
            exif = exif or (payload if payload.startswith(HEAD) else b"")
        elif marker == APP2 and payload.startswith(_PROFILE) and len(payload) > 14:
            profile.append(payload)
        elif marker == APP14 and is_header and payload.startswith(b"Adobe") and len(payload) >= ADOBE_BYTES:
            adobe = segment
    return Jpeg(
        data=data,
        width=width,
        height=height,
        process=frame.marker,
        components=components,
        table_sums=tuple([sums.get(table, 0) for table in frame.payload[8 : 8 + 3 * components : 3]]),
        orientation=orientation(exif) if exif else 1,
        profile=icc.usable(icc.assemble(profile), _SPACES[components]) if profile else None,
        exif=exif,
        adobe=adobe,
        segments=tuple(segments),
    )


def _add_table_sums(payload: bytes, sums: dict[int, int]) -> None:
    """Adds the sum of each quantisation table; the finest counts where one is defined again between scans."""
    while payload:
        width = 2 if payload[0] >> 4 else 1
        steps = payload[1 : 1 + 64 * width]
        total = sum(steps) if width == 1 else 256 * sum(steps[::2]) + sum(steps[1::2])
        sums[payload[0] & 15] = min(total, sums.get(payload[0] & 15, total))
        payload = payload[1 + 64 * width :]

"""The structure of a JPEG file (ITU-T T.81, Annex B): its facts, and the file without its metadata."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, takewhile

from libs.imaging import icc, quantisation
from libs.imaging.exif import orientation
from libs.imaging.limits import MAX_SCANS, MAX_SEGMENTS, check_size
from libs.imaging.reasons import ImageError

_SOI, _EOI, _SOS, _DQT, _COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xFE
_APP0, _APP1, _APP2, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # not DHT, JPG, DAC
_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})
_ARITHMETIC = frozenset({0xC9, 0xCA})
_HIERARCHICAL = frozenset({0xDE, 0xDF})
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})
_RESERVED = frozenset({*range(0x02, 0xC0), 0xC8, *range(0xF0, 0xFE)})

_ADOBE_LENGTH = 12  # Adobe Technical Note 5116: name, version, two words of flags, colour transform

# In entropy-coded data FF is followed by 00, or it is a restart marker; anything else ends the data.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


@dataclass(frozen=True, slots=True)
class Segment:
    """One marker segment; after the header of a scan comes its entropy-coded data, in `scan`."""

    marker: int
    payload: bytes
    scan: bytes = b""

    def encoded(self) -> bytes:
        """The segment as it stands in a file."""
        return b"".join(
            (bytes((0xFF, self.marker)), (len(self.payload) + 2).to_bytes(2, "big"), self.payload, self.scan)
        )


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
    segments: tuple[Segment, ...]

    @property
    def is_portable(self) -> bool:
        """Whether every viewer shows it as it is: upright, gray or of three colours, without arithmetic coding."""
        return self.components in {1, 3} and self.process in _HUFFMAN and self.orientation == 1

    def is_quality_at_most(self, quality: int) -> bool:
        """Whether its quantisation tables are at least as coarse as libjpeg's at `quality`."""
        return quantisation.at_most(quality, self.table_sums)

    def without_metadata(self) -> bytes:
        """The same picture without comments, EXIF, XMP, IPTC, thumbnails and trailer; a usable ICC profile stays."""
        parts = [bytes((0xFF, _SOI))]
        jfif_seen = False
        adobe = self._adobe()
        for segment in self.segments:
            if segment.marker == _APP0:
                # What the JFIF header says decides how colours are read; behind its 14 bytes may lie a thumbnail.
                if not jfif_seen and _is_jfif(segment):
                    parts.append(Segment(_APP0, segment.payload[:12] + b"\0\0").encoded())
                    jfif_seen = True
            elif segment is adobe:
                parts.append(Segment(_APP14, segment.payload[:_ADOBE_LENGTH]).encoded())
            elif self._belongs_to_picture(segment):
                parts.append(segment.encoded())
        parts.append(bytes((0xFF, _EOI)))
        return b"".join(parts)

    def _adobe(self) -> Segment | None:
        """The marker that says how colours are coded: libjpeg goes by the last one before the first scan."""
        header = takewhile(lambda segment: segment.marker != _SOS, self.segments)
        return next((segment for segment in reversed(list(header)) if _is_adobe(segment)), None)

    def _belongs_to_picture(self, segment: Segment) -> bool:
        if segment.marker == _APP2:
            return self.profile is not None and _is_profile(segment)
        return segment.marker != _COM and not _APP0 <= segment.marker <= _APP15


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
        elif segment.marker == _SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise ImageError("too_complex", f"more than {MAX_SCANS} scans")
    if frame is None or not scans:
        raise ImageError("corrupt", "there is no picture between the beginning and the end")
    return _facts(frame, tuple(segments))


def _walk(data: bytes) -> Iterator[Segment]:
    position = 2
    for _ in range(MAX_SEGMENTS):
        marker, position = _next_marker(data, position)
        if marker == _EOI:
            return
        if marker in _WITHOUT_LENGTH:
            continue
        if marker in _RESERVED or marker == _SOI:
            raise ImageError("corrupt", f"marker {marker:02X} cannot stand here")
        end = position + int.from_bytes(data[position : position + 2], "big")
        if position + 2 > len(data) or end > len(data):
            raise ImageError("truncated", f"ends within segment {marker:02X}")
        if end < position + 2:
            raise ImageError("corrupt", f"segment {marker:02X} has no length")
        scan_end = _scan_end(data, end) if marker == _SOS else end
        yield Segment(marker, data[position + 2 : end], data[end:scan_end])
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
    exif = next((s.payload for s in segments if s.marker == _APP1 and s.payload.startswith(b"Exif\0\0")), b"")
    return Jpeg(
        width=width,
        height=height,
        process=frame.marker,
        components=components,
        table_sums=tuple(sums.get(frame.payload[8 + 3 * index], 0) for index in range(components)),
        orientation=orientation(exif),
        profile=icc.usable(icc.assemble([s.payload for s in segments if _is_profile(s)]), space),
        segments=segments,
    )


def _table_sums(segments: tuple[Segment, ...]) -> dict[int, int]:
    """The sum of each quantisation table; the finest where one is defined again between scans."""
    sums: dict[int, int] = {}
    for segment in segments:
        payload = segment.payload if segment.marker == _DQT else b""
        while payload:
            width = 2 if payload[0] >> 4 else 1
            steps = payload[1 : 1 + 64 * width]
            total = sum(int.from_bytes(steps[a:b], "big") for a, b in pairwise(range(0, 64 * width + 1, width)))
            sums[payload[0] & 15] = min(total, sums.get(payload[0] & 15, total))
            payload = payload[1 + 64 * width :]
    return sums


def _is_jfif(segment: Segment) -> bool:
    return segment.payload.startswith(b"JFIF\0") and len(segment.payload) >= 14


def _is_adobe(segment: Segment) -> bool:
    return segment.marker == _APP14 and segment.payload.startswith(b"Adobe") and len(segment.payload) >= _ADOBE_LENGTH


def _is_profile(segment: Segment) -> bool:
    return segment.marker == _APP2 and segment.payload.startswith(b"ICC_PROFILE\0") and len(segment.payload) > 14

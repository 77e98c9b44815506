"""Reads the multipart form of an upload part by part, in whatever order the parts come, within limits and deadlines."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn, ParamSpec, TypeVar

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import ValidationError

from services.ingest.models import UploadFields, UploadForm
from services.ingest.problems import ProblemError
from services.ingest.reading import ReadCatalogue, Reading
from services.ingest.settings import IngestSettings
from services.ingest.urls import LONGEST_URL

_CHUNK = 256 * 1024
_FRAMING = 64 * 1024
"""What the boundaries, headers and other fields may take beside the file."""
_LONGEST_FILENAME = 255
# What aiohttp's reader raises for a form that is malformed or ends before its last boundary; it warns of bad headers.
_MALFORMED = (ValueError, RuntimeError, RuntimeWarning, AssertionError, HttpProcessingError, web.HTTPException)
_PLAIN = {"", "7bit", "8bit", "binary", "identity"}

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class ReceivedForm:
    """The form; its file is read."""

    catalogue: ReadCatalogue
    filename: str
    fields: UploadFields


class FormReader:
    """Reads one upload's body, and its file through `reading`."""

    def __init__(self, request: web.Request, settings: IngestSettings, reading: Reading) -> None:
        self._request = request
        self._settings = settings
        self._reading = reading
        self._texts: dict[str, str] = {}
        self._catalogue: ReadCatalogue | None = None
        self._filename = ""

    async def read(self) -> ReceivedForm:
        """The form, complete and with its file checked.

        Raises:
            ProblemError: 400 cut or malformed, 408 too slow, 413 too large, 415 no form, 422 wrong fields.
            InvalidCatalogueError: the file is no valid catalogue.
            TooManyImagesError: it lists too many images.
        """
        check_length(self._request, self._settings)
        try:
            async with asyncio.timeout(self._settings.upload_seconds):
                return await self._read_parts()
        except TimeoutError as error:
            raise ProblemError(
                408, "upload_timeout", f"the body took longer than {self._settings.upload_seconds:g} s", closes=True
            ) from error

    async def _read_parts(self) -> ReceivedForm:
        reader = await self._patiently(self._request.multipart)
        while (part := await self._patiently(reader.next)) is not None:
            await self._read_part(part)
        await self._drain()
        if self._catalogue is None:
            raise ProblemError(422, "missing_field", "the form has no field “file” with the CSV")
        return ReceivedForm(self._catalogue, self._filename, self._checked_fields())

    async def _read_part(self, part: BodyPartReader | MultipartReader) -> None:
        name = part.name if isinstance(part, BodyPartReader) else None
        if not isinstance(part, BodyPartReader) or name not in UploadForm.model_fields:
            shown, known = (name or "")[:100], ", ".join(UploadForm.model_fields)
            _refuse("unknown_field", f"the form may have the fields {known}, not “{shown}”")
        if name in self._texts or (name == "file" and self._catalogue is not None):
            _refuse("duplicate_field", f"the field “{name}” stands twice in the form")
        encodings = (part.headers.get("Content-Transfer-Encoding", ""), part.headers.get("Content-Encoding", ""))
        if not _PLAIN.issuperset(encoding.strip().lower() for encoding in encodings):
            _refuse("encoded_field", f"the field “{name}” must be sent without a content encoding")
        if name == "file":
            self._checked_fields()  # what is wrong before the file is told before it is sent
            await self._read_file(part)
        else:
            self._texts[name] = await self._read_text(name, part)

    def _checked_fields(self) -> UploadFields:
        # A form in a browser sends an empty field for none.
        given = {name: text for name, text in self._texts.items() if text}
        try:
            return UploadFields.model_validate(given)
        except ValidationError as error:
            raise ProblemError.of_validation(error, closes=True) from error

    async def _read_file(self, part: BodyPartReader) -> None:
        size = 0
        while not part.at_eof():
            chunk = await self._patiently(part.read_chunk, _CHUNK)
            size += len(chunk)
            if size > self._settings.max_upload_bytes:
                raise too_large(self._settings)
            await self._reading.feed(chunk)
        self._catalogue = await self._reading.finish()
        # Bytes of a name that are not UTF-8 arrive as lone surrogates, which cannot be stored.
        self._filename = (part.filename or "").encode(errors="replace").decode()[:_LONGEST_FILENAME]

    async def _read_text(self, name: str, part: BodyPartReader) -> str:
        text = bytearray()
        while not part.at_eof():
            text += await self._patiently(part.read_chunk)
            if len(text) > 4 * LONGEST_URL:  # the most bytes that so many characters take
                _refuse("invalid_parameters", f"{name}: longer than {LONGEST_URL:,} characters")
        try:
            return text.decode()
        except UnicodeDecodeError:
            _refuse("invalid_parameters", f"{name}: not valid UTF-8")

    async def _drain(self) -> None:
        """Reads the epilogue, so that the connection can be used again."""
        while await self._patiently(self._request.content.readany):
            pass

    async def _patiently(self, read: Callable[P, Awaitable[ResultT]], *args: P.args, **kwargs: P.kwargs) -> ResultT:
        """What `read` gives, if it gives it before the client counts as stalled."""
        if self._request.content.total_bytes > self._settings.max_upload_bytes + _FRAMING:
            raise too_large(self._settings)
        stalled = asyncio.timeout(self._settings.upload_stall_seconds)
        try:
            async with stalled:
                return await read(*args, **kwargs)
        except TimeoutError as error:
            if not stalled.expired():
                raise
            detail = f"no byte arrived for {self._settings.upload_stall_seconds:g} s"
            raise ProblemError(408, "upload_stalled", detail, closes=True) from error
        except (ConnectionError, web.RequestPayloadError) as error:
            raise ProblemError(400, "upload_cut", "the body ended in the middle", closes=True) from error
        except _MALFORMED as error:
            detail = "the body is no complete multipart form"
            raise ProblemError(400, "invalid_multipart", detail, closes=True) from error


def check_length(request: web.Request, settings: IngestSettings) -> None:
    """Refuses a body by its announced type and length, before any of it is read."""
    if request.content_type != "multipart/form-data":
        raise ProblemError(
            415, "unsupported_media_type", "an upload is sent as multipart/form-data with the field “file”", closes=True
        )
    if (request.content_length or 0) > settings.max_upload_bytes + _FRAMING:
        raise too_large(settings)


def too_large(settings: IngestSettings) -> ProblemError:
    """The refusal of a file that is larger than the service takes."""
    return ProblemError(
        413,
        "upload_too_large",
        f"the file is larger than {settings.max_upload_bytes:,} bytes (DARKROOM_MAX_UPLOAD_BYTES)",
        closes=True,
    )


def _refuse(code: str, detail: str) -> NoReturn:
    raise ProblemError(422, code, detail, closes=True)

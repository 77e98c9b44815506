"""The lanes on which a JPEG is decoded: strictly, strictly again without padding, and by Pillow.

A JPEG comes here cleaned, with odd markers mended, so that a strict decoder has nothing to object to but damage to the
compressed data; that is final. What else it does not take is left to Pillow, which takes nearly anything.
"""

from PIL import Image

from libs.imaging import exif, geometry, jpeg, turbo
from libs.imaging.cleaning import cleaned
from libs.imaging.decode import Decoded, failures_as_reasons, finished, opened
from libs.imaging.encoding import Form
from libs.imaging.limits import check_output
from libs.imaging.options import Options
from libs.imaging.picture import Picture, as_image, as_inks
from libs.imaging.placing import upright_samples
from libs.imaging.reasons import ImageError
from libs.imaging.sniff import SourceFormat
from libs.imaging.turbo import LeftOverError, Manner, Samples, UnusualError


def decode_jpeg(structure: jpeg.Jpeg, form: Form, options: Options) -> Decoded:
    """The picture of a JPEG.

    Raises:
        ImageError: `too_many_pixels` for the output, `corrupt`, `too_complex`.
    """
    stored = (structure.width, structure.height)
    turned = structure.orientation
    size = geometry.fitted(geometry.turned(stored, turned), options)
    check_output(*size, form)
    kept = exif.kept(structure.exif, options.metadata)
    before_turning = geometry.turned(size, turned)
    whole = before_turning == stored
    manner = Manner(
        None if whole else geometry.least(before_turning),
        repeated=form == "jpeg" and whole,
        padded=whole and turned != 1,
    )
    clean, samples = _decoded(structure, kept, manner)
    if samples is not None and whole and structure.components != 4:
        picture = Picture(upright_samples(samples, turned), structure.profile, kept)
    else:
        with failures_as_reasons():
            image = _image(clean, samples, structure.components, options)
            picture = finished(image, structure.profile, kept, turned, size=size, form=form, options=options)
    return Decoded(picture, SourceFormat.JPEG, stored, clean if whole and structure.is_portable else None)


def _decoded(structure: jpeg.Jpeg, kept: bytes, manner: Manner) -> tuple[bytes, Samples | None]:
    """The cleaned file and its pixels; no pixels where Pillow has to decode them."""
    clean = cleaned(structure, kept)
    try:
        try:
            return clean, turbo.decode(clean, structure.components, manner)
        except LeftOverError:
            # Cameras and servers pad scans with zeros. The last byte of a code is filled with ones (T.81, F.1.2.3), so
            # that zeros at the end belong to none, and if bytes are left over without them it is damage.
            clean = cleaned(structure, kept, padded=False)
            return clean, turbo.decode(clean, structure.components, manner)
    except LeftOverError as error:
        raise ImageError("corrupt", str(error)) from error
    except UnusualError:
        return clean, None


def _image(clean: bytes, samples: Samples | None, components: int, options: Options) -> Image.Image:
    """The pixels as Pillow has them, and by Pillow where the fast lane could not decode them."""
    if samples is None:
        image = opened(clean, SourceFormat.JPEG, options.max_pixels)
        image.load()
        return image
    return as_inks(samples) if components == 4 else as_image(samples)

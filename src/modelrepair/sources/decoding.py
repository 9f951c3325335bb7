"""Image files as arrays: one by one, and many in threads."""

from __future__ import annotations

import io
import math
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from modelrepair.sources.files import Files

Image.init()
# Not all that Pillow can read: for some formats it starts another program.
FORMATS = tuple({"JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"} & set(Image.OPEN))
MOST_PIXELS = 89_000_000
"""Of one image, in which Pillow sees no attempt to fill the memory."""
_TOO_LARGE = "has more pixels than can be taken for a photo"
PIECE_BYTES = 2**23
PIECE_IMAGES = 256
LOOKED_AT = 101
"""Of so many images, spread over all, the most frequent size is the size of all."""


class UnusableError(Exception):
    """Why an image cannot be used, to be put behind its name."""


@dataclass(frozen=True)
class Form:
    """What every image is turned into.

    Attributes:
        grey: one channel instead of three.
        height, width: in pixels.
        scaled: whether images of another size are scaled to it; they are refused otherwise.
    """

    grey: bool
    height: int
    width: int
    scaled: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (1 if self.grey else 3, self.height, self.width)


def decode(content: bytes, form: Form) -> NDArray[np.uint8]:
    """(channels, height, width) bytes of an image file.

    Colours are as Pillow's `convert` has them: CMYK and palettes become RGB, transparency is passed over, grey is the
    luma of ITU-R 601-2. Grey of 16 bits is rounded to 8. An image is turned as its camera says (EXIF). One that is
    scaled covers the size and is cropped around the middle, with Pillow's bilinear filter, which averages where it
    shrinks.

    Raises:
        UnusableError: if the file is no image or damaged, holds several pictures, or is of another size and `form`
            scales none.
    """
    image = _opened(content)
    try:
        image = ImageOps.exif_transpose(image)
        image = _in_bytes(image).convert("L" if form.grey else "RGB")
    except UnusableError:
        raise
    except Exception as error:
        raise UnusableError(f"is damaged ({_brief(error)})") from None
    if image.size != (form.width, form.height):
        if not form.scaled:
            raise UnusableError(
                f"is of {image.height} × {image.width} pixels instead of {form.height} × {form.width}"
            )
        image = ImageOps.fit(image, (form.width, form.height), method=Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[np.newaxis] if form.grey else pixels.transpose(2, 0, 1)


def usual_size(files: Files, names: Sequence[str]) -> tuple[int, int] | None:
    """(height, width) of most of some images, turned as their cameras say; None if none of them can be read."""
    sizes: Counter[tuple[int, int]] = Counter()
    for name in names[:: -(-len(names) // LOOKED_AT)]:
        try:
            image = ImageOps.exif_transpose(_opened(_content(files, name)))
        except Exception:
            continue
        sizes[image.height, image.width] += 1
    return sizes.most_common(1)[0][0] if sizes else None


def decoded(
    files: Files, names: Sequence[str], form: Form, unusable: dict[str, str], description: str
) -> Iterator[NDArray[np.uint8]]:
    """(…, channels, height, width) the images in their order, in pieces of some MiB, by as many threads as cores.

    Args:
        files: that hold them.
        names: of the images.
        form: what each is turned into.
        unusable: the names of those that are left out are added to it, with the reason.
        description: of the progress bar.
    """
    size = max(1, min(PIECE_IMAGES, PIECE_BYTES // math.prod(form.shape)))
    pieces = [names[start : start + size] for start in range(0, len(names), size)]
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    waiting: deque[Future[tuple[NDArray[np.uint8], dict[str, str]]]] = deque()
    bar = tqdm(total=len(names), desc=description, unit="image", mininterval=1, delay=1)
    pool = ThreadPoolExecutor(threads)
    try:
        with bar:
            for number, piece in enumerate(pieces):
                # A few ahead of the one that is written, so that what waits does not fill the memory.
                while number + len(waiting) < len(pieces) and len(waiting) < 2 * threads:
                    waiting.append(pool.submit(_decode_piece, files, pieces[number + len(waiting)], form))
                images, reasons = waiting.popleft().result()
                unusable |= reasons
                bar.update(len(piece))
                yield images
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_piece(files: Files, names: Sequence[str], form: Form) -> tuple[NDArray[np.uint8], dict[str, str]]:
    """The usable ones of some images, and why the others are not."""
    images = np.empty((len(names), *form.shape), dtype=np.uint8)
    reasons: dict[str, str] = {}
    for position, name in enumerate(names):
        try:
            images[position - len(reasons)] = decode(_content(files, name), form)
        except UnusableError as error:
            reasons[name] = str(error)
    return images[: len(names) - len(reasons)], reasons


def _content(files: Files, name: str) -> bytes:
    try:
        return files.read(name)
    # Every way of packing has errors of its own.
    except Exception as error:
        raise UnusableError(f"cannot be read ({_brief(error)})") from None


def _opened(content: bytes) -> Image.Image:
    """The image, of which nothing but the header has been read."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        # To say how many there are Pillow reads on. A camera's second picture (MPO) is a preview or the other eye's.
        pictures = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except UnidentifiedImageError:
        raise UnusableError("is no image" if content else "is empty") from None
    except Image.DecompressionBombError:
        raise UnusableError(_TOO_LARGE) from None
    # What is wrong with a file makes Pillow raise errors of nearly every kind.
    except Exception as error:
        raise UnusableError(f"is damaged ({_brief(error)})") from None
    if image.width * image.height > MOST_PIXELS:
        raise UnusableError(_TOO_LARGE)
    if pictures != 1:
        raise UnusableError(f"holds {pictures} pictures")
    return image


def _in_bytes(image: Image.Image) -> Image.Image:
    """The same with 8 bits a channel.

    Raises:
        UnusableError: if nothing says what white is.
    """
    if image.mode.startswith("I;16"):
        deep = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UnusableError("has pixels of 32 bits, whose white is not known")
    return image


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__

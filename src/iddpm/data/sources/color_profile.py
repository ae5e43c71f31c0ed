"""Pictures with an ICC profile converted to sRGB, which all others are taken to be in."""

import io
import warnings
from functools import lru_cache
from typing import Any

from PIL import Image, ImageCms

_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
"""Color spaces of profiles by the mode of a picture, as ICC spells them."""


def to_srgb(image: Image.Image, name: str) -> Image.Image:
    """Return a decoded picture in sRGB; gray stays gray, and transparency is kept.

    A profile that is converted, and one that cannot be used, is warned of. Pictures of 16 bits keep
    their numbers.
    """
    profile = image.info.get("icc_profile")
    if not profile or image.mode.startswith(("I", "F", "1")):
        return image
    alpha = None
    if image.mode == "P" or image.mode.endswith("A"):
        # A palette's colors are in the picture's space too.
        gray = image.mode == "LA"
        if image.has_transparency_data:
            alpha = image.convert("RGBA").getchannel("A")
        image = image.convert("L" if gray else "RGB")
    try:
        transform, description = _transform(bytes(profile), image.mode)
    except (ImageCms.PyCMSError, OSError, ValueError, KeyError) as error:
        warnings.warn(
            f"{name} has a color profile that does not fit its pixels ({error}): read as sRGB",
            stacklevel=2,
        )
        return _with(image, alpha)
    if transform is None:
        return _with(image, alpha)
    warnings.warn(
        f"pictures with the color profile {description!r}, such as {name}, are converted to sRGB",
        stacklevel=2,
    )
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    if image.mode == "L":
        converted = converted.getchannel(0)  # neutral: its channels are alike
    return _with(converted, alpha)


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> tuple[Any, str]:
    """Return the transform of a profile to sRGB, None where it is sRGB, and what it is called."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    description = ImageCms.getProfileDescription(source).strip()
    space = source.profile.xcolor_space
    if mode not in _SPACES or space != _SPACES[mode]:
        raise ValueError(f"a profile of {space.strip()} and pixels of {mode}")
    if description.lower().startswith("srgb"):
        return None, description
    target = ImageCms.createProfile("sRGB")
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    return ImageCms.buildTransform(source, target, mode, "RGB", intent), description


def _with(image: Image.Image, alpha: Image.Image | None) -> Image.Image:
    if alpha is not None:
        image = image.copy()
        image.putalpha(alpha)
    return image

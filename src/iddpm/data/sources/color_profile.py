"""Pictures in other colors converted to sRGB, which all that say nothing are taken to be in."""

import io
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
"""Color spaces of profiles by the mode of a picture, as ICC spells them."""
_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""White, red, green and blue of sRGB as PNG (cHRM) has them."""
_INTEROPERABILITY = 0xA005  # where EXIF tells Adobe RGB of cameras
_SRGB_CODES = (1, 13)
"""Primaries and transfer of sRGB as cICP and H.273 number them."""


def to_srgb(image: Image.Image, name: str) -> Image.Image:
    """Return a decoded picture in sRGB; gray stays gray, and transparency is kept.

    Followed are an ICC profile, else the gamma of a PNG. What is converted, and what is said of the
    colors and cannot be used, is warned of. Pictures of 16 bits keep their numbers.
    """
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F", "1")):
        return image
    if not profile:
        return _by_words(image, name)
    image, alpha = _parted(image)
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


def _by_words(image: Image.Image, name: str) -> Image.Image:
    """Return a picture without a profile in sRGB, by what a PNG or its EXIF says in other ways."""
    facts = image.info
    primaries, codes = facts.get("chromaticity"), facts.get("cicp")
    other = image.getexif().get_ifd(_INTEROPERABILITY).get(1) == "R03" and "Adobe RGB"
    if codes is not None and tuple(codes[:2]) != _SRGB_CODES:
        other = f"the colors {codes[0]} and the transfer {codes[1]} of H.273"
    if "srgb" not in facts and codes is None and primaries is not None:
        far = np.abs(np.subtract(primaries, _PRIMARIES)).max()
        other = other or (far > 0.01 and "its own primaries (cHRM)")
    if other:
        warnings.warn(
            f"{name} declares {other} and has no color profile: read as sRGB",
            stacklevel=3,
        )
    gamma = facts.get("gamma", 0)
    if gamma <= 0 or "srgb" in facts or codes is not None or abs(gamma * 2.2 - 1) <= 0.05:
        return image
    warnings.warn(
        f"pictures with a gamma of {gamma:g}, such as {name}, are converted to sRGB", stacklevel=3
    )
    linear = (np.arange(256) / 255) ** (1 / gamma)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    image, alpha = _parted(image)
    levels = (255 * curve).round().astype(int).tolist()
    return _with(image.point(levels * len(image.getbands())), alpha)


def _parted(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the colors of a picture, which a palette has too, and its opacity."""
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode == "P" or image.mode.endswith("A"):
        image = image.convert("L" if image.mode == "LA" else "RGB")
    if alpha is not None:
        image = image.copy()
        image.info.pop("transparency", None)
    return image, alpha


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

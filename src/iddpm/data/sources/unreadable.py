"""The errors for files that cannot be read as pictures."""


class UnreadablePictureError(ValueError):
    """The file is damaged, or is no picture at all."""


class UnsupportedPictureError(UnreadablePictureError):
    """The file is whole, and holds a picture of a kind or a size that is not read."""

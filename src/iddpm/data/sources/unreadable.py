"""The error of files that are damaged, or no pictures at all."""


class UnreadablePictureError(ValueError):
    """The file is damaged, or is no picture at all."""

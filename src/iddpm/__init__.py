"""Train, sample and measure diffusion models from scratch on your own images, signals, volumes.

The public names stand in ``__init__.pyi``; each is imported when it is first used, so that
``import iddpm`` is quick.
"""

import lazy_loader

__version__ = "0.2.0.dev0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.2.0"
"Long, consistent video from hierarchical latents. The names that people need are loaded when they are asked for."
import importlib

_HOME = {"Pipeline": "pipeline", "Experiment": "pipeline", "Tokenizer": "tokenizer", "VideoModel": "video",
         "PyramidConfig": "pyramid", "Schedule": "schedule", "millivid_schedule": "schedule",
         "schedule_from_text": "schedule"}
__all__ = list(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'millivid' has no attribute {name!r}")
    return getattr(importlib.import_module(f"millivid.{_HOME[name]}"), name)


def __dir__():
    return [*globals(), *_HOME]

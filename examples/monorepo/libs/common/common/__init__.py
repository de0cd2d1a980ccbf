"""What the containers of this repository share."""

from common.log import log
from common.settings import Settings, load_settings

__all__ = ["Settings", "load_settings", "log"]

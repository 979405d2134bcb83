"""The settings of one jobdeck process: command line over environment over file over defaults."""

from jobdeck.settings.load import load_settings
from jobdeck.settings.model import Settings

__all__ = ["Settings", "load_settings"]

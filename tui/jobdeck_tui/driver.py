"""The terminal driver, made to survive input that is not UTF-8."""

from __future__ import annotations

import codecs
import functools

from textual.drivers import linux_driver


def forgive_input() -> None:
    """Let bytes that are no UTF-8 pass as marks: one of them must not end the thread that reads the keys.

    Old mouse reports, as tmux sends them after a reattach, are such bytes; a paste may hold others.
    """
    decoder = codecs.getincrementaldecoder("utf-8")
    vars(linux_driver)["getincrementaldecoder"] = lambda _encoding: functools.partial(
        decoder, errors="replace"
    )

"""Text that has taken over terminals and consoles before: for names, messages, logs, errors, queues, workers."""

from __future__ import annotations

import re

ESC = "\x1b"
PAYLOADS = {
    "colour": f"{ESC}[31mred{ESC}[0m",
    "clear": f"{ESC}[2J{ESC}[H{ESC}c",
    "title": f"{ESC}]0;OWNED-TITLE\x07",
    "clipboard-bel": f"{ESC}]52;c;T1dORUQ=\x07",
    "clipboard-st": f"{ESC}]52;c;T1dORUQ={ESC}\\",
    "hyperlink": f"{ESC}]8;;http://evil.test{ESC}\\click{ESC}]8;;{ESC}\\",
    "device": f'{ESC}[6n{ESC}[c{ESC}P$q"p{ESC}\\',
    "alternate": f"{ESC}[?1049l{ESC}[?1000h",
    "c1": "\x9b31mred\x9d0;OWNED-TITLE\x9c\x90q\x9c",
    "basic": "bell\x07back\x08\x08tab\tvert\x0bfeed\x0ccr\rend\x00nul\x0e\x0fshift\x7fdel\x18can",
    "lines": "one\ntwo\r\nthree\u2028four\u2029five\x85six",
    "bidi": "user\u202egnp.exe\u202c \u2066iso\u2069 \u061c\u200f\u200e",
    "hidden": "zero\u200bwidth\u2060joined\ufeff\u00adsoft",
    "tags": "tag\U000e0041\U000e007fend",
    "closing": "[/] [/red] [/",
    "markup": "[bold red]loud[/bold red] [INFO] [red",
    "action": "[@click=app.quit_now]weekly-report[/]",
    "link": "[link=http://evil.test]here[/link]",
    "surrogate": "lone \udc80 half",
    "combining": "z" + "\u0301" * 1_000 + "algo",
    "family": "\U0001f468\u200d\U0001f469\u200d\U0001f467 alone\u200dhere",
    "wide": "漢字" * 40,
    "long": "x" * 10_000,
}
EVERYTHING = " ".join(PAYLOADS.values())

CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""What no text on the screen may hold."""

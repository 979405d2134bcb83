"""Names whose values are secret whoever gave them: of fields, headers, parameters of a query, variables."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

SCHEME: Final = "secret://"
MASK: Final = "********"

# What a name has to end in. Plurals that count something (`tokens`) are no secrets, nor is what only speaks of one
# (`token_count`, `secret_name`).
_WORDS: Final = frozenset(
    [
        "apikey",
        "authorization",
        "cookie",
        "cookies",
        "credential",
        "credentials",
        "jwt",
        "passphrase",
        "passwd",
        "password",
        "passwords",
        "pwd",
        "secret",
        "secrets",
        "token",
    ]
)
_PAIRS: Final = frozenset(
    (first, "key")
    for first in ["access", "account", "api", "auth", "encryption", "private", "secret", "signing"]
)
# Marks of pages are called tokens too; a masked one could not be gone on from.
_PAGING: Final = frozenset(
    ["continuation", "cursor", "next", "page", "pagination", "prev", "previous", "resume", "start", "sync"]
)
_WORD: Final = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@lru_cache(maxsize=4096)
def is_sensitive(name: str) -> bool:
    """Whether what stands under this name is a secret: `api_key`, `accessToken`, `Set-Cookie`, `DB_PASSWORD`."""
    words = [word.lower() for word in _WORD.findall(name[:256])]
    if not words:
        return False
    if words[:2] == ["jobdeck", "secret"]:
        return True
    before, last = words[-2] if len(words) > 1 else "", words[-1]
    if last == "token" and before in _PAGING:
        return False
    return last in _WORDS or (before, last) in _PAIRS


# One of these stands in every text that has such a name in it; to look for them costs less than the patterns do.
_HINTS: Final = (
    "pass",
    "pwd",
    "secret",
    "token",
    "key",
    "auth",
    "cookie",
    "credential",
    "jwt",
    "bearer",
    "basic",
)
# Every repetition is bounded or cannot be gone back into: the text may be made to cost time.
_USER_INFO: Final = re.compile(r"(?<=://)([^\s/?#@'\"<>:]*):[^\s/?#@'\"<>]+(?=@)")
# In a query, or as a word of its own like in a DSN or a file of variables. `call(token=token)` is source code.
_ASSIGNED: Final = re.compile(
    r"""(?P<before>[?&;\s'"]|^)(?P<name>[A-Za-z][\w.\-]{0,63})=(?P<value>[^\s&;,'"<>()\[\]{}]{1,2048}+)(?=[\s&;'"<>#]|$)""",
    re.MULTILINE,
)
# A member of JSON, or of a dict as Python shows it; with the quotes escaped where JSON stands within JSON.
_MEMBER: Final = re.compile(
    r"""(?P<q>\\{0,4}["'])(?P<name>[A-Za-z][\w.\- ]{0,63})(?P=q)(?P<colon>\s*:\s*)"""
    r"""(?P<v>\\{0,4}["'])(?P<value>.{0,8192}?)(?<!\\)(?P=v)"""
)
_SCHEME: Final = "(?:apikey|basic|bearer|digest|key|negotiate|ntlm|token)"
# A header by its line: the name alone is a word that stands in messages, so its value has to look like one.
_HEADER: Final = re.compile(
    rf"""(?i)\b(?P<name>(?:proxy-)?authorization)(?P<colon>\s*:\s*)(?:{_SCHEME}\s+[^\s'"]+|[^\s'"]{{16,}})[^\r\n'"]*"""
)
_COOKIE: Final = re.compile(r"""(?i)\b(?P<name>(?:set-)?cookie)(?P<colon>\s*:\s*)[^\s=;'"]+=[^\r\n'"]*""")
_KEY_HEADER: Final = re.compile(r"""(?i)\b(?P<name>x-[\w-]{1,60})(?P<colon>\s*:\s*)[^\s'"]{8,}""")
_HEADERS: Final = (("authorization", _HEADER), ("cookie", _COOKIE), ("x-", _KEY_HEADER))
_CREDENTIALS: Final = re.compile(r"(?i)\b(?P<scheme>bearer|basic)\s+(?!secret://)[A-Za-z0-9._~+/=-]{16,}")


def hide_named(text: str) -> str:
    """`text` with what stands in it under a sensitive name masked; references stay."""
    if "://" in text and "@" in text:
        text = _USER_INFO.sub(rf"\1:{MASK}", text)
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):
        return text
    if "=" in text:
        text = _ASSIGNED.sub(_assigned, text)
    if ":" in text:
        text = _MEMBER.sub(_member, text)
        for word, pattern in _HEADERS:
            if word in lowered:
                text = pattern.sub(_header, text)
    if "bearer" in lowered or "basic" in lowered:
        text = _CREDENTIALS.sub(rf"\g<scheme> {MASK}", text)
    return text


def _assigned(found: re.Match[str]) -> str:
    if _stays(found["name"], found["value"]):
        return found[0]
    return f"{found['before']}{found['name']}={MASK}"


def _member(found: re.Match[str]) -> str:
    if _stays(found["name"], found["value"]):
        return found[0]
    quote, value_quote = found["q"], found["v"]
    return f"{quote}{found['name']}{quote}{found['colon']}{value_quote}{MASK}{value_quote}"


def _header(found: re.Match[str]) -> str:
    if not is_sensitive(found["name"]) or SCHEME in found[0] or MASK in found[0]:
        return found[0]
    return f"{found['name']}{found['colon']}{MASK}"


def _stays(name: str, value: str) -> bool:
    return not value or not is_sensitive(name) or SCHEME in value or MASK in value

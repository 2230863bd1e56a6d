"""Which properties of the clients are secret, and how their values are kept out of all that is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from urllib.parse import unquote

SECRET_NAME = re.compile(r"password|passphrase|secret|token(?!\.endpoint)|jaas|pem|oauthbearer\.config|user\.info")
URL_PASSWORD = re.compile(r"://[^/?#:@]*:([^/?#@]+)@")
HIDDEN = "**********"
CHARACTERS_MIN = 4  # shorter ones occur in ordinary words
PIECE_CHARACTERS_MIN = 8


def secrets_in(properties: Mapping[str, str]) -> frozenset[str]:
    """Values that nothing written may show: each as a whole, and those of several lines or words (a key, the configuration of a token)
    piece by piece, since an error may quote the rest of one from the place that it objects to. Also the passwords inside of URLs."""
    found = set[str]()
    for name, value in properties.items():
        if SECRET_NAME.search(name):
            pieces = value.splitlines() if "pem" in name else value.split() if "oauthbearer" in name else []
            found |= {value, *(piece for piece in pieces if len(piece) >= PIECE_CHARACTERS_MIN)}
            if "user.info" in name:
                found.add(value.partition(":")[2] or value)
        for password in URL_PASSWORD.findall(value):
            found |= {password, unquote(password)}
    return frozenset(found)


def redactor(secrets: Collection[str]) -> Callable[[str], str]:
    """A function that hides `secrets` in a text, also as JSON and `repr` escape them."""
    long = [secret for secret in secrets if len(secret) >= CHARACTERS_MIN]
    escaped = [form for secret in long for form in (secret, repr(secret)[1:-1])]
    hidden = sorted({form for text in escaped for form in (text, json.dumps(text)[1:-1])}, key=len, reverse=True)

    def hide(text: str) -> str:
        for form in hidden:
            text = text.replace(form, HIDDEN)
        return text

    return hide

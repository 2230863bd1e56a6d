"""A request to one Alertmanager, and what its answer means.

    2xx                     taken
    400, 413, 422           it refuses an alert of the request: find out which, and drop that
    another 4xx, 3xx        the door is shut (password, path): a person has to change something
    429, 5xx, no answer     away: back off and send again

source: Alertmanager's api/v2/openapi.yaml
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Sequence
from enum import Enum
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

import msgspec

from detector.codec.alertmanager import Posting
from detector.config import Alertmanager
from detector.errors import ConfigError, DetectorError

PATH = "/api/v2/alerts"
ANSWER_S_MAX = 10.0  # per step of a request: connecting, writing, reading
ANSWER_BYTES_MAX = 200
REFUSED = (400, 413, 422)
AWAY = (408, 425, 429)


class Remedy(Enum):
    """What to do about a request that was not taken."""

    RETRY = "back off and send again"
    MEND = "a person has to change a setting, here or there"
    DROP = "never send this again"


class NotTaken(DetectorError):
    """Alertmanager did not take a request. Alerts on Kafka are not touched by it."""

    def __init__(self, message: str, remedy: Remedy, *, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.remedy = remedy
        self.exit_code = 1 if remedy is Remedy.RETRY else 2


class Client:
    """Speaks with one Alertmanager.

    raises ConfigError  its `ca_file` cannot be used
    """

    def __init__(self, url: str, settings: Alertmanager) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        self._host, self._port, self._path = parts.hostname or "", parts.port, parts.path + PATH
        self._tls = _tls(settings.ca_file) if parts.scheme == "https" else None
        self._headers = {"Content-Type": "application/json", "User-Agent": "detector", **_credentials(settings)}

    def post(self, postings: Sequence[Posting]) -> None:
        """Send alerts; none at all only sees whether they would be taken.

        raises NotTaken  with the remedy
        """
        connection = (
            HTTPSConnection(self._host, self._port, timeout=ANSWER_S_MAX, context=self._tls)
            if self._tls
            else HTTPConnection(self._host, self._port, timeout=ANSWER_S_MAX)
        )
        try:
            connection.request("POST", self._path, msgspec.json.encode(postings), self._headers)
            answer = connection.getresponse()
            status, text = answer.status, answer.read(ANSWER_BYTES_MAX).decode("utf-8", "replace")
        except (OSError, HTTPException, UnicodeError) as error:  # the last one: no such host name is possible
            raise NotTaken(f"Alertmanager {self.url} cannot be reached: {error}", Remedy.RETRY, fix=_fix_for(error)) from None
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise _refusal(self.url, status, " ".join(text.split()))


def _tls(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # an SSLError is one
        raise ConfigError(
            f"alertmanager.ca_file {ca_file} cannot be used: {error.strerror or error}", fix="name a readable file of certificates in PEM"
        ) from None


def _credentials(settings: Alertmanager) -> dict[str, str]:
    if settings.bearer_token is not None:
        return {"Authorization": f"Bearer {settings.bearer_token.get_secret_value()}"}
    if settings.username is not None and settings.password is not None:
        pair = f"{settings.username}:{settings.password.get_secret_value()}"
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
    return {}


def _refusal(url: str, status: int, text: str) -> NotTaken:
    """What an answer that is no yes means."""
    message = f"Alertmanager {url} answers {status}" + (f": {text}" if text else "")
    if status >= 500 or status in AWAY:
        return NotTaken(message, Remedy.RETRY, fix="see that it runs and what it logs")
    if status in REFUSED:
        fix = "write https:// in `alertmanager: url`" if "HTTPS" in text else "see what it logs"
        return NotTaken(message, Remedy.DROP, fix=fix)
    if status in (401, 403):
        return NotTaken(message, Remedy.MEND, fix="check `alertmanager: username` and `password`, or `bearer_token`")
    return NotTaken(
        message,
        Remedy.MEND,
        fix="`alertmanager: url` must be Alertmanager's root, such as http://alertmanager:9093, with its --web.route-prefix if it has one",
    )


def _fix_for(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            "`alertmanager: ca_file` must hold the authority that signed its certificate, which must not have expired and must be made out to "
            "the host in `alertmanager: url`"
        )
    if isinstance(error, ssl.SSLError):
        return "write http:// in `alertmanager: url` if it speaks no TLS"
    return "see that it runs and that `alertmanager: url` can be reached from here"

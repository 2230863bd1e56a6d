"""One request to one Alertmanager, and what its answer means.

    2xx                     accepted
    400, 413, 422           it rejects an alert of the request: find out which, and drop that
    another 4xx, 3xx        a person has to change something: the password, the path
    429, 5xx, no answer     back off and send again

The standard library's client sends it: it goes through the proxies that `http_proxy`, `https_proxy` and `no_proxy` name, and needs no package.

source: Alertmanager's api/v2/openapi.yaml
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Sequence
from enum import Enum
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener, getproxies, proxy_bypass

import msgspec

from detector.codec.alertmanager import Posting
from detector.config import Alertmanager
from detector.errors import ConfigError, DetectorError

PATH = "/api/v2/alerts"
ANSWER_S_MAX = 10.0  # per step of a request: connecting, writing, reading
ANSWER_BYTES_MAX = 200
REJECTED = (400, 413, 422)
TRY_LATER = (408, 425, 429)


class Remedy(Enum):
    """What to do about a request that was not accepted."""

    RETRY = "back off and send again"
    RECONFIGURE = "a person has to change a setting, here or there"
    DROP = "never send this again"


class NotAccepted(DetectorError):
    """Alertmanager did not accept a request. Alerts on Kafka are not touched by it."""

    def __init__(self, message: str, remedy: Remedy, *, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.remedy = remedy
        self.exit_code = 1 if remedy is Remedy.RETRY else 2


class NoRedirects(HTTPRedirectHandler):
    """A redirection is an answer like any other: followed, it would send the alerts, and the password, elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Client:
    """Sends to one Alertmanager, through the proxy that the environment names for it.

    raises ConfigError  its `ca_file` cannot be used
    """

    def __init__(self, url: str, settings: Alertmanager) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json", "User-Agent": "detector", **_credentials(settings)}
        is_tls = urlsplit(self.url).scheme == "https"
        self._opener = build_opener(NoRedirects, *([HTTPSHandler(context=_tls(settings.ca_file))] if is_tls else []))
        self._proxy = _proxy_of(self.url)

    def post(self, postings: Sequence[Posting]) -> None:
        """Send alerts; none at all only sees whether they would be accepted.

        raises NotAccepted  with the remedy
        """
        request = Request(self.url + PATH, msgspec.json.encode(postings), self._headers)  # noqa: S310 - the scheme is http or https: `config`
        try:
            with self._opener.open(request, timeout=ANSWER_S_MAX):
                return
        except HTTPError as answer:
            with answer:
                rejection = _rejection(self.url, answer.code, _text(answer))
            raise rejection from None
        except (OSError, HTTPException, UnicodeError) as error:  # the last one: no such host name is possible
            cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
            through = f" through the proxy {self._proxy}" if self._proxy else ""
            message = f"Alertmanager {self.url} cannot be reached{through}: {cause}"
            raise NotAccepted(message, Remedy.RETRY, fix=_fix_for(cause, self._proxy)) from None


def _text(answer: HTTPError) -> str:
    """The beginning of an answer's body, in one line; empty where it breaks off."""
    try:
        return " ".join(answer.read(ANSWER_BYTES_MAX).decode("utf-8", "replace").split())
    except (OSError, HTTPException):
        return ""


def _proxy_of(url: str) -> str:
    """Host and port of the proxy that a request to `url` goes through; empty without one."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme, "")
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return urlsplit(proxy if "://" in proxy else f"//{proxy}").netloc.rpartition("@")[2]


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


def _rejection(url: str, status: int, text: str) -> NotAccepted:
    """What an answer other than 2xx means."""
    message = f"Alertmanager {url} answers {status}" + (f": {text}" if text else "")
    if status >= 500 or status in TRY_LATER:
        return NotAccepted(message, Remedy.RETRY, fix="see that it runs and what it logs")
    if status in REJECTED:
        fix = "write https:// in `alertmanager: url`" if "HTTPS" in text else "see what it logs"
        return NotAccepted(message, Remedy.DROP, fix=fix)
    if status in (401, 403):
        return NotAccepted(message, Remedy.RECONFIGURE, fix="check `alertmanager: username` and `password`, or `bearer_token`")
    return NotAccepted(
        message,
        Remedy.RECONFIGURE,
        fix="`alertmanager: url` must be Alertmanager's root, such as http://alertmanager:9093, with its --web.route-prefix if it has one",
    )


def _fix_for(error: Exception, proxy: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            "`alertmanager: ca_file` must hold the authority that signed its certificate, which must not have expired and must be made out to "
            "the host in `alertmanager: url`"
        )
    if isinstance(error, ssl.SSLError):
        return "write http:// in `alertmanager: url` if it speaks no TLS"
    if proxy:
        return "see that it runs and that the proxy lets requests to it pass, or name its host in the environment variable no_proxy"
    return "see that it runs and that `alertmanager: url` can be reached from here"

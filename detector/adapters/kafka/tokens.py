"""Tokens for SASL/OAUTHBEARER.

librdkafka asks an identity provider for them by itself (`sasl.oauthbearer.method: oidc`). Those of Amazon MSK with IAM
(`sasl.mechanism: AWS_MSK_IAM`, as users of Java's clients write it) are signed here, from this process's AWS credentials, by AWS' own signer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detector.errors import ConfigError, LogUnavailable

SYSTEM_AUTHORITIES = tuple(
    Path(each) for each in ("/etc/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
)
MECHANISM = "AWS_MSK_IAM"
MECHANISM_NAMES = ("sasl.mechanism", "sasl.mechanisms")  # librdkafka knows it by two
REGION_IN_HOST = re.compile(r"\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com")
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
CREDENTIALS_FIX = (
    "see that this process has AWS credentials: from the environment, a profile, a web identity, or the role of its pod, task or instance "
    "(`aws sts get-caller-identity` tells whose they are)"
)


def with_tokens(properties: Mapping[str, str], on_log: Callable[[str, str], None]) -> dict[str, Any]:
    """`properties` as librdkafka takes them, with what it needs to come by tokens; unchanged where none are asked for.

    on_log   takes (level, line): a token that could not be renewed

    raises ConfigError     for AWS_MSK_IAM: the extra is not installed, the cluster's region is not known, or the protocol has no SASL
    raises LogUnavailable  for AWS_MSK_IAM: there are no AWS credentials now
    """
    if any(properties.get(name) == MECHANISM for name in MECHANISM_NAMES):
        return _with_amazon_s(properties, on_log)
    asks_provider = properties.get("sasl.oauthbearer.method", "").lower() == "oidc"
    if not asks_provider or {"https.ca.location", "https.ca.pem"} & properties.keys():
        return dict(properties)
    # confluent_kafka's wheels look for the authorities where Red Hat has them, and nowhere else, not even with `probe`.
    authorities = [str(path) for path in SYSTEM_AUTHORITIES if path.is_file()]
    return {**properties, **({"https.ca.location": authorities[0]} if authorities else {})}


def _with_amazon_s(properties: Mapping[str, str], on_log: Callable[[str, str], None]) -> dict[str, Any]:
    protocol = properties.get("security.protocol", "SASL_SSL")
    if not protocol.upper().startswith("SASL"):
        raise ConfigError(f"kafka: {MECHANISM} needs SASL, and security.protocol is {protocol}", fix="set `security.protocol: SASL_SSL`")
    others = {name: value for name, value in properties.items() if name not in MECHANISM_NAMES}
    tokens = Tokens(region_of(properties), on_log)
    return {**others, "security.protocol": protocol, "sasl.mechanism": "OAUTHBEARER", "oauth_cb": tokens}


def region_of(properties: Mapping[str, str]) -> str:
    """The AWS region of a cluster: the one in its brokers' names; where they have names of their own, the environment's.

    raises ConfigError  there is none
    """
    servers = properties.get("bootstrap.servers") or properties.get("metadata.broker.list", "")
    if found := REGION_IN_HOST.search(servers):
        return found[1]
    for name in REGION_VARIABLES:
        if region := os.environ.get(name):
            return region
    raise ConfigError(
        f"kafka: {MECHANISM} needs the cluster's AWS region, and the brokers' names do not tell it",
        fix="set AWS_REGION in the environment",
    )


class Tokens:
    """Tokens for a region's clusters; called by librdkafka when one is needed, in a thread of its own, at four fifths of the last one's life.

    raises ConfigError     the extra is not installed
    raises LogUnavailable  there are no AWS credentials now
    """

    def __init__(self, region: str, on_log: Callable[[str, str], None]) -> None:
        try:
            from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
        except ImportError as error:
            raise ConfigError(f"kafka: {MECHANISM} needs the extra `aws`: {error}", fix="`pip install 'detector[aws]'`") from None
        self._sign = MSKAuthTokenProvider.generate_auth_token
        self._region = region
        self._on_log = on_log
        # The first one is made here: librdkafka would wait for it for ten seconds, and forget why there is none.
        self._first: tuple[str, float, str] | None = self._token()

    def __call__(self, _: str | None) -> tuple[str, float, str]:
        """A token, the end of its life in seconds since the epoch, and a name for librdkafka's messages."""
        first, self._first = self._first, None
        if first is not None:
            return first
        try:
            return self._token()
        except LogUnavailable as error:  # librdkafka tries again after ten seconds
            self._on_log("warning", f"{error}; the last one stays good for minutes. {error.fix}")
            raise

    def _token(self) -> tuple[str, float, str]:
        try:
            token, expires_ms = self._sign(self._region)
        except Exception as error:  # noqa: BLE001 - whatever it is, it stands between us and a token
            # The signer does not look whether there are any credentials.
            reason = "there are no AWS credentials" if isinstance(error, AttributeError) else " ".join(str(error).split())
            raise LogUnavailable(f"no token for Amazon MSK could be signed: {reason}", fix=CREDENTIALS_FIX) from None
        return token, expires_ms / 1000, MECHANISM

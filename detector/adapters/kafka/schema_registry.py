"""A schema registry that speaks Confluent's API, through confluent-kafka's own client (extra `schema`)."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from confluent_kafka.schema_registry import Schema as Registered
from confluent_kafka.schema_registry import SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.confluent import meta_pb2
from confluent_kafka.schema_registry.confluent.type import decimal_pb2, variant_pb2
from confluent_kafka.schema_registry.error import OAuthTokenError

from detector.codec.confluent_wire_format import RegisteredSchema
from detector.config.secrets import redactor, secrets_in
from detector.errors import ConfigError, LogUnavailable

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Retries are the worker's: it stays alive and can be stopped between them. The client's own time-out is none at all.
DEFAULTS = {"timeout": "5", "max.retries": "0"}
NUMBERS = ("timeout", "cache.capacity", "cache.latest.ttl.sec", "max.retries", "retries.wait.ms", "retries.max.wait.ms")
ASK_S_MAX = 10.0
"""Many ids are asked for so long in one call; the next goes on from there. A worker must show that it is alive in between."""
UNKNOWN_S = 30.0
"""An id that was unknown is asked for again after so long: its schema may have been registered by then."""

NOT_FOUND = 404
SCHEMA_NOT_FOUND, SUBJECT_NOT_FOUND = 40403, 40401
BUILT_IN = {file.DESCRIPTOR.name: file.DESCRIPTOR.serialized_pb for file in (meta_pb2, decimal_pb2, variant_pb2)}

AUTHORISATION_FIX = (
    "check `schema_registry: basic.auth.user.info` or the `bearer.auth...` properties, and that this user may read schemas and subjects"
)
CERTIFICATE_FIX = (
    "`schema_registry: ssl.ca.location` must hold the authority that signed the registry's certificate, which must not have expired and must "
    "be made out to the host in `url` (`openssl s_client -connect HOST:PORT` shows it)"
)
CLIENT_CERTIFICATE_FIX = (
    "the registry asks for a certificate of a client that it knows: set `schema_registry: ssl.certificate.location` and `ssl.key.location`"
)
UNREACHABLE_FIX = "check that the registry runs and that `schema_registry: url` names it"
GARBAGE_FIX = "check that `schema_registry: url` leads to the registry itself, not to a proxy's or a login's page"


class SchemaRegistry:
    """Schemas by id; what was found is kept, since an id never changes its meaning.

    properties   of `confluent_kafka.schema_registry.SchemaRegistryClient`, under its own names

    raises ConfigError  the client does not know a property or its value
    """

    def __init__(self, properties: Mapping[str, str]) -> None:
        self._hide = redactor(secrets_in(properties))
        self._where = self._hide(properties.get("url", ""))
        self._unknown_since_s: dict[int, float] = {}
        self._found: dict[int, RegisteredSchema] = {}
        try:
            self._client = SchemaRegistryClient({name: _typed(name, text) for name, text in {**DEFAULTS, **properties}.items()})
        except Exception as error:  # noqa: BLE001 - whatever the client, its TLS and its tokens make of a property is the person's to mend
            raise ConfigError(
                f"schema_registry: {self._hide(str(error))}",
                fix="see docs/schema-registry.md, and the properties of confluent-kafka's SchemaRegistryClient",
            ) from None

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def fetch(self, ids: Iterable[int]) -> Mapping[int, RegisteredSchema | None]:
        """The schemas of these ids; None for those that the registry does not know.

        raises LogUnavailable  it could not be asked, or not for all within ASK_S_MAX; what it has answered is kept for the next call
        """
        begun_s = time.monotonic()
        ids = list(ids)
        for place, schema_id in enumerate(ids):
            if schema_id in self._found or schema_id in self._unknown_since_s:
                continue
            if time.monotonic() - begun_s > ASK_S_MAX:
                raise LogUnavailable(
                    f"the schema registry at {self._where} was asked for {place} schema ids and must be asked for {len(ids) - place} more",
                    fix="see whether what is on the topic is in Confluent's wire format: so many schemas are unusual",
                )
            schema = self._ask(f"asking for schema {schema_id}", partial(self._schema, schema_id), SCHEMA_NOT_FOUND)
            if schema is None:
                self._unknown_since_s[schema_id] = time.monotonic()
            else:
                self._found[schema_id] = schema
        answers = {schema_id: self._found.get(schema_id) for schema_id in ids}
        self._found.clear()  # who asked has them now
        # Only now that the question is answered as a whole: else one with many ids might never be.
        self._unknown_since_s = {key: since_s for key, since_s in self._unknown_since_s.items() if begun_s - since_s < UNKNOWN_S}
        return answers

    def latest(self, subject: str) -> tuple[int, str] | None:
        """Id and type of the newest schema of a subject; None where the registry does not know it.

        raises LogUnavailable
        """

        def ask() -> tuple[int, str]:
            found = self._client.get_latest_version(subject)
            return _number(found.schema_id), _kind(found.schema)

        return self._ask(f"asking for subject {subject}", ask, SUBJECT_NOT_FOUND)

    def id_of(self, subject: str, text: str) -> int:
        """The id of a JSON schema under a subject, where it is registered if it is not yet: the same schema keeps its id.

        raises LogUnavailable
        """
        schema = Registered(text, "JSON")
        known = self._ask(
            f"asking for subject {subject}",
            lambda: _number(self._client.lookup_schema(subject, schema).schema_id),
            SUBJECT_NOT_FOUND,
            SCHEMA_NOT_FOUND,
        )
        if known is None:
            known = self._ask(f"registering subject {subject}", lambda: _number(self._client.register_schema(subject, schema)))
            logger.info("schema registered", extra={"subject": subject, "schema_id": known})
        assert known is not None
        return known

    def _schema(self, schema_id: int) -> RegisteredSchema:
        registered = self._client.get_schema(schema_id, fmt="serialized")  # which means something for Protobuf alone
        references: dict[str, str] = {}
        self._refer(registered, references)
        kind = _kind(registered)
        if kind == "PROTOBUF":
            references |= {name: base64.b64encode(data).decode("ascii") for name, data in BUILT_IN.items()}
        return RegisteredSchema(kind, _text(registered), references)

    def _refer(self, schema: Registered, found: dict[str, str]) -> None:
        """Add all that a schema refers to, directly or not."""
        for reference in schema.references or ():
            name, subject = str(reference.name), str(reference.subject)
            if name not in found and name not in BUILT_IN:
                referred = self._client.get_version(subject, _number(reference.version), deleted=True, fmt="serialized").schema
                found[name] = _text(referred)
                self._refer(referred, found)

    def _ask(self, what: str, ask: Callable[[], T], *none_codes: int) -> T | None:
        """The registry's answer; None if it is one of these codes: it does not know what was asked for."""
        try:
            return ask()
        except SchemaRegistryError as error:
            if error.http_status_code == NOT_FOUND and error.error_code in none_codes:
                return None
            raise self._unavailable(what, error, _fix(error)) from None
        except Exception as error:  # noqa: BLE001 - HTTP, TLS, tokens and garbage have no root in common; each is an outage with a reason
            raise self._unavailable(what, error, _fix(error)) from None

    def _unavailable(self, what: str, error: Exception, fix: str) -> LogUnavailable:
        self._client.clear_caches()  # type: ignore[no-untyped-call]  # it keeps an answer that makes no sense like any other
        said = self._hide(str(error)) or type(error).__name__
        if fix is GARBAGE_FIX:
            said = f"it does not answer as a schema registry does ({said[:200]})"
        return LogUnavailable(f"the schema registry at {self._where} is unavailable, {what}: {said}", fix=fix)


def _fix(error: Exception) -> str:
    """What a person does about an error."""
    text = str(error)
    if isinstance(error, SchemaRegistryError):
        if error.http_status_code in (401, 403):
            return AUTHORISATION_FIX
        is_well_formed = isinstance(error.error_code, int) and error.error_code != SchemaRegistryError.UNKNOWN
        return UNREACHABLE_FIX if is_well_formed or error.http_status_code >= 500 or error.http_status_code == 429 else GARBAGE_FIX
    if isinstance(error, OAuthTokenError):
        return AUTHORISATION_FIX
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return CERTIFICATE_FIX
    if "certificate required" in text or "handshake failure" in text or "bad certificate" in text:
        return CLIENT_CERTIFICATE_FIX
    return GARBAGE_FIX if isinstance(error, ValueError | KeyError | TypeError | AttributeError) else UNREACHABLE_FIX


def _kind(schema: Registered) -> str:
    return schema.schema_type or "AVRO"  # which registries leave out


def _number(found: int | None) -> int:
    """raises ValueError  the registry has sent something else"""
    if not isinstance(found, int):
        raise ValueError("an answer without an id or a version")
    return found


def _text(schema: Registered) -> str:
    """raises ValueError  the registry has sent something else"""
    if not isinstance(schema.schema_str, str):
        raise ValueError("an answer without a schema")
    return schema.schema_str


def _typed(name: str, text: str) -> Any:
    """A property as the client wants it: some are numbers, and `ssl.ca.location: false` turns the check of certificates off."""
    if name in NUMBERS or (name == "ssl.ca.location" and text == "false"):
        try:
            return json.loads(text)
        except ValueError:
            raise ConfigError(f"schema_registry: {name} must be a number", fix=f"write for instance '{name}: 5'") from None
    return text

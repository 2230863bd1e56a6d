"""A real broker with doors of every kind, and what a client sets to come in by each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined] # its documented place
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from deploy.kafka.local_kafka import Listener, LocalKafka
from tests.broker.certificates import Authority

HOST = "127.0.0.1"
PASSWORD = "hunter2-scram"
WRONG = "hunter2-wrong"
KEY_PASSWORD = "hunter2-key"
USERS = ("detector", "changing", "reader", "writer", "loner", "pauper", "modest")
REAUTHENTICATION_MS = "2000"  # librdkafka renews at nine tenths of it; more often than once per second the broker refuses
RENEWED = {"scram-sha-512.connections.max.reauth.ms": REAUTHENTICATION_MS, "ssl.allow.dn.changes": "true"}
JAAS = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
SETTINGS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS;User:detector;User:changing",  # who comes in by PLAINTEXT is anonymous
    "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
}


@dataclass
class Secured:
    """A started broker and the files that its clients need.

    SCRAM    SASL_SSL with SCRAM-SHA-512
    RENEWED  the same, but a connection must prove its right again every 2 s
    MUTUAL   TLS with client certificates
    EXPIRED  TLS with a certificate that expired yesterday
    """

    kafka: LocalKafka
    folder: Path
    authority: Authority

    @classmethod
    def start(cls, folder: Path) -> Secured:
        authority = Authority()
        own = authority.keystore(HOST)
        scram = {**own, "sasl.enabled.mechanisms": "SCRAM-SHA-512", "scram-sha-512.sasl.jaas.config": JAAS}
        kafka = LocalKafka(
            folder / "kafka",
            listeners={
                "SCRAM": Listener("SASL_SSL", scram),
                "RENEWED": Listener("SASL_SSL", {**scram, **RENEWED}),
                "MUTUAL": Listener("SSL", {**own, **authority.truststore(), "ssl.client.auth": "required"}),
                "EXPIRED": Listener("SSL", authority.keystore(HOST, expired=True)),
            },
            scram_users=dict.fromkeys(USERS, PASSWORD),
            settings=SETTINGS,
        )
        kafka.start()
        chain, key = authority.issue("client.test", name="detector", password=KEY_PASSWORD)
        (folder / "client.pem").write_text(chain)
        (folder / "client.key").write_text(key)
        authority.write_to(folder / "authority.pem")
        Authority().write_to(folder / "other.pem")
        return cls(kafka, folder, authority)

    def _file(self, name: str) -> str:
        return str(self.folder / name)

    def plain(self, listener: str = "PLAINTEXT", **properties: str) -> dict[str, str]:
        """Properties of a client of this listener; further ones are written with _ for '.'."""
        return {"bootstrap.servers": self.kafka.servers[listener], **{name.replace("_", "."): value for name, value in properties.items()}}

    def tls(self, listener: str, **properties: str) -> dict[str, str]:
        return self.plain(listener, **{"security_protocol": "SSL", "ssl_ca_location": self._file("authority.pem"), **properties})

    def scram(self, listener: str = "SCRAM", user: str = "detector", **properties: str) -> dict[str, str]:
        ours = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": user, "sasl_password": PASSWORD}
        return self.tls(listener, **{**ours, **properties})

    def mutual(self, **properties: str) -> dict[str, str]:
        ours = {"ssl_certificate_location": self._file("client.pem"), "ssl_key_location": self._file("client.key")}
        return self.tls("MUTUAL", **{**ours, "ssl_key_password": KEY_PASSWORD, **properties})

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers})

    def present(self, listener: str, *, expired: bool) -> None:
        """Give a listener another certificate, while it runs: connections to come will meet it."""
        keystore = self.authority.keystore(HOST, expired=expired)
        changes = [
            ConfigEntry(f"listener.name.{listener.lower()}.{name}", value, incremental_operation=AlterConfigOpType.SET)
            for name, value in keystore.items()
        ]
        admin = self.admin()  # has to outlive the answer
        for answer in admin.incremental_alter_configs([ConfigResource(ResourceType.BROKER, "1", incremental_configs=changes)]).values():
            answer.result()

    def permit(self, rights: Iterable[tuple[str, str, str, str]]) -> None:
        """Allow (user, kind of resource, its name or with * at the end its beginning, operation); returns when that is in force."""
        bindings = {
            AclBinding(
                ResourceType[kind],
                name.rstrip("*"),
                ResourcePatternType.PREFIXED if name.endswith("*") else ResourcePatternType.LITERAL,
                f"User:{user}",
                "*",
                AclOperation[operation],
                AclPermissionType.ALLOW,
            )
            for user, kind, name, operation in rights
        }
        admin = self.admin()  # has to outlive the answers
        for answer in admin.create_acls(list(bindings)).values():
            answer.result()
        every: Any = None  # which the stubs do not allow for
        all_rights = AclBindingFilter(
            ResourceType.ANY, every, ResourcePatternType.ANY, every, every, AclOperation.ANY, AclPermissionType.ANY
        )
        deadline = time.monotonic() + 10
        while not bindings <= set(admin.describe_acls(all_rights).result()):  # the broker follows its controller
            assert time.monotonic() < deadline
            time.sleep(0.01)


def configuration(folder: Path, kafka: dict[str, str], topic: str, group: str, **sections: object) -> Path:
    """A configuration file; secrets are not in it."""
    public = {name: value for name, value in kafka.items() if not is_secret(name)}
    path = folder / f"{group}.yaml"
    path.write_text(
        json.dumps({"group": group, "model": "plant", "input": {"topics": [topic]}, "kafka": public, "http": {"port": 0}, **sections})
    )
    return path


def environment(kafka: dict[str, str]) -> dict[str, str]:
    """The secrets among the properties, as the environment carries them."""
    return {f"DETECTOR_KAFKA__{name.replace('.', '_').upper()}": value for name, value in kafka.items() if is_secret(name)}


def is_secret(name: str) -> bool:
    return "password" in name or name.endswith("key.pem")

"""Certificates for one test run: an authority, the broker's, the clients', and the wrong ones."""

from __future__ import annotations

import datetime
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


class Authority:
    """A certificate authority of this run's own, and what it has signed. Nothing of it outlives the run."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        self.certificate = self._authority.cert_pem.bytes().decode()

    def write_to(self, path: Path) -> str:
        """The authority's certificate as a file, for `ssl.ca.location`; its path."""
        path.write_text(self.certificate)
        return str(path)

    def issue(self, host: str, *, name: str | None = None, expired: bool = False, password: str | None = None) -> tuple[str, str]:
        """A certificate for a host and its key, as PEM.

        name      of the person or service that it speaks for (the subject's CN)
        expired   valid until yesterday
        password  encrypts the key
        """
        leaf = self._authority.issue_cert(host, common_name=name, not_after=YESTERDAY if expired else None)
        key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
        locked = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password.encode())
        # Java reads PKCS#8 only.
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked).decode()
        return "".join(blob.bytes().decode() for blob in leaf.cert_chain_pems), pem

    def keystore(self, host: str, *, expired: bool = False) -> dict[str, str]:
        """A broker's certificate, as Kafka's settings."""
        chain, key = self.issue(host, expired=expired)
        return {"ssl.keystore.type": "PEM", "ssl.keystore.certificate.chain": chain, "ssl.keystore.key": key}

    def truststore(self) -> dict[str, str]:
        """Kafka's settings for a broker that trusts whom this authority signed."""
        return {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": self.certificate}

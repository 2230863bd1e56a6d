"""An identity provider on loopback: gives tokens to who knows the secret (OAuth 2's client credentials), over TLS."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.broker.certificates import Authority

AUDIENCE, ISSUER, KEY_ID = "kafka", "https://identity.test", "first"
SECRETS = {"detector": "hunter2-oidc", "stranger": "hunter2-stranger"}
"""Clients, and what each proves itself by. The brokers want an audience that `stranger` does not get."""


class IdentityProvider:
    """Serves POST /token.

    url       of the token endpoint
    keys      a file with the public key that tokens are checked by (JWKS)
    issued    tokens given so far
    life_s    how long a token is good for
    """

    def __init__(self, folder: Path, authority: Authority, life_s: float) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.keys = folder / "keys.json"
        self.keys.write_text(json.dumps({"keys": [self._public_key()]}))
        self.life_s = life_s
        self.issued: list[str] = []
        identity = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                client, _, secret = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode().partition(":")
                known = SECRETS.get(client) == secret
                answer = identity.grant(client) if known else {"error": "invalid_client", "error_description": "who are you?"}
                body = json.dumps(answer).encode()
                self.send_response(200 if known else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for name, pem in zip(("chain.pem", "key.pem"), authority.issue("127.0.0.1"), strict=True):
            (folder / name).write_text(pem)
        context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def grant(self, client: str) -> dict[str, object]:
        """A token for a client, as RFC 6749 has it."""
        now = time.time()
        audience = AUDIENCE if client == "detector" else "mail"
        claims = {"sub": client, "aud": audience, "iss": ISSUER, "iat": int(now), "exp": int(now + self.life_s)}
        signed = f"{_encoded({'alg': 'RS256', 'typ': 'JWT', 'kid': KEY_ID})}.{_encoded(claims)}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        token = f"{signed}.{_base64(signature)}"
        self.issued.append(token)
        return {"access_token": token, "token_type": "Bearer", "expires_in": int(self.life_s)}

    def _public_key(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        n, e = (_base64(each.to_bytes((each.bit_length() + 7) // 8, "big")) for each in (numbers.n, numbers.e))
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID, "n": n, "e": e}


def _encoded(part: dict[str, object]) -> str:
    return _base64(json.dumps(part).encode())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

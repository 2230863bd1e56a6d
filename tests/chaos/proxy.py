"""The network between a worker and the broker: TCP connections that can be cut, swallowed or slowed down. Rewrites nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Coroutine
from enum import StrEnum
from functools import partial
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")

HOST = "127.0.0.1"
CHUNK_BYTES = 65_536
SLOW_S = 0.15
RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 s


class Mode(StrEnum):
    """What happens to bytes."""

    PASS = "pass"
    CUT = "cut"  # connections are reset, new ones too
    BLACK_HOLE = "black hole"  # swallowed both ways
    DEAF = "deaf"  # what the broker answers is swallowed: the worker's requests take effect, and it never hears
    MUTE = "mute"  # what the worker says is swallowed
    SLOW = "slow"  # every piece waits


class Connection:
    """One connection through the proxy: two pairs of streams."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.writers = writers
        self.has_hole = False  # bytes are missing: it can only be reset

    def reset(self) -> None:
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            if not writer.is_closing() and sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            writer.transport.abort()


class Proxies:
    """A number of proxies on loopback ports of their own, served by a thread. Each leads to a port of the broker.

    ports   where each listens
    """

    def __init__(self, count: int) -> None:
        self._targets = [0] * count
        self._modes = [Mode.PASS] * count
        self._connections: list[set[Connection]] = [set() for _ in range(count)]
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()
        self._servers = self._wait_for(self._listen())
        self.ports = [server.sockets[0].getsockname()[1] for server in self._servers]

    def lead_to(self, ports: list[int]) -> None:
        """Where each leads to from now on."""
        self._targets[:] = ports

    def set(self, number: int, mode: Mode) -> None:
        """From now on. Connections of which bytes were swallowed are reset when that ends."""
        self._wait_for(self._set(number, mode))

    def close(self) -> None:
        """Reset everything and stop listening."""
        self._wait_for(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _listen(self) -> list[asyncio.Server]:
        return [await asyncio.start_server(partial(self._serve, number), HOST, 0) for number in range(len(self._targets))]

    async def _set(self, number: int, mode: Mode) -> None:
        self._modes[number] = mode
        for connection in list(self._connections[number]):
            if mode is Mode.CUT or connection.has_hole:
                connection.reset()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for number in range(len(self._targets)):
            await self._set(number, Mode.CUT)
        tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        connection, pumps = Connection(writer), []
        try:
            to_broker = await asyncio.open_connection(HOST, self._targets[number])
            connection.writers = (writer, to_broker[1])
            if self._modes[number] is Mode.CUT:
                return
            self._connections[number].add(connection)
            pumps = [
                asyncio.create_task(self._pump(number, connection, reader, to_broker[1], Mode.MUTE)),
                asyncio.create_task(self._pump(number, connection, to_broker[0], writer, Mode.DEAF)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the broker is down: so is the connection
        finally:
            self._connections[number].discard(connection)
            connection.reset()
            await asyncio.gather(*pumps)

    async def _pump(
        self, number: int, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallowing: Mode
    ) -> None:
        """One direction."""
        has_hole = False
        try:
            while data := await reader.read(CHUNK_BYTES):
                if self._modes[number] is Mode.SLOW:
                    await asyncio.sleep(SLOW_S)
                if has_hole or self._modes[number] in (Mode.BLACK_HOLE, swallowing):
                    has_hole = connection.has_hole = True
                    continue
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # reset by one side

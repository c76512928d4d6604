"""uvicorn's protocols for HTTP/1.1 and WebSocket, with limits for untrusted clients."""

from __future__ import annotations

import asyncio
import logging
from asyncio.sslproto import SSLProtocol
from socket import AF_UNIX
from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from nvision_hub.runtime.connection_limits import (
    ConnectionLimits,
    ConnectionPhase,
    ConnectionTable,
    NoRoomError,
    OpenConnection,
    client_of,
)
from nvision_hub.runtime.unix_socket import is_confined, peer_of

if TYPE_CHECKING:
    import ssl
    from asyncio.transports import BaseTransport
    from collections.abc import Callable

    from uvicorn._types import ASGISendEvent
    from uvicorn.config import Config
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle
    from websockets.frames import Frame

log = logging.getLogger("nvision_hub.http")

PEER_UID: Final = "peer_uid"  # key of `scope["state"]`: the user id of a client that connected to a Unix socket
FLUSH_TIMEOUT_S: Final = 30.0  # time to send the rest of a response after the server has closed the connection
INVALID_DATA: Final = 1007  # a close code of RFC 6455, section 7.4.1
POLICY_VIOLATION: Final = 1008  # likewise
_NO_ROOM: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\nretry-after: 5\r\n\r\n"
)


class LimitedServerState(ServerState):
    """State that all connections of a server share."""

    def __init__(self, limits: ConnectionLimits) -> None:
        super().__init__()
        self.limits = limits
        self.table = ConnectionTable(limits=limits)
        self._by_socket: dict[object, OpenConnection] = {}

    def connected(self, transport: asyncio.Transport, host: str, now: float) -> OpenConnection | None:
        """Count a new connection. If there is no room, close another connection; return None if all are busy.

        A TLS connection calls this method twice: at its start and after its handshake.
        """
        socket = transport.get_extra_info("socket")
        if socket in self._by_socket:
            return self._by_socket[socket]
        connection = OpenConnection(
            client=client_of(host),
            abort=transport.abort,
            is_stalled=lambda: transport.get_write_buffer_size() > 0,
            since=now,
        )
        try:
            replaced = self.table.add(connection)
        except NoRoomError:
            log.warning(
                "connection from %s rejected: all %d connections are busy",
                connection.client,
                len(self.table),
                extra={"event": "connection_rejected"},
            )
            return None
        if replaced is not None:
            log.warning(
                "connection from %s closed: too many connections are open; a new one replaces it",
                replaced.client,
                extra={"event": "connection_replaced"},
            )
            replaced.abort()
        self._by_socket[socket] = connection
        return connection

    def ended(self, transport: BaseTransport, now: float) -> None:
        """Allow other connections to replace this one, because the application has finished with it."""
        if (connection := self._by_socket.get(transport.get_extra_info("socket"))) is not None:
            connection.enter(ConnectionPhase.IDLE, now)

    def disconnected(self, transport: BaseTransport) -> None:
        """Remove a connection if it was counted."""
        connection = self._by_socket.pop(transport.get_extra_info("socket"), None)
        if connection is not None:
            self.table.remove(connection)


class LimitedTlsProtocol(SSLProtocol):
    """TLS below HTTP/1.1. Unlike asyncio's own TLS, this class counts connections before their handshake."""

    def __init__(self, http: LimitedHttpProtocol, context: ssl.SSLContext) -> None:
        self._server_state = http.server_state
        timeout_s = http.server_state.limits.header_timeout_s
        super().__init__(
            http.loop,
            http,
            context,
            None,  # type: ignore[arg-type] # no caller waits for the handshake
            server_side=True,
            ssl_handshake_timeout=timeout_s,  # type: ignore[arg-type] # asyncio accepts fractions of a second
        )

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._raw = transport
        super().connection_made(transport)
        host = (transport.get_extra_info("peername") or ("",))[0]
        if self._server_state.connected(transport, host, asyncio.get_running_loop().time()) is None:
            transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server_state.disconnected(self._raw)
        super().connection_lost(exc)


class LimitedHttpProtocol(H11Protocol):
    """One HTTP/1.1 connection.

    When a client requests a WebSocket, a `LimitedWebSocketProtocol` replaces this object.
    """

    server_state: LimitedServerState

    def __init__(
        self, config: Config, server_state: LimitedServerState, app_state: dict[str, Any], **more: Any
    ) -> None:
        super().__init__(config, server_state, app_state, **more)
        # None before the connection is counted and after it becomes a WebSocket
        self._connection: OpenConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timed_cycle: object = None  # the request that the timer limits; None while the connection is idle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        host = self.client[0] if self.client else ""
        connection = transport.get_extra_info("socket")
        if connection.family == AF_UNIX:
            peer = peer_of(connection)
            if is_confined(peer):
                log.warning(
                    "refused process %d on the control socket: it is a restricted process of the hub",
                    peer.pid,
                    extra={"event": "control_refused"},
                )
                transport.abort()
                return
            host, self.app_state = f"uid {peer.uid}", {**self.app_state, PEER_UID: peer.uid}
        self._connection = self.server_state.connected(transport, host, self.loop.time())
        if self._connection is not None:
            self._set_timer(self.server_state.limits.header_timeout_s, self._close)
        else:
            transport.write(_NO_ROOM)
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        self.server_state.disconnected(self.transport)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update()

    def send_400_response(self, msg: str) -> None:
        """Respond to a malformed request unless a response has already started. Then close the connection."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        self._close()
        if self.cycle is not None:  # otherwise, the application would respond on a closed connection
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._update()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._close()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._cancel_timer()
        if self._connection is not None:
            self._connection.enter(ConnectionPhase.BUSY, self.loop.time())
            self._connection = None
        super().handle_websocket_upgrade(event)

    def _update(self) -> None:
        """Update the connection's phase and timer after an event."""
        if self._connection is None or self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        if cycle is not None and cycle.response_complete:
            cycle = None
        if cycle is None:
            phase = ConnectionPhase.IDLE
        else:
            phase = ConnectionPhase.READING if cycle.more_body else ConnectionPhase.BUSY
        self._connection.enter(phase, self.loop.time())
        if cycle is self._timed_cycle:
            return
        self._timed_cycle = cycle
        if cycle is None:
            self._set_timer(self.server_state.limits.header_timeout_s, self._close)
        else:
            self._set_timer(self.server_state.limits.request_timeout_s, self.transport.abort)

    def _close(self) -> None:
        """Close the connection after sending the rest of the response, or after `FLUSH_TIMEOUT_S`."""
        self.transport.close()
        self._set_timer(FLUSH_TIMEOUT_S, self.transport.abort)

    def _set_timer(self, delay_s: float, action: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self.loop.call_later(delay_s, action)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class LimitedWebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection, with limits on the data that waits in memory.

    Without these limits, a client could send a message in endless empty fragments, send thousands of tiny messages in
    one packet, or send pings without reading the replies.
    """

    def __init__(
        self, config: Config, server_state: LimitedServerState, app_state: dict[str, Any], **more: Any
    ) -> None:
        super().__init__(config, server_state, app_state, **more)
        self._server_state = server_state
        self._max_queued = server_state.limits.max_queued_messages

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_state.disconnected(self.transport)
        super().connection_lost(exc)

    async def run_asgi(self) -> None:
        try:
            await super().run_asgi()
        finally:  # close even if the client delays the closing handshake
            self._server_state.ended(self.transport, self.loop.time())

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self.close_sent:
            # If the application responds without a handshake, uvicorn would log that the handshake is missing.
            self.handshake_complete = True

    def handle_cont(self, event: Frame) -> None:
        if self._has_room(len(self.frames)):
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if not self._has_room(self.queue.qsize()):
            return
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:  # without this handler, uvicorn would log a traceback
                self._fail(INVALID_DATA, "a text message is not UTF-8")
                return
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # discard the reply, because the client does not read

    def _has_room(self, waiting: int) -> bool:
        """Return whether one more item may wait. If not, close the connection."""
        if self._max_queued is None or waiting < self._max_queued:
            return True
        self._fail(POLICY_VIOLATION, "too many messages or fragments at once")
        return False

    def _fail(self, code: int, reason: str) -> None:
        if not self.transport.is_closing():
            self.conn.fail(code, reason)
            self.handle_parser_exception()

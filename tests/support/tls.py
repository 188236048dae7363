"""TLS in front of the tests' servers: a certificate authority made by openssl, and a relay that speaks TLS.

The bundled Valkey is built without TLS. A relay does what a managed Redis does as well: TLS ends in front of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path


class OpensslMissingError(RuntimeError):
    """There is no openssl on PATH; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority with a directory of its own.

    Args:
        directory: where its files go.
        name: what it calls itself.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self.root = Certificate(directory / f"{name}.pem", directory / f"{name}.key")
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", str(self.root.key), "-out", str(self.root.cert)),
        )

    def issue(self, name: str, alt_names: str = "") -> Certificate:
        """A certificate of this authority, for the names that `alt_names` lists: `DNS:localhost,IP:127.0.0.1`."""
        made = Certificate(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        request, extensions = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alt_names}\n" if alt_names else "", "utf-8")
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", str(made.key), "-out", str(request)),
        )
        self._openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.root.cert), "-CAkey", str(self.root.key)),
            *("-CAcreateserial", "-days", "2", "-extfile", str(extensions), "-out", str(made.cert)),
        )
        return made

    def _openssl(self, *arguments: str) -> None:
        program = shutil.which("openssl")
        if program is None:
            raise OpensslMissingError("the tests of TLS need openssl on PATH: apt-get install openssl")
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


class TlsFront:
    """Speaks TLS on a port of its own and passes everything on to a server of this machine.

    Args:
        port: of the server.
        certificate: what it shows to clients.
        client_ca: if given, clients must show a certificate of this authority.

    Attributes:
        port: where it listens.
    """

    def __init__(self, port: int, certificate: Certificate, *, client_ca: Path | None = None) -> None:
        self._upstream = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.cert, certificate.key)
        if client_ca is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(client_ca)
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="tls-front", daemon=True)

    def __enter__(self) -> TlsFront:
        self._thread.start()
        assert self._ready.wait(10), "the relay did not start"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.set_exception_handler(lambda _loop, _context: None)  # handshakes that clients break off
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        async with server:
            await self._stop.wait()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.wait(
                {
                    asyncio.ensure_future(_pump(reader, server_writer)),
                    asyncio.ensure_future(_pump(server_reader, writer)),
                },
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            server_writer.transport.abort()
            writer.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()

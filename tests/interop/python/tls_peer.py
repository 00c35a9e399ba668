"""One end of mTLS connections by py-spiffe's own TLS package: `tls-serve ADDRESS CLIENT-ID` until it is killed, or
`tls-call ADDRESS SERVER-ID SECONDS`, which prints one JSON object."""

import json
import socket
import sys
import threading
import time

from OpenSSL import SSL
from spiffe import SpiffeId, X509Source
from spiffetls import dial
from spiffetls.context import create_ssl_context
from spiffetls.mode import ClientTlsMode
from spiffetls.tlsconfig.authorize import authorize_id


def exactly(connection: SSL.Connection, count: int) -> bytes:
    got = b""
    while len(got) < count:
        got += connection.recv(count - len(got))
    return got


def answer(connection: SSL.Connection) -> None:
    try:
        connection.do_handshake()
        exactly(connection, 4)
        connection.sendall(b"pong")
        connection.shutdown()
    except (SSL.Error, OSError):
        pass
    finally:
        connection.close()


def serve(source: X509Source, address: str, peer: SpiffeId) -> None:
    # Not `spiffetls.listen`: the context that it makes once cannot take a renewed SVID any more after its first connection
    # (pyOpenSSL forbids changing a context that is in use). A context for each SVID is what its authors' own API allows.
    host, port = address.rsplit(":", 1)
    listener = socket.create_server((host, int(port)), backlog=64)
    print("{}:{}".format(*listener.getsockname()), flush=True)
    serial, context = None, None
    while True:
        plain, _ = listener.accept()
        if serial != source.svid.leaf.serial_number:
            serial = source.svid.leaf.serial_number
            context = create_ssl_context(SSL.TLS_SERVER_METHOD, source, authorize_id(peer))
        connection = SSL.Connection(context, plain)
        connection.set_accept_state()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def once(source: X509Source, address: str, peer: SpiffeId) -> int:
    connection = dial(address, source, ClientTlsMode.TLS, authorize_id(peer))
    try:
        connection.sendall(b"ping")
        assert exactly(connection, 4) == b"pong"
        return connection.get_peer_certificate().get_serial_number()
    finally:
        connection.close()


def call(source: X509Source, address: str, peer: SpiffeId, seconds: float) -> dict:
    served, certificates, failures = 0, set(), []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            certificates.add(once(source, address, peer))
            served += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed call
            failures.append(repr(error))
        time.sleep(0.02)
    return {"served": served, "certificates": len(certificates), "failures": failures}


def main() -> None:
    mode, address, peer = sys.argv[1], sys.argv[2], SpiffeId(sys.argv[3])
    with X509Source(timeout_in_seconds=60) as source:
        if mode == "tls-serve":
            serve(source, address, peer)
        print(json.dumps(call(source, address, peer, float(sys.argv[4]))))


main()

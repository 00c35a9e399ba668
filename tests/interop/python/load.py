"""New mTLS connections to a server, one after the other in several threads, for some seconds: how many served, how many failed, and how many
different certificates the server has shown. `load.py KIND HOST PORT CREDENTIALS SECONDS [SPIFFE_ID]`; KIND: http, redis, nats, postgres."""

import json
import os
import socket
import ssl
import sys
import threading
import time

KIND, HOST, PORT, DIR, SECONDS = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5])


def context():
    # Through `..data`, opened once: chain and key of one set.
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    for _ in range(100):
        try:
            data = os.path.realpath(os.path.join(DIR, "..data"))
            made.load_cert_chain(os.path.join(data, "svid.pem"), os.path.join(data, "key.pem"))
            made.load_verify_locations(os.path.join(data, "bundle.pem"))
            return made
        except (FileNotFoundError, ssl.SSLError):
            time.sleep(0.01)
    raise RuntimeError("there is no credential")


def read_until(stream, end):
    got = b""
    while end not in got:
        more = stream.recv(4096)
        if not more:
            raise ConnectionError(f"closed after {got!r}")
        got += more
    return got


def once():
    plain = socket.create_connection((HOST, PORT), timeout=20)
    with plain:
        if KIND == "nats":
            read_until(plain, b"\r\n")
        if KIND == "postgres":
            plain.sendall(bytes([0, 0, 0, 8, 4, 210, 22, 47]))
            if plain.recv(1) != b"S":
                raise ConnectionError("no TLS")
        with context().wrap_socket(plain) as tls:
            serial = tls.getpeercert()["serialNumber"]
            exchange(tls)
            return serial


def exchange(tls):
    if KIND == "http":
        tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        if not read_until(tls, b"\r\n").startswith(b"HTTP/1.1 200"):
            raise ConnectionError("not 200")
    elif KIND == "redis":
        tls.sendall(b"PING\r\n")
        if read_until(tls, b"\r\n") != b"+PONG\r\n":
            raise ConnectionError("no PONG")
    elif KIND == "nats":
        tls.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        answer = read_until(tls, b"\r\n")
        if b"PONG" not in answer:
            raise ConnectionError(repr(answer))
    elif KIND == "postgres":
        body = b"\0\3\0\0user\0postgres\0database\0postgres\0\0"
        tls.sendall((len(body) + 4).to_bytes(4, "big") + body)
        answer = read_until(tls, b"Z\0\0\0\5")
        if not answer.startswith(b"R\0\0\0\x08\0\0\0\0"):
            raise ConnectionError(repr(answer))


lock, served, failures, serials = threading.Lock(), 0, [], set()
until = time.monotonic() + SECONDS


def load():
    global served
    while time.monotonic() < until:
        try:
            serial = once()
            with lock:
                served += 1
                serials.add(serial)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed request
            with lock:
                failures.append(repr(error))
        time.sleep(0.01)


threads = [threading.Thread(target=load) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps({"served": served, "failed": len(failures), "failures": failures[:5], "certificates": len(serials)}))

"""An off-site upload target: a TLS server that takes HTTP PUT requests and keeps nothing.

python -m examples.plant.tls_sink ADDRESS PORT CERTIFICATE KEY [1.0]

With 1.0 it is one that nobody has updated: TLS 1.0 is all it speaks.
"""

import socketserver
import ssl
import sys
from typing import Any


class Put(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while line := self.rfile.readline(65536):
            length = 0
            while line not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                line = self.rfile.readline(65536)
            while length > 0:
                taken = len(self.rfile.read(min(length, 65536)))
                if taken == 0:
                    return
                length -= taken
            self.wfile.write(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:  # Any: as socketserver has them
        try:
            with self.context.wrap_socket(request, server_side=True) as secured:
                Put(secured, client_address, self)
        except OSError:
            return  # A client that only looked whether the port answers.


def main(address: str, port: str, certificate: str, key: str, version: str = "") -> None:
    Server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if version == "1.0":
        Server.context.minimum_version = Server.context.maximum_version = ssl.TLSVersion.TLSv1
        # OpenSSL 3 signs TLS 1.0 handshakes (MD5 with SHA-1) at its lowest security level only.
        Server.context.set_ciphers("DEFAULT@SECLEVEL=0")
    Server.context.load_cert_chain(certificate, key)
    with Server((address, int(port)), Put) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])

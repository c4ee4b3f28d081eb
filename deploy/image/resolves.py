"""Does the program in a root filesystem resolve names? It is started there with an API server that only a small DNS server of
ours knows, and has to connect to it. Needs root: for chroot, and for port 53 of a loopback address."""

import os
import socket
import struct
import subprocess
import sys
import threading

ROOT = sys.argv[1]
ADDRESS = "127.0.53.53"
NAME = "api.dci-operator.test"
PATIENCE = 30


def answer(query: bytes) -> bytes:
    """The address for a question of type A, nothing for any other."""
    end = query.index(b"\0", 12) + 5
    kind = struct.unpack(">H", query[end - 4 : end - 2])[0]
    known = kind == 1 and query[12 : end - 5] == b"".join(bytes([len(p)]) + p.encode() for p in NAME.split("."))
    head = query[:2] + struct.pack(">HHHHH", 0x8580, 1, int(known), 0, 0)
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(ADDRESS)
    return head + query[12:end] + (record if known else b"")


def serve(dns: socket.socket) -> None:
    while True:
        query, peer = dns.recvfrom(512)
        dns.sendto(answer(query), peer)


def write(name: str, text: str) -> None:
    path = os.path.join(ROOT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main() -> int:
    dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dns.bind((ADDRESS, 53))
    threading.Thread(target=serve, args=(dns,), daemon=True).start()
    listener = socket.create_server((ADDRESS, 0))
    listener.settimeout(PATIENCE)
    write("etc/resolv.conf", f"nameserver {ADDRESS}\n")
    write(
        "kubeconfig",
        f"""{{apiVersion: v1, kind: Config, current-context: a,
 clusters: [{{name: a, cluster: {{server: "https://{NAME}:{listener.getsockname()[1]}", insecure-skip-tls-verify: true}}}}],
 users: [{{name: a, user: {{token: none}}}}],
 contexts: [{{name: a, context: {{cluster: a, user: a, namespace: a}}}}]}}
""",
    )
    program = subprocess.Popen(
        ["chroot", "--userspec=65532:65532", ROOT, "/dci-operator", "run"],
        env={
            "PATH": os.environ["PATH"],
            "KUBECONFIG": "/kubeconfig",
            "DCI_OPERATOR_HEALTH_ADDR": "127.0.0.1:0",
            "DCI_OPERATOR_METRICS_ADDR": "127.0.0.1:0",
        },
        stderr=subprocess.PIPE,
    )
    try:
        listener.accept()
        return 0
    except TimeoutError:
        print(f"nobody connected to {NAME} within {PATIENCE} seconds", file=sys.stderr)
        program.kill()
        print(program.communicate()[1].decode(errors="replace"), file=sys.stderr)
        return 1
    finally:
        program.kill()
        program.wait()


if __name__ == "__main__":
    sys.exit(main())

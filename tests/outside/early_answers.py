"""Responses before the end of an upload, with common clients: none may be lost.

    python3 tests/outside/early_answers.py [COUNT]     (for each of 32 combinations; 32 makes 1,024. Needs curl, node, httpx[http2], go)

Uploads of 9 MiB by curl, Node (fetch, and its http2), Python (httpx) and Go, over HTTP/1.1 and HTTP/2: the upstream answers 413 as soon
as it has the head, and reads on or closes its sending side; Weir itself answers 401 to an unknown caller; and the upstream's 401.
Prints the result of each, and ends with 1 if a response was lost.
"""

import collections
import concurrent.futures
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

import processes

MIB = 9
HERE = pathlib.Path(__file__).parent / "early"


def upstream(status: str, closes: bool) -> int:
    """Answers when it has a head. Then it reads to the client's end, or says first that it will send no more."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)

    def serve(connection):
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                more = connection.recv(65536)
                if not more:
                    return
                head += more
            body = b'{"error":{"message":"early","type":"invalid_request_error","code":null,"param":null}}'
            connection.sendall(
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body)
            if closes:
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(10)
            try:
                while connection.recv(1 << 20):
                    pass
            except OSError:
                pass

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def curl(url: str, version: str, count: int, file: str) -> list[str]:
    flags = ["--http2-prior-knowledge"] if version == "2" else ["--http1.1"]
    told = []
    for number in range(count):
        # Half of them do not wait for 100 Continue.
        expect = ["-H", "Expect:"] if number % 2 else []
        run = subprocess.run(
            ["curl", "-sS", "-o", os.devnull, "-w", "%{http_code}", "--max-time", "60", *flags, *expect, "-H", "Authorization: Bearer sk-none",
             "--data-binary", f"@{file}", url], capture_output=True, text=True, check=False)
        # curl says 0 for an answer that it has taken although it could not send all.
        told.append(run.stdout if run.returncode == 0 else f"curl {run.returncode}: {run.stderr.strip()} ({run.stdout})")
    return told


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    found, lost = collections.Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "body")
        file.write_bytes(b"x" * (MIB << 20))
        go = os.environ.get("GO") or shutil.which("go")
        if go is None:
            raise SystemExit("no go: install it, or name it in GO")
        uploader = pathlib.Path(folder, "upload")
        environment = {**os.environ, "GOCACHE": folder, "GOPATH": folder, "HOME": folder}
        subprocess.run([go, "build", "-o", uploader, HERE / "upload.go"], check=True, env=environment)
        programs = {
            "node": ["node", HERE / "fetch.mjs"], "python": [sys.executable, HERE / "upload.py"], "go": [uploader], "curl": None,
        }

        def run(client, url, version):
            if client == "curl":
                return curl(url, version, count, str(file))
            command = [*programs[client], url, version, str(count), str(MIB)]
            return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()

        callers = '[[callers]]\nname = "known"\nkey = "env:KNOWN"\n[upstream]\ncredential = "env:UPSTREAM"\n[server]\nallow_unknown_callers = false\n'
        cases = [
            ("413, reads on", upstream("413 Payload Too Large", False), None, "413"),
            ("413, closes", upstream("413 Payload Too Large", True), None, "413"),
            ("401, reads on", upstream("401 Unauthorized", False), None, "401"),
            ("Weir's own 401", upstream("200 OK", False), callers, "401"),
        ]
        for case, port, config, expected in cases:
            with processes.weir(f"http://127.0.0.1:{port}", config, {"KNOWN": "a-weir-key-of-its-own", "UPSTREAM": "a-key-of-the-upstream"}) as weir:
                with concurrent.futures.ThreadPoolExecutor(2) as pool:
                    ways = [(client, version) for client in programs for version in ("1.1", "2")]
                    runs = [pool.submit(run, client, f"{weir.url}/v1/files", version) for client, version in ways]
                    for (client, version), ended in zip(ways, runs):
                        told = ended.result()
                        good = sum(answer == expected for answer in told)
                        others = collections.Counter(answer for answer in told if answer != expected)
                        lost += count - good
                        found["all"] += count
                        print(f"{case:16} {client:6} HTTP/{version:3}: {good} of {count}" + (f" {dict(others)}" if others else ""), flush=True)
    print(f"lost: {lost} of {found['all']}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())

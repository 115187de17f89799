"""Restarts Weir again and again under load, behind a client that keeps its connections and retries refused connects.

    python3 tests/outside/restarts.py [RESTARTS]        (50; a second and a half each)

No accepted request may be lost: prints the result of each call, and ends with 1 if one was lost.
"""

import collections
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import processes

CALLERS, PAUSE = 30, 0.1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def upstream() -> int:
    """Answers whatever it is asked after 20 ms; half of the answers stream for 300 ms."""
    import http.server

    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            time.sleep(0.02)
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range(10 if "stream" in self.path else 1):
                self.wfile.write(b"2\r\nok\r\n")
                time.sleep(0.03 if "stream" in self.path else 0)
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def start(port: int, admin: int, behind: int) -> subprocess.Popen:
    environment = {"WEIR_SHUTDOWN__DRAIN_DELAY": os.environ.get("DRAIN_DELAY", "0s"), "WEIR_LOG__ACCESS": "false"}
    return subprocess.Popen(
        [processes.binary(), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--upstream", f"http://127.0.0.1:{behind}"],
        env=environment, stderr=subprocess.DEVNULL)


def call(connection, path):
    """One call: what became of it, and the connection to go on with."""
    while True:
        try:
            if connection.sock is None:
                connection.connect()
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
    try:
        connection.request("GET", path, headers={"Authorization": "Bearer none"})
        answer = connection.getresponse()
        answer.read()
        return "ok" if answer.status == 200 else f"status {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return f"lost: {type(error).__name__}"


def caller(port, number, outcomes, ended):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not ended.is_set():
        # As pools do: a connection that the other side has closed is not used again.
        if connection.sock is not None:
            connection.sock.setblocking(False)
            try:
                if connection.sock.recv(1, socket.MSG_PEEK) == b"":
                    connection.close()
            except BlockingIOError:
                connection.sock.settimeout(30)
            except OSError:
                connection.close()
        outcomes[call(connection, "/v1/models/stream" if number % 2 else "/v1/models")] += 1
        time.sleep(PAUSE)


def main() -> int:
    restarts = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    port, admin, behind = free_port(), free_port(), upstream()
    outcomes, ended = collections.Counter(), threading.Event()
    weir = start(port, admin, behind)
    callers = [threading.Thread(target=caller, args=(port, number, outcomes, ended)) for number in range(CALLERS)]
    for thread in callers:
        thread.start()
    codes = collections.Counter()
    for _ in range(restarts):
        time.sleep(1)
        weir.send_signal(signal.SIGTERM)
        codes[weir.wait(30)] += 1
        weir = start(port, admin, behind)
    time.sleep(1)
    ended.set()
    for thread in callers:
        thread.join()
    weir.terminate()
    weir.wait(30)
    print(f"{restarts} restarts, {sum(outcomes.values())} calls: {dict(outcomes)}; exit codes {dict(codes)}")
    return 0 if set(outcomes) == {"ok"} and set(codes) == {0} else 1


if __name__ == "__main__":
    sys.exit(main())

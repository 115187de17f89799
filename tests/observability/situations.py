"""The situations of check_situations.py: how each is made, and the sentence, the blame and the caller that the page must show.

A situation is a function that takes a `Place` and returns what is expected. What it starts ends with the place.
"""

import base64
import contextlib
import dataclasses
import http.server
import json
import os
import pathlib
import socket
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "outside"))

import processes  # noqa: E402

QUICK = '[log]\naccess = false\n[shutdown]\ndrain_delay = "0s"\ndrain_timeout = "1s"\n'
CALLERS = "".join(
    f'[[callers]]\nname = "{name}"\nheader = {{ name = "x-team", value = "{name}" }}\n' for name in ("chat", "search", "batch")
)
US, LIMITS, QUOTA = "It is us", "It is our limits", "It is our quota"
NETWORK, UPSTREAM, WEIR = "It is the way to the upstream", "It is them: the upstream", "It is Weir"
KEY, OLD_KEY = "sk-test-0123456789abcdef", "weir-key-of-before-0123456789"


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the page says first. `caller` must be in its sentence."""

    sentence: str
    blame: str | None
    caller: str | None = None
    words: tuple[str, ...] = ()


class Place(contextlib.ExitStack):
    """A simulator, a Weir before it, and load, all ended with the block."""

    def start(self, *options, config="", upstream=None, environment=None, quick=QUICK, callers=CALLERS):
        self.upstream = upstream or self.enter_context(processes.simulator(*(options if "--latency" in options else ("--latency", "30ms", *options))))
        self.weir = self.enter_context(processes.weir(self.upstream, config=config + quick + callers, environment=environment))
        return self

    def pool(self, **upstreams):
        """A Weir before several upstreams, by name."""
        members = "".join(f'[[upstreams]]\nname = "{name}"\nurl = "{url}"\npriority = {at}\n' for at, (name, url) in enumerate(upstreams.items()))
        self.weir = self.enter_context(processes.weir(None, config=members + QUICK + CALLERS))

    def turns(self, caller, lanes):
        """A WebSocket session that asks for a turn in each lane; nothing of it is read."""
        host, port = self.weir.url.removeprefix("http://").split(":")
        session = self.enter_context(socket.create_connection((host, int(port)), timeout=10))
        key = base64.b64encode(os.urandom(16)).decode()
        session.sendall((
            f"GET /v1/responses HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nAuthorization: Bearer {KEY}\r\nx-team: {caller}\r\nx-weir-deadline: 300s\r\n\r\n"
        ).encode())
        if b" 101 " not in session.recv(4096):
            raise RuntimeError("the session was refused")
        for lane in range(lanes):
            text = json.dumps({"type": "response.create", "stream_id": f"l{lane}", "model": "gpt-4o-mini", "store": False, "input": "Hi"}).encode()
            # A text frame of 126 to 65,535 bytes, masked with nothing, or a shorter one.
            length = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2, "big")
            session.sendall(b"\x81" + length + bytes(4) + text)

    def load(self, caller, per_second, simulate=None, model="gpt-4o-mini", words=20, key=KEY):
        """Requests of a caller at a rate until the block ends, each in a thread of its own; stops when told."""
        stop = threading.Event()
        self.callback(stop.set)
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}", "x-team": caller}
        if simulate:
            headers["x-simulate"] = simulate
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "What is a weir? " * words}]}).encode()

        def ask():
            message = urllib.request.Request(f"{self.weir.url}/v1/chat/completions", body, headers)
            with contextlib.suppress(OSError, urllib.error.HTTPError):
                with urllib.request.urlopen(message, timeout=60) as answer:
                    answer.read()

        def feed():
            while not stop.is_set():
                threading.Thread(target=ask, daemon=True).start()
                stop.wait(1 / per_second)

        threading.Thread(target=feed, daemon=True).start()
        return stop

    def set(self, **change):
        message = urllib.request.Request(f"{self.upstream}/simulate/set", json.dumps(change).encode(), method="POST")
        urllib.request.urlopen(message, timeout=10).close()

    def post(self, path):
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(urllib.request.Request(f"{self.weir.admin}{path}", method="POST"), timeout=10).close()


def healthy(place):
    place.start("--rpm", "6000")
    place.load("chat", 5)
    return Expected(r"^Healthy: nothing waits and nothing fails", None)


def requests_limit(place):
    place.start("--rpm", "60")
    for caller in ("chat", "search", "batch"):
        place.load(caller, 3)
    return Expected(r"^Waiting at our limit: .* for gpt-4o-mini \(60 requests per minute\)", LIMITS, words=("at the limit",))


def tokens_limit(place):
    place.start("--rpm", "none", "--tpm", "3000")
    for caller in ("chat", "search", "batch"):
        place.load(caller, 2, words=60)
    return Expected(r"^Waiting at our limit: .* for gpt-4o-mini \(3,000 tokens per minute\)", LIMITS)


def demand_above_limits(place):
    place.start("--rpm", "60", config='[admission]\nmax_wait = "2s"\n')
    for caller in ("chat", "search", "batch"):
        place.load(caller, 3)
    return Expected(r"^Demand exceeds our limits: Weir rejected .* \((mostly )?weir_deadline\)", LIMITS)


def one_caller_hogs(place):
    place.start("--rpm", "120")
    place.load("search", 0.5)
    time.sleep(3)
    place.load("chat", 25)
    return Expected(r"^chat asks for \d+ × its share of gpt-4o-mini \(120 requests per minute\)", US, "chat", ("The other callers are served",))


def in_flight_bound(place):
    place.start("--rpm", "none", "--tpm", "none", "--latency", "2s", config="[limits]\nin_flight = 2\nrequests_per_minute = 6000\n")
    for caller in ("chat", "search", "batch"):
        place.load(caller, 3)
    return Expected(r"^Waiting at our limit: .*limits\.in_flight: 2 requests in flight", LIMITS)


def others_use_the_limit(place):
    place.start("--rpm", "300", "--foreign", "0.7")
    for caller in ("chat", "search", "batch"):
        place.load(caller, 3)
    return Expected(r"^Others use \d+ % of requests per minute of gpt-4o-mini with the same credential", US)


def stated_limit_is_another(place):
    place.start("--rpm", "5000", config="[limits]\nrequests_per_minute = 30\n")
    place.load("chat", 4)
    return Expected(r"^The configuration states 30 requests per minute for gpt-4o-mini, the upstream tells 5,000", US)


def caller_limit(place):
    callers = CALLERS.replace('name = "chat"\n', 'name = "chat"\nmax_waiting = 3\n')
    place.start("--rpm", "60", callers=callers)
    place.load("search", 0.5)
    place.load("chat", 10)
    return Expected(r"chat reached the limit of waiting requests", US, "chat", ("callers.max_waiting",))


def ceiling_reached(place):
    callers = CALLERS.replace('name = "chat"\n', 'name = "chat"\nceiling = { requests_per_minute = 60 }\n')
    place.start("--rpm", "6000", callers=callers)
    place.load("search", 1)
    place.load("chat", 4)
    return Expected(r"of chat wait for its own ceiling: 60 requests per minute \(callers\.ceiling\)", US, "chat")


def budget_spent(place):
    callers = CALLERS.replace('name = "chat"\n', 'name = "chat"\ntokens_per_day = 500\n')
    place.start("--rpm", "6000", callers=callers)
    place.load("search", 1)
    place.load("chat", 4)
    return Expected(r"chat has spent its budget of 500 tokens a day", US, "chat", ("callers.tokens_per_day",))


def quota_spent(place):
    place.start()
    place.set(faults=["insufficient_quota=1"])
    place.load("chat", 5)
    return Expected(r"^The quota is spent for gpt-4o-mini since .* \(insufficient_quota\)", QUOTA)


def callers_key_refused(place):
    place.start()
    place.load("search", 2)
    place.load("chat", 5, simulate="error=invalid_api_key")
    return Expected(r"^The upstream refuses the key of chat: .* \(authentication_incorrect_key\)", US, "chat")


def own_key_refused(place):
    place.start("--fault", "invalid_api_key=1", config='[upstream]\ncredential = "env:KEY"\n', environment={"KEY": KEY})
    place.load("chat", 5)
    return Expected(r"^The upstream refuses Weir's own key \(upstream\.credential\)", US, "chat")


def unknown_key(place):
    gateway = '[server]\nallow_unknown_callers = false\n[upstream]\ncredential = "env:KEY"\n'
    callers = '[[callers]]\nname = "search"\nkey = "env:SEARCH_KEY"\n'
    place.start(config=gateway, callers=callers, environment={"KEY": KEY, "SEARCH_KEY": "weir-search-0123456789"})
    place.load("search", 5, key=OLD_KEY)
    return Expected(r"^Weir rejects keys that match no \[\[callers\]\] entry: .* from 127\.0\.0\.1\.", US)


def right_refused(place):
    place.start()
    place.load("search", 2)
    place.load("chat", 4, simulate="status=403")
    return Expected(r"requests of chat were rejected as invalid .* \(permission_denied\)", US, "chat")


def right_not_granted(place):
    callers = CALLERS.replace('name = "chat"\n', 'name = "chat"\nmodels = ["gpt-5*"]\n')
    place.start(callers=callers)
    place.load("search", 2)
    place.load("chat", 4)
    return Expected(r"requests of chat were refused .* Weir's configuration does not allow them: .*callers\[0\]\.models \(line \d+\)", US, "chat")


def model_not_found(place):
    place.start()
    place.load("search", 2)
    place.load("chat", 4, simulate="error=model_not_found")
    return Expected(r"requests of chat were rejected as invalid .* \(model_not_found\)", US, "chat")


def context_too_long(place):
    place.start()
    place.load("search", 2)
    place.load("chat", 4, simulate="error=context_length_exceeded")
    return Expected(r"requests of chat were rejected as invalid .* \(context_length_exceeded\)", US, "chat")


def upstream_refuses_connections(place):
    place.start(upstream=f"http://127.0.0.1:{processes.free_port()}")
    place.load("chat", 8)
    return Expected(r"(refuses connections|did not reach the upstream) ?.*\(connection_refused\)", NETWORK)


def tls_fails(place):
    clear = place.enter_context(processes.simulator())
    place.start(upstream=clear.replace("http://", "https://"))
    place.load("chat", 8)
    return Expected(r"(the TLS handshake with .* fails|did not reach the upstream) ?.*\(connection_tls\)", NETWORK)


def outage(place):
    place.start("--fault", "503=1")
    place.load("chat", 10)
    return Expected(r"^The upstream has been failing since .*overloaded", UPSTREAM)


def part_of_it_fails(place):
    place.start("--fault", "500=0.3")
    place.load("chat", 10)
    return Expected(r"^\d+ attempts failed at the upstream .*internal_server_error", UPSTREAM)


def silence(place):
    place.start("--rpm", "none", "--tpm", "none", "--headers", "none", "--latency", "50s")
    place.load("chat", 20)
    return Expected(r"^Waiting for the upstream to answer: ", UPSTREAM)


def reload_refused(place):
    place.start()
    place.load("chat", 2)
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(QUICK)
        file.flush()
        port, admin = processes.free_port(), processes.free_port()
        command = [processes.binary(), "run", "--config", file.name, "--upstream", place.upstream]
        command += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
        place.enter_context(processes.process(command, ports=[port, admin]))
        place.weir = processes.Weir(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}")
        pathlib.Path(file.name).write_text("[retry]\nbase = 'soon'\n")
        place.post("/reload")
    return Expected(r"^The last configuration was rejected; .*:2:8: retry\.base", WEIR)


def pool_member_out(place):
    first = place.enter_context(processes.simulator("--fault", "503=1"))
    place.pool(first=first, second=place.enter_context(processes.simulator("--rpm", "6000")))
    place.load("chat", 10)
    return Expected(r"^first gets no requests since .* \(overloaded\); the other upstreams serve", UPSTREAM)


def token_expired(place):
    """An endpoint that gives one token of two seconds, and then fails."""
    given = []

    class Endpoint(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps({"access_token": "token-0123456789", "token_type": "Bearer", "expires_in": 2}).encode()
            self.send_response(503 if given else 200)
            given.append(self.path)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    place.callback(server.shutdown)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    exchange = f'[[exchanges]]\nname = "openai"\nurl = "http://127.0.0.1:{server.server_port}/token"\nsubject_token = "env:KEY"\n'
    exchange += 'identity_provider_id = "idp_1"\nservice_account_id = "sa_1"\n'
    place.start(config='[upstream]\ncredential = "exchange:openai"\n' + exchange, environment={"KEY": KEY})
    place.load("chat", 2)
    return Expected(r"^The exchange openai gives no new token; the last one ended .* ago", US)


def websocket_turns(place):
    place.start("--rpm", "60", config="[limits]\nrequests_per_minute = 60\n")
    place.turns("chat", 8)
    place.turns("search", 8)
    place.turns("batch", 8)
    return Expected(r"^Waiting at our limit: .* for gpt-4o-mini \(60 requests per minute\)", LIMITS)


def draining(place):
    place.start("--latency", "20s", quick='[shutdown]\ndrain_delay = "20s"\ndrain_timeout = "1s"\n')
    place.load("chat", 2)
    time.sleep(1)
    place.post("/drain")
    return Expected(r"^Weir is draining: ", WEIR)


def replicas_apart(place):
    place.start(config='[replicas]\nredis = "env:REDIS"\nexpected = 2\n', environment={"REDIS": "redis://127.0.0.1:1"})
    place.load("chat", 2)
    return Expected(r"^Replicas have not agreed since the start", US)


def observing(place):
    place.start(config='mode = "observe"\n')
    place.load("chat", 2)
    return Expected(r"^Weir only observes", "Nobody’s fault")


ALL = [
    healthy, requests_limit, tokens_limit, demand_above_limits, one_caller_hogs, in_flight_bound, others_use_the_limit,
    stated_limit_is_another, caller_limit, quota_spent, callers_key_refused, own_key_refused, unknown_key, right_refused, right_not_granted,
    ceiling_reached, budget_spent, model_not_found, context_too_long, upstream_refuses_connections, tls_fails, outage, part_of_it_fails, silence, reload_refused,
    pool_member_out, token_expired, websocket_turns, draining, replicas_apart, observing,
]  # fmt: skip


class Slowly:
    """Two that take minutes: answers that become slow, and a refused key that works again. They run beside the others."""

    def __init__(self, stack):
        self.slow, self.recovered = (stack.enter_context(Place()).start() for _ in range(2))
        self.slow.load("chat", 3)
        refused = self.recovered.load("chat", 5, simulate="error=invalid_api_key")
        threading.Timer(5, refused.set).start()
        threading.Timer(6, lambda: self.recovered.load("chat", 3)).start()
        self.began = time.monotonic()

    def situations(self):
        """What is to be shown once enough time has gone by."""
        time.sleep(max(0.0, 190 - (time.monotonic() - self.began)))
        self.slow.set(latency="4s")
        yield "recovered", self.recovered, Expected(r"^Healthy", None, "chat", ("Recovered: the upstream refused the key of chat", "last at"))
        yield "slow", self.slow, Expected(r"^Answers of gpt-4o-mini take .* to begin, usually \d+ ms", UPSTREAM)

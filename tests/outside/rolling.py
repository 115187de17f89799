"""Rolling restarts of two Weirs behind haproxy and nginx, under load: no client may see a 5xx or a broken connection.

    python3 tests/outside/rolling.py [ROUNDS]      (3; each restarts both, one after the other. NGINX and HAPROXY may name the programs)

A Weir is told to end by SIGTERM, drains, and is started again on its port once it has ended, as an orchestrator does. The balancer
learns of it as it would there: haproxy polls `/readyz`, nginx notices a refused connection. Prints the result of each call.
"""

import collections
import http.client
import signal
import subprocess
import sys
import threading
import time

import balancers
import processes
import restarts

CALLERS, PAUSE, DRAIN_DELAY = 24, 0.05, "1s"


def start(port: int, admin: int, behind: int) -> subprocess.Popen:
    environment = {"WEIR_SHUTDOWN__DRAIN_DELAY": DRAIN_DELAY, "WEIR_LOG__ACCESS": "false"}
    weir = subprocess.Popen(
        [processes.binary(), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--upstream", f"http://127.0.0.1:{behind}"],
        env=environment, stderr=subprocess.DEVNULL)
    processes.wait_for(port, weir)
    return weir


def caller(port: int, number: int, outcomes: collections.Counter, ended: threading.Event) -> None:
    path = "/v1/models/stream" if number % 2 else "/v1/models"
    while not ended.is_set():
        # A balancer closes its own connections as it likes: each call has a new one, so that what is lost was lost behind it.
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", path, headers={"Authorization": "Bearer none"})
            answer = connection.getresponse()
            body = answer.read()
            outcomes[200 if answer.status == 200 else f"{answer.status} {answer.headers.get('x-weir-error-class', 'of the balancer')} {body[:60]!r}"] += 1
        except (OSError, http.client.HTTPException) as error:
            outcomes[type(error).__name__] += 1
        connection.close()
        time.sleep(PAUSE)


def roll(name: str, rounds: int) -> bool:
    behind = restarts.upstream()
    ports = [(processes.free_port(), processes.free_port()) for _ in range(2)]
    weirs = [start(port, admin, behind) for port, admin in ports]
    listen, admin = [port for port, _ in ports], [port for _, port in ports]
    ways = {
        "haproxy": lambda: balancers.haproxy(listen, 30, health=admin),
        "nginx": lambda: balancers.nginx(listen, 30),
        "nginx, keep-alive": lambda: balancers.nginx(listen, 30, keep_alive=True),
    }
    outcomes, ended, codes = collections.Counter(), threading.Event(), collections.Counter()
    with ways[name]() as port:
        time.sleep(1)
        callers = [threading.Thread(target=caller, args=(port, number, outcomes, ended)) for number in range(CALLERS)]
        for thread in callers:
            thread.start()
        for _ in range(rounds):
            for index, weir in enumerate(weirs):
                # Longer than a balancer holds a server that came back for failed.
                time.sleep(3)
                weir.send_signal(signal.SIGTERM)
                codes[weir.wait(60)] += 1
                weirs[index] = start(*ports[index], behind)
        time.sleep(1)
        ended.set()
        for thread in callers:
            thread.join()
    for weir in weirs:
        processes.end(weir)
    print(f"{name}: {2 * rounds} restarts, {sum(outcomes.values())} calls: {dict(outcomes)}; exit codes {dict(codes)}", flush=True)
    return set(outcomes) == {200} and set(codes) == {0}


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    return 0 if all([roll(name, rounds) for name in ("haproxy", "nginx", "nginx, keep-alive")]) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Deployments of Redis: over TCP, TLS or a socket, behind sentinels that fail over, and as a cluster."""

import contextlib
import os
import pathlib
import subprocess
import time

from group import PASSWORD, Redis
from processes import free_port

# How long a primary must be gone before it is replaced, in milliseconds.
GONE = 700


class Socket(Redis):
    """A server on a socket of this machine."""

    def url(self, port: int | None = None) -> str:
        return f"unix://:{self.password}@{self.folder}/socket"

    def start(self, *options: str) -> None:
        super().start("--unixsocket", f"{self.folder}/socket", *options)


class Acl(Redis):
    """A user that may do what docs/operations.md lists, and nothing else."""

    def url(self, port: int | None = None) -> str:
        return f"redis://weir:{PASSWORD}-acl@127.0.0.1:{self.port}/0"

    def start(self, *options: str) -> None:
        super().start(*options)
        rights = "+evalsha +eval +time +hmget +hset +hdel +hscan +pexpire +zadd +zrem +zcard +zrange +zrangebyscore +select"
        self.ask("acl", "setuser", "weir", "on", f">{PASSWORD}-acl", "resetkeys", "~{weir}:*", "-@all", *rights.split())


class Tls(Redis):
    """A server that wants TLS and a certificate of its clients, both by an authority of the test's own."""

    settings = 'roots = "file:{0}/ca.crt"\nclient_cert = "{0}/one.crt"\nclient_key = "{0}/one.key"\n'

    def url(self, port: int | None = None) -> str:
        return f"rediss://:{self.password}@localhost:{self.tls}/0"

    def start(self, *options: str) -> None:
        folder = pathlib.Path(self.folder)
        if not (folder / "one.crt").exists():
            certificates(folder)
        self.tls = getattr(self, "tls", None) or free_port()
        files = ("--tls-cert-file", "one.crt", "--tls-key-file", "one.key", "--tls-ca-cert-file", "ca.crt")
        named = [str(folder / word) if word.endswith((".crt", ".key")) else word for word in files]
        super().start("--tls-port", str(self.tls), "--tls-auth-clients", "yes", *named, *options)


def certificates(folder: pathlib.Path) -> None:
    """ca.crt, and one.crt with one.key that it vouches for."""
    run = lambda *words: subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)  # noqa: E731
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test authority")
    run("req", *new, "-keyout", "one.key", "-out", "one.csr", "-subj", "/CN=localhost")
    sign = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    run("x509", "-req", "-in", "one.csr", "-out", "one.crt", *sign)


class Several(Redis):
    """Several servers in folders of their own, of which one is the primary that counts."""

    def __init__(self, folder: str, *, server: str = "redis-server"):
        super().__init__(folder, server=server)
        self.servers: list[Redis] = []

    def add(self, *options: str) -> Redis:
        folder = f"{self.folder}/{len(self.servers)}"
        os.makedirs(folder, exist_ok=True)
        one = Redis(folder, server=self.server)
        # The bus of a cluster listens 10,000 above.
        while one.port > 55_000:
            one.port = free_port()
        one.start("--masterauth", PASSWORD, *options)
        self.servers.append(one)
        return one

    def primary(self) -> Redis:
        for one in self.servers:
            with contextlib.suppress(subprocess.CalledProcessError):
                if "role:master" in one.ask("info", "replication") and self.counts(one):
                    return one
        raise RuntimeError("no server is the primary")

    def counts(self, one: Redis) -> bool:
        return True

    def fail_over(self) -> None:
        self.primary().kill()

    def ask(self, *words: str) -> str:
        return self.primary().ask(*words)

    def kill(self) -> None:
        for one in self.servers:
            one.kill()


class Sentinels(Several):
    """A primary with a replica, and three sentinels that make the replica the primary when the other is gone."""

    def url(self, port: int | None = None) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis-sentinel://:{PASSWORD}@{hosts}/0#main"

    def start(self, *options: str) -> None:
        first = self.add(*options)
        self.add("--replicaof", f"127.0.0.1 {first.port}", *options)
        self.ports, self.watching = [free_port() for _ in range(3)], []
        for port in self.ports:
            file = pathlib.Path(self.folder) / f"sentinel-{port}.conf"
            lines = [f"port {port}", "bind 127.0.0.1", f"dir {self.folder}", f"sentinel monitor main 127.0.0.1 {first.port} 2"]
            lines += [f"sentinel auth-pass main {PASSWORD}", f"sentinel down-after-milliseconds main {GONE}"]
            lines += ["sentinel failover-timeout main 3000"]
            file.write_text("\n".join(lines) + "\n")
            command = [self.server, str(file), "--sentinel"]
            self.watching.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        wait(lambda: self.seen_by(self.ports[0]), "the sentinels see each other and the replica")

    def seen_by(self, port: int) -> bool:
        command = ["redis-cli", "-p", str(port), "sentinel", "master", "main"]
        said = subprocess.run(command, capture_output=True, text=True).stdout.split()
        facts = dict(zip(said[::2], said[1::2]))
        return facts.get("num-other-sentinels") == "2" and facts.get("num-slaves") == "1"

    def kill(self) -> None:
        super().kill()
        for one in getattr(self, "watching", []):
            one.kill()
            one.wait()


class Cluster(Several):
    """Three primaries, each with a replica that takes its place."""

    def url(self, port: int | None = None) -> str:
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.servers[:3])
        return f"redis-cluster://:{PASSWORD}@{hosts}"

    def start(self, *options: str) -> None:
        for _ in range(6):
            self.add("--cluster-enabled", "yes", "--cluster-node-timeout", str(GONE), *options)
        hosts = [f"127.0.0.1:{one.port}" for one in self.servers]
        command = ["redis-cli", "--cluster", "create", *hosts, "--cluster-replicas", "1", "--cluster-yes"]
        environment = {**os.environ, "REDISCLI_AUTH": PASSWORD}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
        wait(lambda: all("cluster_state:ok" in one.ask("cluster", "info") for one in self.servers), "the cluster is whole")
        self.slot = int(self.servers[0].ask("cluster", "keyslot", "{weir}:replicas"))

    def counts(self, one: Redis) -> bool:
        """Whether it serves the group's slot."""
        mine = next(line.split() for line in one.ask("cluster", "nodes").splitlines() if "myself" in line)
        ranges = [word.split("-") for word in mine[8:] if word[0].isdigit()]
        return any(int(of[0]) <= self.slot <= int(of[-1]) for of in ranges)


def wait(holds, what: str) -> None:
    give_up = time.monotonic() + 20
    while not holds():
        if time.monotonic() > give_up:
            raise RuntimeError(f"not so after 20 s: {what}")
        time.sleep(0.1)

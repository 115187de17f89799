"""nginx and haproxy in front of one or more servers.

Their programs are NGINX and HAPROXY, or those of the PATH.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile

import processes


def program(name: str) -> str:
    found = os.environ.get(name.upper()) or shutil.which(name) or shutil.which(f"/usr/sbin/{name}")
    if not found:
        raise SystemExit(f"no {name}: install it, or name it in {name.upper()}")
    return found


@contextlib.contextmanager
def nginx(servers: list[int], timeout: float = 60, keep_alive: bool = False):
    """nginx on a port of its own, which it yields; it gives up on a server that is silent for `timeout` seconds."""
    port = processes.free_port()
    upstream = "".join(f"server 127.0.0.1:{server} max_fails=1 fail_timeout=1s; " for server in servers)
    reuse = 'proxy_http_version 1.1; proxy_set_header Connection "";' if keep_alive else ""
    with tempfile.TemporaryDirectory() as folder:
        paths = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        pathlib.Path(folder, "nginx.conf").write_text(f"""
            daemon off; pid {folder}/pid; error_log stderr warn; worker_processes 1;
            events {{ worker_connections 4096; }}
            http {{
                access_log off; {paths} client_max_body_size 64m;
                upstream weir {{ {upstream} {"keepalive 32;" if keep_alive else ""} }}
                server {{
                    listen 127.0.0.1:{port};
                    location / {{ proxy_pass http://weir; proxy_read_timeout {timeout}s; {reuse} }}
                }}
            }}""")
        command = [program("nginx"), "-p", folder, "-e", "stderr", "-c", f"{folder}/nginx.conf"]
        with processes.process(command, ports=[port], quiet=True):
            yield port


@contextlib.contextmanager
def haproxy(servers: list[int], timeout: float = 60, health: list[int] | None = None):
    """The same with haproxy; `health` are the servers' ports that it asks for `/readyz`."""
    port = processes.free_port()
    check = "option httpchk GET /readyz" if health else ""
    lines = "\n".join(
        f"    server s{index} 127.0.0.1:{server}" + (f" check port {health[index]} inter 200ms fall 1 rise 1" if health else "")
        for index, server in enumerate(servers)
    )
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
        file.write(f"""
defaults
    mode http
    timeout connect 2s
    timeout client {timeout}s
    timeout server {timeout}s
    retries 3
    option redispatch
frontend front
    bind 127.0.0.1:{port}
    default_backend weir
backend weir
    {check}
    default-server init-addr none
{lines}
""")
        file.flush()
        with processes.process([program("haproxy"), "-f", file.name], ports=[port], quiet=True):
            yield port

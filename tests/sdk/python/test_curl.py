"""Calls with curl, direct and through Weir."""

import json
import pathlib
import subprocess

from conftest import KEY


def curl(*arguments):
    """Status and body of one call."""
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}", *arguments]
    finished = subprocess.run(command, capture_output=True, check=True)
    body, _, status = finished.stdout.rpartition(b"\n")
    return int(status), body


def bearer():
    return ["--header", f"Authorization: Bearer {KEY}"]


def as_json(body):
    return ["--header", "Content-Type: application/json", "--data", json.dumps(body)]


CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say three words."}]}


def test_chat(base_url):
    status, body = curl(f"{base_url}/chat/completions", *bearer(), *as_json(CHAT))
    assert status == 200
    assert json.loads(body)["choices"][0]["message"]["content"]


def test_stream(base_url):
    status, body = curl("--no-buffer", f"{base_url}/chat/completions", *bearer(), *as_json({**CHAT, "stream": True}))
    assert status == 200
    assert body.startswith(b"data: {")
    assert body.rstrip().endswith(b"data: [DONE]")


def test_compressed(base_url):
    status, body = curl("--compressed", f"{base_url}/chat/completions", *bearer(), *as_json(CHAT))
    assert status == 200
    assert json.loads(body)["object"] == "chat.completion"


def test_http2_with_prior_knowledge(weir):
    status, body = curl("--http2-prior-knowledge", f"{weir.url}/v1/chat/completions", *bearer(), *as_json(CHAT))
    assert status == 200
    assert json.loads(body)["object"] == "chat.completion"


def test_upload_and_download(base_url, tmp_path: pathlib.Path):
    file = tmp_path / "rivers.bin"
    file.write_bytes(bytes(range(256)) * 1000)
    status, body = curl(f"{base_url}/files", *bearer(), "--form", "purpose=user_data", "--form", f"file=@{file}")
    assert status == 200
    uploaded = json.loads(body)["id"]
    assert curl(f"{base_url}/files/{uploaded}/content", *bearer()) == (200, file.read_bytes())
    assert curl("--request", "DELETE", f"{base_url}/files/{uploaded}", *bearer())[0] == 200


def test_head(base_url):
    """A HEAD has no body, whatever it would have been."""
    command = ["curl", "--silent", "--head", "--max-time", "20", f"{base_url}/models", *bearer()]
    head = subprocess.run(command, capture_output=True, check=True).stdout
    assert head.startswith(b"HTTP/1.1 ")


def test_a_body_that_is_not_json_passes(base_url):
    """Weir prices it as one request; what it means is the upstream's to say."""
    status, _ = curl(f"{base_url}/chat/completions", *bearer(), "--header", "Content-Type: application/json", "--data", "{not json")
    assert status == 400

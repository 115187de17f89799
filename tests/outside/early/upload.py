"""python3 upload.py URL VERSION COUNT MIB: uploads as often, one after the other, and prints a status or an error for each."""

import sys

import httpx

url, version, count, mib = sys.argv[1:]
body = b"x" * (int(mib) << 20)
with httpx.Client(http1=version == "1.1", http2=version == "2", timeout=60) as client:
    for _ in range(int(count)):
        try:
            print(client.post(url, content=body, headers={"Authorization": "Bearer sk-none"}).status_code, flush=True)
        except httpx.HTTPError as error:
            print(f"{type(error).__name__}: {error}", flush=True)

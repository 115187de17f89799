// Failures over real sockets, with the SDK's own retries switched on: outages, a flaky upstream, a spent quota, broken streams.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";

import { simulator, weir } from "./processes.mjs";

const KEY = "sk-test-0123456789abcdef";
const ASK = { model: "gpt-4o-mini", messages: [{ role: "user", content: "Say three words about rivers." }] };
const RATE = 40;

async function through({ upstream = [], environment = {} }, body) {
  const behind = await simulator(...upstream);
  try {
    const proxy = await weir(behind.url, environment);
    try {
      return await body(behind, proxy);
    } finally {
      await proxy.end();
    }
  } finally {
    await behind.end();
  }
}

/** A client with its default retries, and what it sent. */
function caller(proxy) {
  const sent = { requests: 0, repeated: 0 };
  const count = (url, options) => {
    sent.requests += 1;
    sent.repeated += new Headers(options.headers).get("x-stainless-retry-count") !== "0";
    return fetch(url, options);
  };
  return { client: new OpenAI({ baseURL: `${proxy.url}/v1`, apiKey: KEY, fetch: count }), sent };
}

async function offer(client, rate, count) {
  const began = performance.now();
  const calls = [];
  for (let number = 0; number < count; number += 1) {
    await sleep(Math.max(0, began + (number * 1000) / rate - performance.now()));
    const at = performance.now();
    // The timeout is told to Weir only when it is given with the request.
    const call = client.chat.completions.create(ASK, { timeout: 60_000 });
    calls.push(
      call.then(
        () => ({ ok: true, took: performance.now() - at }),
        (error) => ({ ok: false, error, took: performance.now() - at }),
      ),
    );
  }
  return Promise.all(calls);
}

const stats = async (behind) => (await fetch(`${behind.url}/simulate/stats`)).json();
const change = (behind, body) => fetch(`${behind.url}/simulate/set`, { method: "POST", body: JSON.stringify(body) });

for (const kind of ["503", "refused"]) {
  test(`ten seconds of ${kind} cost no call`, { concurrency: true }, () =>
    through({ upstream: ["--latency", "50ms"] }, async (behind, proxy) => {
      const { client, sent } = caller(proxy);
      await offer(client, RATE, RATE);
      await change(behind, { outages: [`0s+10s:${kind}`] });
      const calls = await offer(client, RATE, RATE * 15);
      const lost = calls.filter((call) => !call.ok);
      assert.equal(lost.length, 0, `${lost[0]?.error}`);
      assert.equal(sent.repeated, 0, "no retries of the SDK's own");
    }));
}

test("a flaky upstream is hardly noticed", () =>
  through(
    { upstream: ["--latency", "20ms", ...["500", "503", "reset", "html-502"].map((name) => `--fault=${name}=0.0625`)] },
    async (behind, proxy) => {
      const { client, sent } = caller(proxy);
      const calls = await offer(client, 100, 500);
      assert.ok(calls.filter((call) => call.ok).length >= 498);
      assert.equal(sent.repeated, 0);
    },
  ));

test("total failure is not multiplied", () =>
  through(
    { upstream: ["--fault=500=1"], environment: { WEIR_BREAKER__ENABLED: "false" } },
    async (behind, proxy) => {
      const { client, sent } = caller(proxy);
      const calls = await offer(client, 200, 1000);
      const { requests } = await stats(behind);
      assert.ok(calls.every((call) => call.error instanceof OpenAI.InternalServerError));
      assert.ok(requests <= 1100, `${requests} attempts for 1000 calls`);
      assert.equal(sent.repeated, 0);
    },
  ));

test("a spent quota costs one attempt and its probes", () =>
  through({ upstream: ["--fault=insufficient_quota=1"] }, async (behind, proxy) => {
    const { client, sent } = caller(proxy);
    await offer(client, 1, 1);
    const calls = await offer(client, 200, 1000);
    assert.ok(calls.every((call) => call.error?.code === "insufficient_quota"), `${calls.find((call) => call.ok)}`);
    // Beside the first, probes after 2, 4 and 8 s more. 200 calls take five seconds, and less than 30 on a busy machine.
    const { requests } = await stats(behind);
    assert.ok(requests <= 4, `${requests}`);
    assert.equal(sent.repeated, 0);
  }));

for (const fault of ["reset-mid-body"]) {
  test(`a stream that meets ${fault} raises`, () =>
    through({}, async (behind, proxy) => {
      const { client } = caller(proxy);
      const headers = { "x-simulate": `fault=${fault}; chunks=20; chunk-delay=10ms` };
      const stream = await client.chat.completions.create({ ...ASK, stream: true }, { headers });
      await assert.rejects(async () => {
        for await (const chunk of stream) assert.ok(chunk);
      });
    }));
}

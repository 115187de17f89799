// Errors are the same through Weir as direct, and Weir's retries never multiply with the SDK's.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI from "openai";

import { simulator, weir } from "./processes.mjs";

const KEY = "sk-test-0123456789abcdef";
const MESSAGES = [{ role: "user", content: "Say three words about rivers." }];
const ROWS = [
  ["invalid_value", OpenAI.BadRequestError],
  ["context_length_exceeded", OpenAI.BadRequestError],
  ["invalid_api_key", OpenAI.AuthenticationError],
  ["no_organization", OpenAI.AuthenticationError],
  ["missing_scope", OpenAI.AuthenticationError],
  ["unsupported_country_region_territory", OpenAI.PermissionDeniedError],
  ["model_not_found", OpenAI.NotFoundError],
  ["conflict", OpenAI.ConflictError],
  ["unprocessable", OpenAI.UnprocessableEntityError],
  ["request_too_large", OpenAI.RateLimitError],
  ["insufficient_quota", OpenAI.RateLimitError],
  ["server_error", OpenAI.InternalServerError],
  ["server_is_overloaded", OpenAI.InternalServerError],
  ["html-502", OpenAI.InternalServerError],
  ["overloaded_error", OpenAI.InternalServerError],
];

let upstream;

before(async () => {
  upstream = await simulator();
});

after(async () => {
  await upstream?.end();
});

/** A Weir of its own for each test: breakers and budgets that it learns die with it. */
async function throughWeir(body) {
  const proxy = await weir(upstream.url);
  try {
    return await body(proxy.url);
  } finally {
    await proxy.end();
  }
}

async function ask(url, simulate, options = {}) {
  let sent = 0;
  const client = new OpenAI({
    baseURL: `${url}/v1`,
    apiKey: KEY,
    maxRetries: 0,
    timeout: 30_000,
    fetch: (...request) => ((sent += 1), fetch(...request)),
    ...options,
  });
  // Node tells Weir its timeout only when it is given with the request.
  const perRequest = { headers: { "x-simulate": simulate }, timeout: options.deadline ?? 30_000 };
  try {
    await client.chat.completions.create({ model: "gpt-4o-mini", messages: MESSAGES }, perRequest);
  } catch (error) {
    return { error, sent };
  }
  return { error: undefined, sent };
}

for (const [name, expected] of ROWS) {
  test(`${name} is the same`, () =>
    throughWeir(async (url) => {
      const direct = (await ask(upstream.url, `error=${name}`)).error;
      const through = (await ask(url, `error=${name}`, { deadline: 3_000 })).error;
      assert.ok(direct instanceof expected, `direct: ${direct}`);
      assert.ok(through instanceof expected, `through Weir: ${through}`);
      for (const member of ["status", "code", "type", "param", "message"]) {
        assert.deepEqual(through[member], direct[member], member);
      }
    }));
}

test("what Weir gave up on the SDK does not try again", () =>
  throughWeir(async (url) => {
    assert.equal((await ask(upstream.url, "status=500", { maxRetries: 2 })).sent, 3);
    const { error, sent } = await ask(url, "status=500", { maxRetries: 2 });
    assert.ok(error instanceof OpenAI.InternalServerError, `${error}`);
    assert.equal(sent, 1);
    assert.equal(error.headers.get("x-should-retry"), "false");
  }));

test("a spent quota is tried once", () =>
  throughWeir(async (url) => {
    const { error, sent } = await ask(url, "error=insufficient_quota", { maxRetries: 2 });
    assert.equal(error.code, "insufficient_quota");
    assert.equal(sent, 1);
  }));

test("no answer becomes an answer", () =>
  throughWeir(async (url) => {
    const direct = (await ask(upstream.url, "fault=reset-before-head")).error;
    assert.ok(direct instanceof OpenAI.APIConnectionError, `${direct}`);
    const through = (await ask(url, "fault=reset-before-head", { deadline: 3_000 })).error;
    assert.equal(through.status, 502);
    assert.equal(through.type, "weir_error");
  }));

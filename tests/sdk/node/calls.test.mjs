// Common calls with the npm package, direct and through Weir.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import OpenAI, { toFile } from "openai";

import { simulator, weir } from "./processes.mjs";

const KEY = "sk-test-0123456789abcdef";
const MODEL = "gpt-4o-mini";
const MESSAGES = [{ role: "user", content: "Say three words about rivers." }];

let upstream;
let proxy;

before(async () => {
  upstream = await simulator();
  proxy = await weir(upstream.url);
});

after(async () => {
  await proxy?.end();
  await upstream?.end();
});

for (const way of ["direct", "weir"]) {
  describe(way, () => {
    const client = () =>
      new OpenAI({
        baseURL: `${way === "direct" ? upstream.url : proxy.url}/v1`,
        apiKey: KEY,
        maxRetries: 0,
        timeout: 20_000,
      });

    test("models", async () => {
      const models = [];
      for await (const model of client().models.list()) models.push(model.id);
      assert.ok(models.length > 0);
    });

    test("chat", async () => {
      const completion = await client().chat.completions.create({ model: MODEL, messages: MESSAGES });
      assert.ok(completion.choices[0].message.content);
      assert.ok(completion._request_id);
    });

    test("stream", async () => {
      const stream = await client().chat.completions.create({
        model: MODEL,
        messages: MESSAGES,
        stream: true,
        stream_options: { include_usage: true },
      });
      let text = "";
      let usage;
      for await (const chunk of stream) {
        text += chunk.choices[0]?.delta.content ?? "";
        usage = chunk.usage ?? usage;
      }
      assert.ok(text);
      assert.ok(usage.total_tokens > 0);
    });

    test("embeddings, decoded from base64 and as numbers", async () => {
      const input = ["one", "two"];
      const decoded = await client().embeddings.create({ model: "text-embedding-3-small", input });
      assert.equal(decoded.data.length, 2);
      assert.ok(decoded.data[0].embedding.every(Number.isFinite));
      const numbers = await client().embeddings.create({
        model: "text-embedding-3-small",
        input,
        encoding_format: "float",
      });
      assert.ok(numbers.data[1].embedding.every(Number.isFinite));
    });

    test("responses", async () => {
      const created = await client().responses.create({ model: MODEL, input: "Say three words." });
      assert.ok(created.output_text);
      assert.equal((await client().responses.retrieve(created.id)).id, created.id);
      await client().responses.delete(created.id);
      await assert.rejects(client().responses.retrieve(created.id), OpenAI.NotFoundError);
    });

    test("responses, streamed", async () => {
      const stream = await client().responses.create({ model: MODEL, input: "Words.", stream: true, store: false });
      const types = [];
      for await (const event of stream) types.push(event.type);
      assert.equal(types[0], "response.created");
      assert.equal(types.at(-1), "response.completed");
    });

    test("files", async () => {
      const content = Buffer.alloc(300_000, "water ");
      const uploaded = await client().files.create({ file: await toFile(content, "a.txt"), purpose: "user_data" });
      assert.equal(uploaded.bytes, content.length);
      const download = await client().files.content(uploaded.id);
      assert.deepEqual(Buffer.from(await download.arrayBuffer()), content);
      assert.equal((await client().files.delete(uploaded.id)).deleted, true);
    });
  });
}

// Sessions over WebSocket with the npm package, direct and through Weir.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import OpenAI from "openai";
import { ResponsesWS } from "openai/resources/responses/ws";

import { simulator, weir } from "./processes.mjs";

const LANES = ["a", "b", "c", "d"];

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
    test("turns on several lanes", { timeout: 30_000 }, async () => {
      const baseURL = `${way === "direct" ? upstream.url : proxy.url}/v1`;
      const session = new ResponsesWS(new OpenAI({ baseURL, apiKey: "sk-test-0123456789abcdef" }));
      const done = new Set();
      await new Promise((resolve, reject) => {
        session.on("error", reject);
        session.on("event", (event) => {
          if (event.type !== "response.completed") return;
          done.add(event.stream_id);
          if (done.size === LANES.length) resolve();
        });
        const socket = session.socket.platformSocket ?? session.socket;
        const ask = () => {
          for (const lane of LANES) {
            session.send({ type: "response.create", stream_id: lane, model: "gpt-4o", store: false, input: "Hi" });
          }
        };
        if (socket.readyState === 1) ask();
        else socket.addEventListener("open", ask);
      });
      session.close();
      assert.deepEqual([...done].sort(), LANES);
    });
  });
}

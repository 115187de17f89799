// node fetch.mjs URL VERSION COUNT MIB: uploads as often, one after the other, and prints a status or an error for each.
import http2 from "node:http2";

const [url, version, count, mib] = process.argv.slice(2);
const body = Buffer.alloc(Number(mib) << 20, "x");
const headers = { authorization: "Bearer sk-none", "content-type": "application/octet-stream" };

async function overHttp1() {
  const answer = await fetch(url, { method: "POST", body, headers });
  await answer.arrayBuffer();
  return answer.status;
}

function overHttp2() {
  return new Promise((resolve, reject) => {
    const { origin, pathname } = new URL(url);
    const session = http2.connect(origin);
    session.on("error", reject);
    const stream = session.request({ ":method": "POST", ":path": pathname, ...headers });
    let status;
    stream.on("response", (answer) => (status = answer[":status"]));
    // After an early answer the server resets the stream: what counts is that the answer came before.
    stream.on("error", (error) => (status ? undefined : reject(error)));
    stream.on("close", () => (session.close(), status ? resolve(status) : reject(new Error("closed without an answer"))));
    stream.resume();
    stream.end(body);
  });
}

for (let number = 0; number < Number(count); number++) {
  try {
    console.log(await (version === "2" ? overHttp2() : overHttp1()));
  } catch (error) {
    console.log(`${error.message}: ${error.cause?.code ?? error.code ?? ""}`);
  }
}

// Starts Weir and the simulator on ports of their own, and ends them. The binary is WEIR_BIN.
import { spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const READY_WITHIN_MS = 20_000;
const END_WITHIN_MS = 20_000;
// Every key that the suites use looks like this; whatever a process prints, none may be in it.
const ANY_KEY = /sk-[A-Za-z0-9_-]{12,}/;

/** A simulator of the API, with further options. */
export async function simulator(...further) {
  const port = await freePort();
  const options = ["--listen", `127.0.0.1:${port}`, "--rpm", "1000000", "--tpm", "1000000000", ...further];
  const child = await start(["simulate", ...options], [port]);
  return { url: `http://127.0.0.1:${port}`, end: () => end(child) };
}

/** A Weir before `upstream`, with further variables. */
export async function weir(upstream, environment = {}) {
  const [port, admin] = [await freePort(), await freePort()];
  const options = ["--upstream", upstream, "--listen", `127.0.0.1:${port}`, "--admin", `127.0.0.1:${admin}`];
  const child = await start(["run", ...options], [port, admin], environment);
  return { url: `http://127.0.0.1:${port}`, admin: `http://127.0.0.1:${admin}`, end: () => end(child) };
}

async function start(options, ports, environment = {}) {
  const binary = process.env.WEIR_BIN;
  if (!binary) throw new Error("WEIR_BIN names no binary");
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("WEIR_")));
  const child = spawn(binary, options, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...inherited, WEIR_SHUTDOWN__DRAIN_DELAY: "0s", WEIR_SHUTDOWN__DRAIN_TIMEOUT: "1s", ...environment },
  });
  for (const stream of [child.stdout, child.stderr]) {
    let last = "";
    stream.setEncoding("utf8").on("data", (text) => {
      if (ANY_KEY.test(last + text)) child.printedAKey = true;
      last = text.slice(-100);
    });
  }
  let failure;
  child.once("error", (error) => (failure = error));
  try {
    const giveUp = Date.now() + READY_WITHIN_MS;
    for (const port of ports) {
      while (!(await listens(port))) {
        if (failure) throw failure;
        if (child.exitCode !== null) throw new Error(`weir ${options[0]} ended with ${child.exitCode}`);
        if (Date.now() > giveUp) throw new Error(`weir ${options[0]} does not listen on ${port}`);
        await sleep(20);
      }
    }
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
  return child;
}

async function end(child) {
  if (child.exitCode === null) {
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    const kill = setTimeout(() => child.kill("SIGKILL"), END_WITHIN_MS);
    await ended;
    clearTimeout(kill);
  }
  if (child.printedAKey) throw new Error("weir printed a key");
}

function listens(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.once("connect", () => (socket.destroy(), resolve(true)));
    socket.once("error", () => resolve(false));
  });
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

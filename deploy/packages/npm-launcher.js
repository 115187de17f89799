#!/usr/bin/env node
// Runs the binary for this processor in place of this process; where Node cannot do that, beside it, with its signals.
"use strict";

const path = require("node:path");
const { spawn } = require("node:child_process");

const binary = path.join(__dirname, "bin", process.arch, "weir");
const args = process.argv.slice(2);

if (typeof process.execve === "function") {
  process.removeAllListeners("warning");
  process.on("warning", () => {});
  process.execve(binary, [binary, ...args], process.env);
}

const child = spawn(binary, args, { stdio: "inherit" });
child.on("error", (error) => {
  console.error(`weir: cannot run ${binary}: ${error.message}`);
  process.exit(1);
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("exit", (code, signal) => {
  if (signal) {
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  } else {
    process.exit(code);
  }
});

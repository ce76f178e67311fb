#!/usr/bin/env node
// Starts the program that this file is linked as, from the package of this platform, and ends as it ends.
"use strict";

const { spawn } = require("node:child_process");
const { constants } = require("node:os");
const path = require("node:path");

const program = path.basename(__filename, ".js");
let file;
try {
  file = require.resolve(`legwork-${process.platform}-${process.arch}/bin/${program}`);
} catch {
  console.error(`error: legwork has no programs for ${process.platform} on ${process.arch}`);
  process.exit(1);
}
const child = spawn(file, process.argv.slice(2), { stdio: "inherit" });
// A terminal sends SIGINT to both; other signals come to this process alone.
for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
process.on("SIGINT", () => {});
child.on("error", (error) => {
  console.error(`error: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));

// A GCS JSON API for tests from firebase-tools' storage emulator, without its rules engine (which would download a jar and needs Java).
// node gcs-firebase.mjs NODE_DIR HOST PORT
import { createRequire } from "node:module";
const [dir, host, port] = process.argv.slice(2);
const require = createRequire(dir + "/node_modules/firebase-tools/package.json");
const { StorageEmulator } = require("./lib/emulator/storage/index.js");
const { EmulatorRegistry } = require("./lib/emulator/registry.js");
const { createApp } = require("./lib/emulator/storage/server.js");
EmulatorRegistry.url = () => new URL(`http://${host}:${port}/`);
const e = new StorageEmulator({ projectId: "test", host, port: Number(port), rules: { name: "x", content: "" } });
e._cloudFunctions.dispatch = async () => {};
(await createApp("test", e)).listen(Number(port), host);

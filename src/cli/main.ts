#!/usr/bin/env node
/** Starts the `holdfast` command, with its largest file as compiled at an earlier start. */
import { join } from "node:path";
import { keepCompiled } from "./compiled-code.ts";

keepCompiled(join(import.meta.dirname, "chunks", "start.js"));
// Not before: it is what needs that file.
void import("./command.ts").then(({ runProcess }) => runProcess());

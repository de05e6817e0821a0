/**
 * A client of an S3 or WebDAV server that costs next to nothing itself: signed requests over kept connections.
 *
 *     node s3-client.js put|get ENDPOINT CLIENTS COUNT BYTES PATH      objects PATH/object-N
 *     node s3-client.js bucket|folder ENDPOINT 1 0 0 PATH              makes PATH, by PUT or MKCOL
 */
import { createHash, createHmac } from "node:crypto";
import { Agent, request } from "node:http";

const [action = "", endpoint = "", clients = "1", count = "1", bytes = "0", place = ""] = process.argv.slice(2);
const { hostname, port, host } = new URL(endpoint);
const agent = new Agent({ keepAlive: true, maxSockets: Number(clients) });
const user = process.env["BENCH_USER"] ?? "";
const secret = process.env["BENCH_PASSWORD"] ?? "";
const sha256 = (data: string | Uint8Array): string => createHash("sha256").update(data).digest("hex");
const hmac = (key: string | Uint8Array, text: string): Buffer => createHmac("sha256", key).update(text).digest();

/** AWS Signature Version 4. */
function signed(method: string, path: string, payload: string): Record<string, string> {
  const time = new Date().toISOString().replaceAll(/[-:]|\.\d+/gu, "");
  const day = time.slice(0, 8);
  const scope = `${day}/us-east-1/s3/aws4_request`;
  const headers = `host:${host}\nx-amz-content-sha256:${payload}\nx-amz-date:${time}\n`;
  const names = "host;x-amz-content-sha256;x-amz-date";
  const text = `AWS4-HMAC-SHA256\n${time}\n${scope}\n${sha256([method, path, "", headers, names, payload].join("\n"))}`;
  const key = hmac(hmac(hmac(hmac(`AWS4${secret}`, day), "us-east-1"), "s3"), "aws4_request");
  const signature = hmac(key, text).toString("hex");
  return {
    "x-amz-date": time,
    "x-amz-content-sha256": payload,
    authorization: `AWS4-HMAC-SHA256 Credential=${user}/${scope}, SignedHeaders=${names}, Signature=${signature}`,
  };
}

function send(method: string, path: string, body?: Uint8Array): Promise<Buffer> {
  const headers = {
    ...signed(method, path, body === undefined ? sha256("") : "UNSIGNED-PAYLOAD"),
    ...(body === undefined ? {} : { "content-length": body.length }),
  };
  return new Promise((resolve, reject) => {
    const call = request({ hostname, port, method, path, headers, agent }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const answer = Buffer.concat(chunks);
        if (response.statusCode === 200 || response.statusCode === 201) resolve(answer);
        else reject(new Error(`${method} ${path}: ${response.statusCode} ${answer.toString().slice(0, 300)}`));
      });
    });
    call.on("error", reject);
    call.end(body);
  });
}

/** Every object's bytes are its own, and known. */
function contentOf(index: number): Buffer {
  return Buffer.alloc(Number(bytes), `${index}.`);
}

if (action === "bucket" || action === "folder") {
  await send(action === "bucket" ? "PUT" : "MKCOL", place, new Uint8Array());
} else {
  let next = 0;
  const client = async (): Promise<void> => {
    while (next < Number(count)) {
      const index = next++;
      const path = `${place}/object-${index}`;
      if (action === "put") await send("PUT", path, contentOf(index));
      else if (!(await send("GET", path)).equals(contentOf(index))) throw new Error(`${path}: wrong bytes`);
    }
  };
  await Promise.all(Array.from({ length: Number(clients) }, client));
}
agent.destroy();

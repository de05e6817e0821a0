// node _s3-mkbucket.mjs URL BUCKET ACCESS SECRET [REGION]: create a bucket (path style, SigV4, no dependencies)
import { createHash, createHmac } from "node:crypto";
const [url, bucket, ak, sk, region = "us-east-1"] = process.argv.slice(2);
const h = (k, d) => createHmac("sha256", k).update(d).digest(),
  sha = (d) => createHash("sha256").update(d).digest("hex");
const u = new URL("/" + bucket, url),
  date = new Date().toISOString().replace(/[-:]|\.\d+/g, ""),
  day = date.slice(0, 8),
  body = sha("");
const hdr = { host: u.host, "x-amz-content-sha256": body, "x-amz-date": date },
  names = Object.keys(hdr).sort();
const canon = ["PUT", u.pathname, "", ...names.map((n) => n + ":" + hdr[n]), "", names.join(";"), body].join("\n");
const scope = `${day}/${region}/s3/aws4_request`;
const sig = h(
  h(h(h(h("AWS4" + sk, day), region), "s3"), "aws4_request"),
  ["AWS4-HMAC-SHA256", date, scope, sha(canon)].join("\n"),
).toString("hex");
const r = await fetch(u, {
  method: "PUT",
  headers: {
    ...hdr,
    authorization: `AWS4-HMAC-SHA256 Credential=${ak}/${scope}, SignedHeaders=${names.join(";")}, Signature=${sig}`,
  },
});
if (!r.ok && r.status !== 409) {
  console.error(r.status, await r.text());
  process.exit(1);
}

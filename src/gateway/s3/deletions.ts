/** Many objects deleted by one request. */
import { forEachBounded } from "../../support/bounded.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import { errorTags, sendXml } from "./answers.ts";
import type { Buckets } from "./buckets.ts";
import { takeWhole } from "./call.ts";
import type { Call } from "./call.ts";
import { holding } from "./objects.ts";
import { S3Error, toS3Error } from "./s3-error.ts";
import { parseXml, tag } from "./xml.ts";

/** Objects that are deleted at the same time: the ledger takes what comes at one time in one write to each store. */
const DELETES_AT_ONCE = 256;

export class Deletions {
  readonly #context: GatewayContext;
  readonly #buckets: Buckets;

  constructor(context: GatewayContext, buckets: Buckets) {
    this.#context = context;
    this.#buckets = buckets;
  }

  async deleteMany(call: Call): Promise<void> {
    const { exchange, bucket } = call;
    const text = await takeWhole(call);
    await this.#buckets.require(call);
    const document = await parseXml(text, "Delete");
    const objects = document.all("Object");
    const quiet = document.text("Quiet") === "true";
    if (objects.length === 0 || objects.length > 1000) {
      throw new S3Error("MalformedXML", "from 1 to 1,000 objects are deleted at a time");
    }
    const keys = objects.map((object) => {
      const key = object.text("Key");
      const version = object.text("VersionId");
      if (key === undefined) throw new S3Error("MalformedXML", "an object without a key");
      if (key === "") throw new S3Error("UserKeyMustBeSpecified", "a key of no characters");
      for (const condition of ["LastModifiedTime", "Size"]) {
        if (object.text(condition) !== undefined)
          throw new S3Error("NotImplemented", `a delete takes no ${condition}; it takes an ETag`);
      }
      return { key, version, ifMatch: object.text("ETag") };
    });
    const results: string[] = keys.map(() => "");
    const remove = async (index: number): Promise<void> => {
      const { key, version, ifMatch } = keys[index] ?? { key: "" };
      try {
        if (version !== undefined && version !== "null")
          throw new S3Error("NoSuchVersion", "objects have one version, null");
        this.#buckets.checkKey(bucket, key);
        const name = this.#buckets.nameOf(bucket, key);
        const onlyIf = ifMatch === undefined ? undefined : holding({ ifMatch });
        const result = await this.#context.store.delete(name, { signal: exchange.signal, onlyIf });
        noteWrite(this.#context, exchange, name, result);
        const versionTag = tag("VersionId", version);
        results[index] = quiet ? "" : `<Deleted>${tag("Key", key)}${versionTag}</Deleted>`;
      } catch (error) {
        exchange.failed(error);
        results[index] = `<Error>${tag("Key", key)}${errorTags(toS3Error(error))}</Error>`;
      }
    };
    await forEachBounded(keys.keys(), DELETES_AT_ONCE, remove, exchange.signal);
    sendXml(exchange, "DeleteResult", results.join(""));
  }
}

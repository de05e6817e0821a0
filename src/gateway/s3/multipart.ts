/** Multipart uploads: begun, filled with parts, completed, aborted and listed. */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { throwIfAborted } from "../../contract/errors.ts";
import { compareNames } from "../../contract/names.ts";
import type { Body, ChangeCondition, ObjectMetadata } from "../../contract/store.ts";
import type { XmlElement } from "../../support/xml.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import type { Exchange } from "../exchange.ts";
import { encodePath, percentEncode } from "../../support/signature-v4.ts";
import { send } from "../http-tools.ts";
import { OWNER, isoDate, sendXml, withKeepAlive } from "./answers.ts";
import type { Buckets } from "./buckets.ts";
import { takeWhole } from "./call.ts";
import type { Call } from "./call.ts";
import type { ChecksumAlgorithm } from "./checksums.ts";
import { askedAlgorithm, checksumAlgorithms, createChecksum } from "./checksums.ts";
import type { Copies } from "./copies.ts";
import { takeObject } from "./incoming-object.ts";
import { checksumMetadata, checksumTags, requestMetadata } from "./object-headers.ts";
import { MAX_PUT_BYTES, changeCondition } from "./objects.ts";
import { encoder, maxKeys, prefixesXml } from "./paging.ts";
import { MAX_PART_NUMBER, partNumber, partsMetadata } from "./part-sizes.ts";
import { S3Error } from "./s3-error.ts";
import type { PartFacts, Upload, Uploads } from "./uploads.ts";
import { parseXml, tag } from "./xml.ts";

/** Smallest part but the last: S3's own limit, 5 MiB. */
const MIN_PART_BYTES = 5 * 1024 ** 2;
/** Completed uploads that are remembered. */
const COMPLETED_KEPT = 1000;

export class Multipart {
  readonly #context: GatewayContext;
  readonly #buckets: Buckets;
  readonly #copies: Copies;
  readonly #uploads: Uploads;
  /** Uploads that are being completed. */
  readonly #completing = new Map<string, Promise<unknown>>();
  /** Uploads completed a short while ago, for clients that lost the answer: what was asked, and what was stored. */
  readonly #completed = new Map<string, { readonly asked: string; readonly metadata: ObjectMetadata }>();

  constructor(context: GatewayContext, buckets: Buckets, copies: Copies, uploads: Uploads) {
    this.#context = context;
    this.#buckets = buckets;
    this.#copies = copies;
    this.#uploads = uploads;
  }

  async create(call: Call): Promise<void> {
    const { exchange, bucket, key } = call;
    await takeWhole(call);
    await this.#buckets.require(call);
    const algorithm = askedAlgorithm(exchange);
    const upload = await this.#uploads.create({
      bucket,
      key,
      metadata: requestMetadata(exchange),
      ...(algorithm ? { algorithm, fullObject: isOfFullObject(exchange, algorithm) } : {}),
    });
    if (algorithm) {
      exchange.response.setHeader("x-amz-checksum-algorithm", algorithm.toUpperCase());
      exchange.response.setHeader("x-amz-checksum-type", upload.fullObject ? "FULL_OBJECT" : "COMPOSITE");
    }
    sendXml(
      exchange,
      "InitiateMultipartUploadResult",
      tag("Bucket", bucket) + tag("Key", key) + tag("UploadId", upload.id),
    );
  }

  async putPart(call: Call, uploadId: string): Promise<void> {
    const { exchange, bucket, key, query } = call;
    const number = partNumber(query.get("partNumber"));
    await this.#buckets.require(call);
    const upload = await this.#uploads.find(uploadId, bucket, key);
    if (exchange.request.headers["x-amz-copy-source"] !== undefined) return this.#copies.copyPart(call, upload, number);
    const incoming = await takeObject(exchange, call.auth.payload, MAX_PUT_BYTES, {
      algorithm: upload.algorithm,
    });
    let part: PartFacts;
    try {
      const facts = (): Pick<PartFacts, "md5" | "checksums"> => ({
        md5: incoming.md5(),
        checksums: incoming.checksums(),
      });
      part = await this.#uploads.putPart(upload, number, incoming.body, facts, exchange.signal);
    } catch (error) {
      const problem = incoming.problem();
      throw problem === undefined ? error : problem;
    }
    exchange.fields["bytes"] = part.size;
    send(exchange, 200, { ETag: `"${part.md5}"`, ...checksumMetadata(incoming) });
  }

  /**
   * Makes an upload an object. Requests that ask for the same at the same time, or again because the answer was lost, get
   * the same answer.
   */
  async complete(call: Call, uploadId: string): Promise<void> {
    const { exchange, bucket, key } = call;
    const onlyIf = changeCondition(exchange);
    const text = await takeWhole(call, true);
    await this.#buckets.require(call);
    const listed = listedParts(await parseXml(text, "CompleteMultipartUpload"));
    const asked = JSON.stringify([bucket, key, listed.map(({ number, etag }) => [number, etag])]);
    await withKeepAlive(exchange, "CompleteMultipartUploadResult", async () => {
      for (;;) {
        const running = this.#completing.get(uploadId);
        if (running === undefined) break;
        // The other request may fail, and this one still succeed.
        await running.catch(() => undefined);
        throwIfAborted(exchange.signal);
      }
      const before = this.#completed.get(uploadId);
      if (before?.asked === asked) return completedXml(call, before.metadata);
      const work = this.#complete(call, uploadId, listed, onlyIf);
      this.#completing.set(uploadId, work);
      try {
        const metadata = await work;
        if (this.#completed.size >= COMPLETED_KEPT) {
          const [oldest = ""] = this.#completed.keys();
          this.#completed.delete(oldest);
        }
        this.#completed.set(uploadId, { asked, metadata });
        return completedXml(call, metadata);
      } finally {
        this.#completing.delete(uploadId);
      }
    });
  }

  /** Gives the metadata that the object is stored with. */
  async #complete(
    { exchange, bucket, key }: Call,
    uploadId: string,
    listed: readonly ListedPart[],
    onlyIf: ChangeCondition | undefined,
  ): Promise<ObjectMetadata> {
    const upload = await this.#uploads.find(uploadId, bucket, key);
    const name = this.#buckets.nameOf(bucket, key);
    return this.#uploads.complete(upload, async (stored, bodyOf) => {
      const parts = chooseParts(listed, stored);
      checkSize(exchange, parts);
      const md5s = Buffer.concat(parts.map((part) => Buffer.from(part.md5, "hex")));
      const etag = `${createHash("md5").update(md5s).digest("hex")}-${parts.length}`;
      const body = bodyOf(parts);
      const metadata = {
        ...upload.metadata,
        etag,
        ...partsMetadata(parts.map((part) => part.size)),
        ...(await wholeChecksum(exchange, upload, parts, body)),
      };
      const result = await this.#context.store.put(name, body, { signal: exchange.signal, metadata, onlyIf });
      noteWrite(this.#context, exchange, name, result);
      exchange.fields["bytes"] = result.size;
      return metadata;
    });
  }

  async abort(call: Call, uploadId: string): Promise<void> {
    await this.#buckets.require(call);
    await this.#uploads.abort(await this.#uploads.find(uploadId, call.bucket, call.key));
    send(call.exchange, 204);
  }

  async listParts(call: Call, uploadId: string): Promise<void> {
    const { exchange, bucket, key, query } = call;
    await this.#buckets.require(call);
    const upload = await this.#uploads.find(uploadId, bucket, key);
    const max = maxKeys(query.get("max-parts"));
    const marker = maxKeys(query.get("part-number-marker") ?? "0", MAX_PART_NUMBER);
    const parts = (await this.#uploads.parts(upload)).filter((part) => part.number > marker);
    const page = parts.slice(0, max);
    const rest = parts.length > page.length;
    sendXml(
      exchange,
      "ListPartsResult",
      tag("Bucket", bucket) +
        tag("Key", key) +
        tag("UploadId", upload.id) +
        `<Initiator>${OWNER}</Initiator><Owner>${OWNER}</Owner>` +
        tag("StorageClass", "STANDARD") +
        tag("PartNumberMarker", marker) +
        (rest ? tag("NextPartNumberMarker", page.at(-1)?.number) : "") +
        tag("MaxParts", max) +
        tag("IsTruncated", rest) +
        page
          .map(
            (part) =>
              `<Part>${tag("PartNumber", part.number)}${tag("LastModified", isoDate(part.modifiedMs))}` +
              `${tag("ETag", `"${part.md5}"`)}${tag("Size", part.size)}` +
              `${Object.entries(part.checksums)
                .map(([name, value]) => tag(`Checksum${name.toUpperCase()}`, value))
                .join("")}</Part>`,
          )
          .join(""),
    );
  }

  async list(call: Call): Promise<void> {
    const { exchange, bucket, query } = call;
    const prefix = query.get("prefix") ?? "";
    const delimiter = query.get("delimiter") ?? "";
    const keyMarker = query.get("key-marker") ?? "";
    const idMarker = query.get("upload-id-marker") ?? "";
    const max = maxKeys(query.get("max-uploads"));
    const encode = encoder(query);
    const all = await this.#uploads.list(bucket);
    const marked = all.findIndex((upload) => upload.id === idMarker);
    const uploads: Upload[] = [];
    const prefixes: string[] = [];
    let rest = false;
    let last: { key: string; id: string } = { key: "", id: "" };
    for (const [index, upload] of all.entries()) {
      if (!upload.key.startsWith(prefix)) continue;
      const order = keyMarker === "" ? 1 : compareNames(upload.key, keyMarker);
      if (order < 0 || (order === 0 && (marked === -1 || index <= marked))) continue;
      const cut = delimiter === "" ? -1 : upload.key.indexOf(delimiter, prefix.length);
      const common = cut === -1 ? undefined : upload.key.slice(0, cut + delimiter.length);
      if (common !== undefined && (prefixes.at(-1) === common || keyMarker.startsWith(common))) continue;
      if (uploads.length + prefixes.length >= max) {
        rest = true;
        break;
      }
      if (common === undefined) uploads.push(upload);
      else prefixes.push(common);
      last = common === undefined ? { key: upload.key, id: upload.id } : { key: common, id: "" };
    }
    sendXml(
      exchange,
      "ListMultipartUploadsResult",
      tag("Bucket", bucket) +
        tag("KeyMarker", encode(keyMarker)) +
        tag("UploadIdMarker", idMarker) +
        (rest ? tag("NextKeyMarker", encode(last.key)) + tag("NextUploadIdMarker", last.id) : "") +
        tag("Prefix", encode(prefix)) +
        (delimiter === "" ? "" : tag("Delimiter", encode(delimiter))) +
        tag("MaxUploads", max) +
        tag("EncodingType", query.get("encoding-type")) +
        tag("IsTruncated", rest) +
        uploads
          .map(
            (upload) =>
              `<Upload>${tag("Key", encode(upload.key))}${tag("UploadId", upload.id)}` +
              `<Initiator>${OWNER}</Initiator><Owner>${OWNER}</Owner>${tag("StorageClass", "STANDARD")}` +
              `${tag("Initiated", isoDate(upload.createdMs))}</Upload>`,
          )
          .join("") +
        prefixesXml(prefixes, encode),
    );
  }
}

interface ListedPart {
  readonly number: number;
  readonly etag: string;
  readonly checksums: readonly { readonly algorithm: ChecksumAlgorithm; readonly value: string }[];
}

/** The parts that a request to complete an upload names. Throws MalformedXML. */
function listedParts(document: XmlElement): ListedPart[] {
  const listed = document.all("Part").map((part) => {
    const number = part.text("PartNumber") ?? "";
    if (!/^\d{1,5}$/u.test(number)) throw new S3Error("MalformedXML", "a part without a number");
    for (const name of ["ChecksumSHA512", "ChecksumMD5", "ChecksumXXHASH64", "ChecksumXXHASH3", "ChecksumXXHASH128"]) {
      if (part.all(name).length > 0) throw new S3Error("NotImplemented", `${name} is not supported`);
    }
    return {
      number: Number(number),
      etag: (part.text("ETag") ?? "").replaceAll('"', ""),
      checksums: checksumAlgorithms.flatMap((algorithm) => {
        const value = part.text(`Checksum${algorithm.toUpperCase()}`);
        return value === undefined ? [] : [{ algorithm, value }];
      }),
    };
  });
  if (listed.length === 0) throw new S3Error("MalformedXML", "an upload is completed with at least one part");
  return listed;
}

function completedXml({ exchange, bucket, key }: Call, metadata: ObjectMetadata): string {
  const location = `http://${exchange.request.headers.host ?? ""}/${percentEncode(bucket)}/${encodePath(key)}`;
  return (
    tag("Location", location) +
    tag("Bucket", bucket) +
    tag("Key", key) +
    tag("ETag", `"${metadata["etag"] ?? ""}"`) +
    checksumTags(metadata)
  );
}

/** Whether the checksum of a new upload is that of its bytes. Throws InvalidRequest for what the algorithm cannot be. */
function isOfFullObject({ request }: Exchange, algorithm: ChecksumAlgorithm): boolean {
  const type = request.headers["x-amz-checksum-type"]?.toString().toUpperCase();
  if (type !== undefined && type !== "FULL_OBJECT" && type !== "COMPOSITE")
    throw new S3Error("InvalidRequest", "x-amz-checksum-type is FULL_OBJECT or COMPOSITE");
  if (algorithm === "crc64nvme" && type === "COMPOSITE")
    throw new S3Error("InvalidRequest", "the checksum CRC64NVME is of the full object");
  return type === "FULL_OBJECT" || algorithm === "crc64nvme";
}

/** Throws InvalidRequest where the client says another size than its parts have. */
function checkSize({ request }: Exchange, parts: readonly PartFacts[]): void {
  const said = request.headers["x-amz-mp-object-size"];
  const size = parts.reduce((sum, part) => sum + part.size, 0);
  if (said !== undefined && said !== String(size))
    throw new S3Error("InvalidRequest", `the parts have ${size} bytes, not as many as x-amz-mp-object-size says`);
}

function chooseParts(listed: readonly ListedPart[], stored: readonly PartFacts[]): PartFacts[] {
  const byNumber = new Map(stored.map((part) => [part.number, part]));
  let previous = 0;
  return listed.map(({ number, etag, checksums }, index) => {
    if (number <= previous) throw new S3Error("InvalidPartOrder", "the parts are not in ascending order");
    previous = number;
    const part = byNumber.get(number);
    if (!part || part.md5 !== etag) throw new S3Error("InvalidPart", `part ${number} is not there with this ETag`);
    for (const { algorithm, value } of checksums) {
      if (part.checksums[algorithm] !== undefined && part.checksums[algorithm] !== value) {
        throw new S3Error("InvalidPart", `part ${number} has another ${algorithm}`);
      }
    }
    if (part.size < MIN_PART_BYTES && index < listed.length - 1) {
      throw new S3Error(
        "EntityTooSmall",
        `part ${number} has ${part.size} bytes; only the last one may have less than 5 MiB`,
      );
    }
    return part;
  });
}

/** The checksum that the finished upload is kept with; throws BadDigest where the client gives another. */
async function wholeChecksum(
  exchange: Exchange,
  upload: Upload,
  parts: readonly PartFacts[],
  body: Body,
): Promise<ObjectMetadata> {
  const type = exchange.request.headers["x-amz-checksum-type"]?.toString().toUpperCase();
  const given = checksumAlgorithms.find((one) => exchange.request.headers[`x-amz-checksum-${one}`] !== undefined);
  const algorithm = upload.algorithm ?? given;
  if (!algorithm) return {};
  const sum = createChecksum(algorithm);
  const composite = upload.fullObject !== true && parts.every((part) => part.checksums[algorithm] !== undefined);
  if (composite) for (const part of parts) sum.update(Buffer.from(part.checksums[algorithm] ?? "", "base64"));
  else for await (const chunk of body.open()) sum.update(chunk);
  const value = sum.digest().toString("base64") + (composite ? `-${parts.length}` : "");
  if (type !== undefined && type !== (composite ? "COMPOSITE" : "FULL_OBJECT"))
    throw new S3Error("InvalidRequest", "x-amz-checksum-type is not the one that the upload was begun with");
  const header = exchange.request.headers[`x-amz-checksum-${algorithm}`];
  if (header !== undefined && header !== value && header !== value.replace(/-\d+$/u, "")) {
    throw new S3Error("BadDigest", `the object's ${algorithm} is not the one that the client gives`);
  }
  return { [`x-amz-checksum-${algorithm}`]: value, "x-amz-checksum-type": composite ? "COMPOSITE" : "FULL_OBJECT" };
}

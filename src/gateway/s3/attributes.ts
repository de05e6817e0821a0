/** GetObjectAttributes: facts about an object that a client names one by one. */
import type { PoolObjectInfo } from "../../contract/pool.ts";
import type { Exchange } from "../exchange.ts";
import { etagOf } from "../object-facts.ts";
import { sendXml } from "./answers.ts";
import { checksumTags } from "./object-headers.ts";
import { maxKeys } from "./paging.ts";
import { partSizes, partsCount } from "./part-sizes.ts";
import { S3Error } from "./s3-error.ts";
import { tag } from "./xml.ts";

const attributes: Readonly<Record<string, (info: PoolObjectInfo, exchange: Exchange) => string>> = {
  ETag: (info) => tag("ETag", etagOf(info)),
  Checksum: ({ metadata }) => {
    const sums = checksumTags(metadata);
    return sums === "" ? "" : `<Checksum>${sums}</Checksum>`;
  },
  ObjectParts: partsXml,
  StorageClass: () => tag("StorageClass", "STANDARD"),
  ObjectSize: (info) => tag("ObjectSize", info.size),
};

export function sendAttributes(exchange: Exchange, info: PoolObjectInfo): void {
  const asked = (exchange.request.headers["x-amz-object-attributes"]?.toString() ?? "")
    .split(",")
    .map((one) => one.trim());
  const unknown = asked.find((name) => !Object.hasOwn(attributes, name));
  if (unknown !== undefined)
    throw new S3Error("InvalidArgument", "x-amz-object-attributes names what is no attribute of an object");
  exchange.response.setHeader("Last-Modified", new Date(info.modifiedMs ?? 0).toUTCString());
  const found = Object.entries(attributes).filter(([name]) => asked.includes(name));
  sendXml(exchange, "GetObjectAttributesResponse", found.map(([, xml]) => xml(info, exchange)).join(""));
}

function partsXml({ metadata }: PoolObjectInfo, { request }: Exchange): string {
  const count = partsCount(metadata);
  if (count === undefined) return "";
  const marker = maxKeys(request.headers["x-amz-part-number-marker"]?.toString() ?? "0", Number.MAX_SAFE_INTEGER);
  const max = maxKeys(request.headers["x-amz-max-parts"]?.toString());
  const sizes = partSizes(metadata) ?? [];
  const page = sizes.slice(marker, marker + max);
  const rest = sizes.length > marker + page.length;
  return (
    `<ObjectParts>${tag("PartsCount", count)}${tag("PartNumberMarker", marker)}` +
    (rest ? tag("NextPartNumberMarker", marker + page.length) : "") +
    tag("MaxParts", max) +
    tag("IsTruncated", rest) +
    page.map((size, index) => `<Part>${tag("PartNumber", marker + index + 1)}${tag("Size", size)}</Part>`).join("") +
    "</ObjectParts>"
  );
}

/** Objects that were uploaded in parts: read by their parts' numbers, with checksums, completed by several requests. */
import { randomBytes } from "node:crypto";
import {
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  GetObjectAttributesCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListPartsCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import type { ChecksumAlgorithm, CompleteMultipartUploadCommandOutput, CompletedPart } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { credential, startTestGateways } from "../helpers/gateways.ts";
import type { TestGateways } from "../helpers/gateways.ts";
import { deferred } from "../helpers/gate.ts";

const MiB = 1024 * 1024;
const Bucket = "bucket";
const bodies = [randomBytes(5 * MiB), randomBytes(5 * MiB), randomBytes(77)];
const whole = Buffer.concat(bodies);
let gateways: TestGateways;
let open: TestGateways;
let s3: S3Client;

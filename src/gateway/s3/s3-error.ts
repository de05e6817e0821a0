/** Errors of the S3 protocol, with the code that clients know. */
import { isHoldfastError } from "../../contract/errors.ts";
import type { ErrorCode } from "../../contract/errors.ts";
import { ClientError, clientMessage, statusOf } from "../http-tools.ts";

/** S3's codes that this gateway answers with, and their statuses. */
const statuses = {
  AccessDenied: 403,
  AuthorizationHeaderMalformed: 400,
  AuthorizationQueryParametersError: 400,
  BadDigest: 400,
  BucketAlreadyOwnedByYou: 409,
  BucketNotEmpty: 409,
  ConditionalRequestConflict: 409,
  EntityTooLarge: 400,
  EntityTooSmall: 400,
  IncompleteBody: 400,
  InsufficientStorage: 507,
  InternalError: 500,
  InvalidAccessKeyId: 403,
  InvalidArgument: 400,
  InvalidBucketName: 400,
  InvalidDigest: 400,
  InvalidPart: 400,
  InvalidPartNumber: 416,
  InvalidPartOrder: 400,
  InvalidRange: 416,
  InvalidRequest: 400,
  InvalidStorageClass: 400,
  InvalidURI: 400,
  KeyTooLongError: 400,
  MalformedXML: 400,
  MetadataTooLarge: 400,
  MethodNotAllowed: 405,
  MissingContentLength: 411,
  MissingSecurityHeader: 400,
  NoSuchBucket: 404,
  NoSuchBucketPolicy: 404,
  NoSuchCORSConfiguration: 404,
  NoSuchKey: 404,
  NoSuchLifecycleConfiguration: 404,
  NoSuchTagSet: 404,
  NoSuchUpload: 404,
  NoSuchVersion: 404,
  NoSuchWebsiteConfiguration: 404,
  NotImplemented: 501,
  ObjectLockConfigurationNotFoundError: 404,
  OperationAborted: 409,
  PreconditionFailed: 412,
  RequestTimeTooSkewed: 403,
  RequestTimeout: 400,
  ServerSideEncryptionConfigurationNotFoundError: 404,
  ServiceUnavailable: 503,
  SignatureDoesNotMatch: 403,
  SlowDown: 503,
  UserKeyMustBeSpecified: 400,
  XAmzContentSHA256Mismatch: 400,
} as const;

export type S3Code = keyof typeof statuses;

export class S3Error extends ClientError {
  readonly s3Code: S3Code;
  readonly status: number;

  constructor(s3Code: S3Code, message: string, cause?: unknown) {
    const status = statuses[s3Code];
    const code: ErrorCode = status === 404 ? "not-found" : status === 403 ? "denied" : "invalid";
    super(code, message, { cause });
    this.s3Code = s3Code;
    this.status = status;
  }
}

/** Any error, as S3 says it. */
export function toS3Error(error: unknown): S3Error {
  if (error instanceof S3Error) return error;
  if (!isHoldfastError(error)) return new S3Error("InternalError", "an internal error happened", error);
  const code = ((): S3Code => {
    switch (error.code) {
      case "not-found":
        return "NoSuchKey";
      case "invalid":
        return "InvalidArgument";
      case "conflict":
        return "OperationAborted";
      case "unsupported":
        return "NotImplemented";
      case "full":
        return "InsufficientStorage";
      case "throttled":
        return "SlowDown";
      case "denied":
      case "unavailable":
      case "incomplete":
      case "aborted":
      case "timeout":
      case "corrupt":
      case "config":
      case "internal":
        return statusOf(error) === 503 ? "ServiceUnavailable" : "InternalError";
    }
  })();
  return new S3Error(code, clientMessage(error), error);
}

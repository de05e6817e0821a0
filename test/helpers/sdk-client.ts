/** The AWS SDK as a client of S3, for tests that look at a server as other programs do. */
import { S3 } from "@aws-sdk/client-s3";
import { credential } from "./gateways.ts";

export interface SdkClientOptions {
  /** Default: the credential of test gateways. */
  readonly as?: { readonly user: string; readonly password: string };
  /** Default "us-east-1". */
  readonly region?: string;
}

/** A client of the server at `url` that addresses buckets by path and tries nothing twice. */
export function sdkClient(url: string, { as = credential, region = "us-east-1" }: SdkClientOptions = {}): S3 {
  return new S3({
    endpoint: url,
    forcePathStyle: true,
    region,
    credentials: { accessKeyId: as.user, secretAccessKey: as.password },
    maxAttempts: 1,
  });
}

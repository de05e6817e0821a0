/** URLs that are no place of their kind, which are refused before anything is asked of a server. */
import { expect, it } from "vitest";
import { openStore } from "../../src/stores/open-store.ts";
import { codeOf } from "../helpers/store-answers.ts";

const env = { HOME: "/nonexistent", OPENDAL_OSS_ACCESS_KEY_SECRET: "open-sesame" };

it.each([
  ...["", "host", "host/", "-x/share", "h/s/../x", "h/s/a:b", "h/s?x=1"].map((rest) => `smb://${rest}`),
  ...["", "host", "-oProxy/x", "h::m/a*b", "u:pw@h/x", "-l@h/x"].map((rest) => `rsync://${rest}`),
  ...["ca=/x", "tls=no", "connections=0"].map((query) => `ftp://h/x?${query}`),
  ...["idenity=x", "identity=", "identity=a&identity=b", "connections=0", "connections=many"].map(
    (query) => `sftp://h/x?${query}`,
  ),
])("%s is a config error", async (url) => {
  expect(await codeOf(openStore(url, { env }))).toBe("config");
});

it.each(["gdrive://x", "onedrive://x", "dropbox://x", "dpbx:///x", "oss://", "opendal://nosuch/x", "opendal://"])(
  "%s, which lacks settings, is a config error that names no secret",
  async (url) => {
    const error = await openStore(url, { env }).catch((error: unknown) => error);
    expect(error).toMatchObject({ code: "config" });
    expect(String(error)).not.toContain("sesame");
  },
);

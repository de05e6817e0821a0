/** Wrong configurations of pools, made in numbers: each must be refused with a clear `config` error. */

export interface WrongPool {
  /** What is wrong, for the test's name. */
  readonly title: string;
  /** Behind `multi://FILE`. */
  readonly query: string;
  /** The file's content. */
  readonly file: string | Uint8Array;
  /** What the message has to name. */
  readonly names: RegExp;
}

const GOOD = JSON.stringify([{ url: "file:///a" }, { url: "file:///b" }, { url: "file:///c" }]);
/** Stands in credentials; must not stand in a message. */
export const SECRET = "s3cr3t-Pa55";

function list(store: unknown): string {
  return JSON.stringify([{ url: "file:///a" }, store]);
}

function object(extra: Record<string, unknown>): string {
  return JSON.stringify({ mode: "mirror", stores: [{ url: "file:///a" }, { url: "file:///b" }], ...extra });
}

export function wrongPools(): WrongPool[] {
  const wrong: WrongPool[] = [];
  const add = (title: string, query: string, file: string | Uint8Array, names: RegExp): void => {
    wrong.push({ title, query, file, names });
  };
  const values: Record<string, string[]> = {
    mode: [
      "",
      "Mirror",
      "MIRROR",
      "raid1",
      "stripe,mirror",
      "parity",
      "+mirror",
      "mirror+",
      "1",
      "true",
      "null",
      "%00",
    ],
    onfail: ["", "Continue", "stop", "ignore", "abort+", "0", "retry", "abort%0a", "continue;", "-"],
    min: ["", "0", "-1", "1.5", "4", "99999999999999999999", "all", "0x1", "1e0", "%2B1", "+1", "two", "1,2", "NaN"],
    subpath: ["", "a%00b", "a%3Fb", "a%0Ab", "%7F", "a%1Bc"],
    read: ["", "last", "First", "random", "second", "fast", "0"],
    place: ["", "random", "Free", "roundrobin", "weights", "least", "0"],
    "limit-up": ["", "0", "-1", "fast", "1T", "1KB", "1 K", "K", "1e6", "0K", "1,5M", "Infinity", "1k"],
    "limit-down": ["", "0", "-1", "slow", "1T", "1KB", "K", "1e6", "0.0001", "0x10", "M1", "1m"],
    deadline: ["", "0s", "30", "-1s", "1d", "s", "25h", "1 s", "1,5s", "ten", "0.0001ms", "1S", "999999999h"],
    attempts: ["", "0", "-1", "101", "1.5", "many", "1e1", "0x2", "1000000", "00000000001000"],
  };
  const needs: Record<string, string> = {
    min: "mode=mirror&",
    read: "mode=mirror&",
    place: "mode=stripe&",
  };
  for (const [name, bad] of Object.entries(values)) {
    for (const value of bad) {
      const pair = `${name}=${value}`;
      const rule = needs[name] ?? "";
      add(`?${rule}${pair}`, `?${rule}${pair}`, GOOD, new RegExp(name, "u"));
      if (rule.length === 0) {
        const other = name === "onfail" ? "attempts=2" : "onfail=abort";
        add(`?${other}&${pair}`, `?${other}&${pair}`, GOOD, new RegExp(name, "u"));
        add(`?${pair}&${other}`, `?${pair}&${other}`, GOOD, new RegExp(name, "u"));
      } else {
        add(`?${pair}&${rule.slice(0, -1)}`, `?${pair}&${rule.slice(0, -1)}`, GOOD, new RegExp(name, "u"));
      }
    }
  }
  const good: Record<string, string> = {
    mode: "mirror",
    onfail: "abort",
    subpath: "/x",
    "limit-up": "1M",
    "limit-down": "1M",
    deadline: "30s",
    attempts: "3",
  };
  for (const [name, value] of Object.entries(good)) {
    add(`${name} twice, equal`, `?${name}=${value}&${name}=${value}`, GOOD, new RegExp(`${name}.*more than once`, "u"));
    add(
      `${name} twice, apart`,
      `?${name}=${value}&a=b&${name}=${value}`,
      GOOD,
      /unknown parameter "a"|more than once/u,
    );
    add(`${name} in capitals`, `?${name.toUpperCase()}=${value}`, GOOD, /unknown parameter/u);
    add(`${name} without a value`, `?${name}`, GOOD, /cannot be parsed/u);
    add(`${name} and an empty field`, `?${name}=${value}&`, GOOD, /cannot be parsed/u);
    add(`an empty field and ${name}`, `?&${name}=${value}`, GOOD, /cannot be parsed/u);
    add(`${name} and two &`, `?${name}=${value}&&onfail=abort`, GOOD, /cannot be parsed/u);
    add(`${name} and a bad escape`, `?${name}=%zz`, GOOD, /cannot be parsed/u);
    add(`${name} and half a character`, `?${name}=%C3`, GOOD, /cannot be parsed/u);
    add(`${name} behind a semicolon`, `?x=1;${name}=${value}`, GOOD, /unknown parameter "x"/u);
  }
  for (const name of [
    "",
    "modes",
    "mod",
    "fail",
    "stores",
    "url",
    "password",
    "__proto__",
    "constructor",
    "Min",
    "mode ",
    "mode[]",
  ]) {
    add(`unknown parameter ${name}`, `?${encodeURIComponent(name)}=${SECRET}`, GOOD, /unknown parameter/u);
    add(
      `unknown parameter ${name} behind a known one`,
      `?mode=mirror&${encodeURIComponent(name)}=1`,
      GOOD,
      /unknown parameter/u,
    );
  }
  for (const query of [
    "??mode=mirror",
    "?mode=mirror?onfail=abort",
    "?mode=mirror#x",
    "?=",
    "?&",
    "?&&",
    "?==",
    "?a",
  ]) {
    add(query, query, GOOD, /parameter|mode|parsed/u);
  }
  add("min with onfail=abort", "?mode=mirror&onfail=abort&min=1", GOOD, /min is for/u);
  add("min with stripe", "?min=1", GOOD, /min is for/u);
  add("read with stripe", "?read=fastest", GOOD, /read is for/u);
  add("place with mirror", "?mode=mirror&place=free", GOOD, /place is for/u);

  // What is no pool file at all.
  const texts = [
    "",
    " ",
    "\n\n",
    "null",
    "true",
    "1",
    '"x"',
    "[",
    "]",
    "{",
    "}",
    "[,]",
    "[{}",
    "[1]",
    "[null]",
    '["x"]',
  ];
  texts.push(
    "[[]]",
    "[{]",
    '{"stores"}',
    "{'stores':[]}",
    '[{"url":"file:///a",}]',
    '[{"url":"file:///a"},]',
    "nul",
    "NaN",
  );
  texts.push(
    '[{"url":"a\nb"}]',
    '[{"url":"\\x"}]',
    '[{url:"a"}]',
    "// x\n[]",
    "[] []",
    "[01]",
    "[1.]",
    "[+1]",
    "[.5]",
    "\u00a0[]",
  );
  texts.push(
    '[{"url":"file:///a","url":"file:///b"}]',
    "[".repeat(200) + "]".repeat(200),
    "<xml/>",
    "url: x",
    "[]",
    "{}",
  );
  for (const text of texts) add(`the file ${text.slice(0, 30)}`, "", text, /json|store|list|empty|key/iu);
  add("a byte order mark", "", `\uFEFF${GOOD}`, /byte order mark/u);
  add("UTF-16", "", Buffer.from(`\uFEFF${GOOD}`, "utf16le"), /not UTF-8/u);
  add("Latin-1", "", Buffer.from('[{"url":"file:///a","description":"caf\xe9"}]', "latin1"), /not UTF-8/u);
  add("a huge file", "", Buffer.alloc(1024 * 1024 + 1, 0x20), /larger than/u);
  for (let cut = 1; cut < GOOD.length; cut += 3)
    add(`cut after ${cut}`, "", GOOD.slice(0, cut), /not JSON: line 1, column/u);

  // Stores that are none.
  const notText = [null, 1, true, [], {}, ["file:///a"]];
  for (const value of notText) add(`url ${JSON.stringify(value)}`, "", list({ url: value }), /store 2: "url"/u);
  for (const value of [null, 1, true, "file:///a", [], ["url", "x"]]) {
    add(`a store ${JSON.stringify(value)}`, "", list(value), /store 2/u);
  }
  add("no url", "", list({ description: "x" }), /store 2 has no "url"/u);
  add("an empty url", "", list({ url: "" }), /store 2: "url" is empty/u);
  add("a url with NUL", "", list({ url: "file:///a\0" }), /store 2/u);
  add("a url with a lone surrogate", "", list({ url: "file:///\ud800" }), /store 2/u);
  for (const port of [0, 65536, 99999]) add(`port ${port}`, "", list({ url: `sftp://h:${port}/x` }), /store 2.*port/u);
  add("a bad escape in a password", "", list({ url: `sftp://u:${SECRET}%zz@h/x` }), /store 2.*password/u);
  add("a bad escape in a user", "", list({ url: `sftp://u%zz:${SECRET}@h/x` }), /store 2.*user name/u);
  for (const value of [null, 1, "x", {}, true]) {
    add(`env ${JSON.stringify(value)}`, "", list({ url: "file:///b", env: value }), /store 2: "env"/u);
    add(`prefixes ${JSON.stringify(value)}`, "?mode=mirror", list({ url: "file:///b", prefixes: value }), /prefixes/u);
  }
  for (const entry of [null, 1, "A=b", [], {}, { name: "A" }, { value: SECRET }, { name: 1, value: SECRET }]) {
    add(`env entry ${JSON.stringify(entry)}`, "", list({ url: "file:///b", env: [entry] }), /"env" entry 1/u);
  }
  for (const value of [null, 1, true, [], {}, "a\0b"]) {
    add(
      `env value ${JSON.stringify(value)}`,
      "",
      list({ url: "file:///b", env: [{ name: "A", value }] }),
      /value of A/u,
    );
  }
  for (const name of ["", " ", "A B", "A=B", "1A", "A-B", "Ä", "A\0", "A.B", "$A"]) {
    add(
      `env name ${JSON.stringify(name)}`,
      "",
      list({ url: "file:///b", env: [{ name, value: SECRET }] }),
      /"env" entry 1/u,
    );
  }
  const dangerous = [
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "DYLD_INSERT_LIBRARIES",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PATH",
    "Path",
  ];
  dangerous.push(
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "BASH_ENV",
    "ENV",
    "IFS",
    "SHELL",
    "PERL5LIB",
    "PERL5OPT",
    "RUBYOPT",
    "RUBYLIB",
  );
  dangerous.push(
    "GIT_SSH_COMMAND",
    "GIT_EXEC_PATH",
    "SSH_ASKPASS",
    "RSYNC_RSH",
    "RCLONE_PASSWORD_COMMAND",
    "GCONV_PATH",
  );
  dangerous.push(
    "BASH_FUNC_x",
    "OPENSSL_CONF",
    "JAVA_TOOL_OPTIONS",
    "PROMPT_COMMAND",
    "EDITOR",
    "ld_preload",
    "npm_config_x",
  );
  for (const name of dangerous) {
    add(
      `env name ${name}`,
      "",
      list({ url: "file:///b", env: [{ name, value: SECRET }] }),
      new RegExp(`${name} is refused`, "u"),
    );
  }
  for (const prefix of [null, 1, true, [], {}, "\ud800", "a\0"]) {
    add(
      `prefix ${JSON.stringify(prefix)}`,
      "?mode=mirror",
      list({ url: "file:///b", prefixes: [prefix] }),
      /store 2.*prefix/u,
    );
  }
  add("prefixes with stripe", "", list({ url: "file:///b", prefixes: ["a"] }), /"prefixes" is for mode=mirror/u);
  add("no prefixes with stripe", "", list({ url: "file:///b", prefixes: [] }), /"prefixes" is for mode=mirror/u);
  add(
    "min above a prefix's stores",
    "?mode=mirror&min=2",
    list({ url: "file:///b", prefixes: ["a"] }),
    /min is 2.*prefix "a"/u,
  );
  for (const weight of [0, -1, "1", true, [], {}, 1e9]) {
    add(
      `weight ${JSON.stringify(weight)}`,
      "?place=weighted",
      list({ url: "file:///b", weight }),
      /store 2: "weight"/u,
    );
  }
  add("weight without place=weighted", "", list({ url: "file:///b", weight: 2 }), /"weight" is for/u);
  for (const url of ["file:///a", "file:///a/", "file:///x/../a", "/a", "//a", "/a/.", "file:////a"]) {
    add(`the same folder as ${url}`, "", list({ url }), /stores 1 and 2 are the same place/u);
  }
  const twice = { url: `sftp://u:${SECRET}@h/x` };
  add("the same host twice", "", JSON.stringify([twice, twice]), /stores 1 and 2 are the same place/u);
  add("the same host twice, one with a slash", "", JSON.stringify([twice, { url: `${twice.url}/` }]), /same place/u);

  // The object form.
  for (const key of [
    "store",
    "Stores",
    "modes",
    "url",
    "env",
    "limitUp",
    "limit_up",
    "deadlineMs",
    "comment",
    "min ",
  ]) {
    add(`the key ${key}`, "", object({ [key]: 1 }), /unknown key/u);
  }
  for (const value of [null, "x", 1, true, {}])
    add(`stores ${JSON.stringify(value)}`, "", object({ stores: value }), /"stores"/u);
  add("no stores", "", JSON.stringify({ mode: "mirror" }), /"stores" is missing/u);
  add("stores empty", "", object({ stores: [] }), /list of stores is empty/u);
  for (const value of [null, true, [], {}]) {
    for (const name of Object.keys(values)) {
      add(`${name} ${JSON.stringify(value)}`, "", object({ [name]: value }), new RegExp(`${name} is`, "u"));
    }
  }
  for (const value of [0, -1, 3, 1.5, "x", "0"])
    add(`"min": ${JSON.stringify(value)}`, "", object({ min: value }), /min/u);
  for (const value of [0, -1, 1.5, 101, "x"])
    add(`"attempts": ${JSON.stringify(value)}`, "", object({ attempts: value }), /attempts/u);
  for (const value of [0, 30, "30", "1d"])
    add(`"deadline": ${JSON.stringify(value)}`, "", object({ deadline: value }), /deadline/u);
  for (const value of [0, -5, "1T", 1e30])
    add(`"limit-up": ${JSON.stringify(value)}`, "", object({ "limit-up": value }), /limit-up/u);
  add("a bad $schema", "", object({ $schema: 1 }), /\$schema/u);
  add("mode differs", "?mode=stripe", object({}), /mode is "mirror" in the file, but "stripe" in the URL/u);
  add("onfail differs", "?onfail=abort", object({ onfail: "continue" }), /onfail is "continue" in the file/u);
  add("min differs", "?min=1", object({ min: 2 }), /min is "2" in the file, but "1" in the URL/u);
  add("subpath differs", "?subpath=/a", object({ subpath: "/b" }), /subpath/u);
  const inObject = (store: Record<string, unknown>): string =>
    object({ stores: [{ url: "file:///a" }, { url: "file:///b", ...store }] });
  add("an unknown key of a store", "", inObject({ desc: "x" }), /store 2: unknown key "desc"/u);
  add("a description that is no text", "", inObject({ description: 1 }), /store 2: "description"/u);
  add(
    "a variable twice",
    "",
    inObject({
      env: [
        { name: "A", value: "1" },
        { name: "A", value: "2" },
      ],
    }),
    /A is there twice/u,
  );
  add("an unknown key of a variable", "", inObject({ env: [{ name: "A", value: "1", x: 1 }] }), /unknown key "x"/u);

  // Pools in pools.
  add("a pool in itself", "", JSON.stringify([{ url: "multi:///pool.json" }]), /cannot be a store of itself/u);
  add(
    "a pool in itself, otherwise written",
    "",
    JSON.stringify([{ url: "multi:///./x/../pool.json?mode=mirror" }]),
    /itself/u,
  );
  add("a nested pool without a file", "", list({ url: "multi:///absent.json" }), /no pool file/u);
  add("a nested pool without a path", "", list({ url: "multi://" }), /store 2.*names no file/u);
  add("a nested pool with a bad parameter", "", list({ url: "multi:///pool.json?mode=x" }), /store 2.*mode/u);
  add("a nested pool's bad URL", "", list({ url: "multi:/pool.json" }), /store 2/u);
  return wrong;
}

/** Cases about names: each is held exactly as it is, or refused; it is never taken for another. */
import assert from "node:assert/strict";
import { toBody } from "../contract/body.ts";
import { toHoldfastError } from "../contract/errors.ts";
import { MAX_NAME_BYTES } from "../contract/names.ts";
import type { Capabilities } from "../contract/store.ts";
import type { ConformanceCase, ConformanceContext } from "./case.ts";
import { absent, holds, names, read, rejects, hasCode } from "./help.ts";

/** A nasty name and the name that a careless store would take it for. */
const NASTY: readonly [what: string, name: string, neighbour: string][] = [
  ["spaces inside", "a b  c", "a b c"],
  ["a leading space", " lead", "lead"],
  ["a trailing space", "trail ", "trail"],
  ["a trailing dot", "dot.", "dot"],
  ["a leading dot", ".hidden", "hidden"],
  ["three dots", "...", ".."],
  ["dots before and behind", "..x..", "x"],
  ["a part that is one dot", "p/./x", "p/x"],
  ["a part that is two dots", "p/q/../x", "p/x"],
  ["two dots at the end", "p/..", "p"],
  ["an encoded slash", "p%2Fx", "p/x"],
  ["encoded dots", "p/%2e%2e/x", "x"],
  ["a percent sign", "100%", "100%25"],
  ["percent and digits", "%41", "A"],
  ["a question mark", "q?x=1", "q"],
  ["a hash sign", "h#frag", "h"],
  ["a plus sign", "p+q", "p q"],
  ["an ampersand and equals", "a&b=c;d", "a"],
  ["a colon", "c:d", "d"],
  ["a backslash", "b\\s", "b/s"],
  ["backslashes and dots", "..\\..\\x", "x"],
  ["single quotes", "it's", "its"],
  ["double quotes", 'say "x"', "say x"],
  ["a dollar sign and back-quotes", "$HOME`id`$(id)", "id"],
  ["glob characters", "*[a-z]{x,y}", "a"],
  ["angle brackets and a bar", "<a|b>", "ab"],
  ["markup", "&amp;<![CDATA[x]]>", "&<![CDATA[x]]>"],
  ["a tilde", "~/x", "x"],
  ["a leading hyphen", "-rf", "rf"],
  ["a newline", "line\nfeed", "linefeed"],
  ["a carriage return", "car\rriage", "carriage"],
  ["CR and LF at the end", "end\r\n", "end"],
  ["a tab", "t\tab", "t ab"],
  ["control characters", "c\u0001\u0007\u001b[31m", "c"],
  ["delete and C1 controls", "d\u007f\u0085", "d"],
  ["a composed letter (NFC)", "caf\u00e9", "cafe\u0301"],
  ["a decomposed letter (NFD)", "A\u030angstro\u0308m", "\u00c5ngstr\u00f6m"],
  ["a compatibility letter", "\ufb01le", "file"],
  ["Hangul in parts", "\u1112\u1161\u11ab", "\ud55c"],
  ["an emoji beyond the BMP", "\u{1f469}\u200d\u{1f680}", "\u{1f469}\u{1f680}"],
  ["a zero-width space", "z\u200bw", "zw"],
  ["a right-to-left override", "txt.\u202eexe", "txt.exe"],
  ["a no-break space", "no\u00a0break", "no break"],
  ["a byte order mark", "\ufeffbom", "bom"],
  ["a private and a last character", "\ue000\uffff\u{10ffff}", "\ue000"],
  ["a double slash", "d//s", "d/s"],
  ["a trailing slash", "t/", "t"],
  ["two trailing slashes", "t//", "t"],
  ["a slash at the beginning of a part", "/lead", "lead"],
  ["a name that Windows reserves", "con/nul.txt", "nul.txt"],
  ["an upper-case letter", "Case", "case"],
  ["the sharp s and Turkish letters", "ma\u00df\u0130\u0131", "MASSI\u0131"],
  ["a name like a temporary file's", ".x.tmp~", "x"],
  ["a name like a listing's mark", "?list-type=2", "list-type=2"],
];

/**
 * Puts an object under `name`; it is then there exactly so while `neighbour` is not, or the put was refused and
 * nothing is there.
 */
async function heldOrRefused(context: ConformanceContext, name: string, neighbour: string): Promise<boolean> {
  const { store, prefix } = context;
  const bytes = Buffer.from(`bytes of ${name}`);
  try {
    await store.put(name, toBody(bytes));
  } catch (error) {
    hasCode(error, ["invalid"], `put of ${JSON.stringify(name)}`);
    await rejects(store.stat(name), ["invalid"], `stat of the refused ${JSON.stringify(name)}`);
    await rejects(store.delete(name), ["invalid"], `delete of the refused ${JSON.stringify(name)}`);
    assert.deepEqual(await names(store, prefix), [], "a refused put left something");
    return false;
  }
  await holds(store, name, bytes);
  if (name.startsWith(prefix)) assert.deepEqual(await names(store, prefix), [name], "the listing gives another name");
  await rejects(store.stat(neighbour), ["not-found", "invalid"], `stat of the neighbour ${JSON.stringify(neighbour)}`);
  await rejects(read(store, neighbour), ["not-found", "invalid"], `get of the neighbour ${JSON.stringify(neighbour)}`);
  return true;
}

/** Whether one of the names is the other's directory. */
function nested(a: string, b: string): boolean {
  return a.startsWith(`${b}/`) || b.startsWith(`${a}/`);
}

/** Puts and deletes the neighbour beside the name: neither touches the other. */
async function apart(context: ConformanceContext, name: string, neighbour: string): Promise<void> {
  const { store, prefix } = context;
  if (!store.capabilities.prefixNames && nested(name, neighbour)) return;
  const bytes = await read(store, name);
  try {
    await store.put(neighbour, toBody("neighbour"));
  } catch (error) {
    const code = toHoldfastError(error).code;
    // A store that does not tell case, or normal forms, apart may only refuse the second name.
    assert.ok(code === "invalid" || code === "conflict", `put of the neighbour rejected with ${code}`);
    await holds(store, name, bytes);
    return;
  }
  await holds(store, neighbour, Buffer.from("neighbour"));
  await holds(store, name, bytes);
  assert.equal((await names(store, prefix)).length, 2, "the two names are not two objects");
  await store.delete(neighbour);
  await holds(store, name, bytes);
  await absent(store, neighbour);
}

function partsOf(bytes: number, capabilities: Capabilities, prefix: string): string {
  const longest = Math.min(capabilities.maxNamePartBytes ?? 200, 200);
  let name = prefix;
  while (Buffer.byteLength(name) < bytes) {
    const left = bytes - Buffer.byteLength(name);
    // One byte behind a slash must be left, so that the name does not end in one.
    name += left <= longest ? "n".repeat(left) : `${"n".repeat(left === longest + 1 ? longest - 1 : longest)}/`;
  }
  return name;
}

export const nameCases: readonly ConformanceCase[] = [
  ...NASTY.map(([what, name, neighbour], i): ConformanceCase => ({
    name: `a name with ${what} is held exactly or refused`,
    quick: i % 5 === 0,
    async run(context) {
      const full = context.prefix + name;
      const beside = context.prefix + neighbour;
      if (await heldOrRefused(context, full, beside)) await apart(context, full, beside);
    },
  })),
  {
    name: "a name that climbs out of the store is held exactly or refused",
    quick: true,
    async run(context) {
      const base = context.prefix.slice(0, -1);
      for (const name of [`../${base}`, `/${base}`, `./${base}`, `//${base}`, `../../${base}`, `x/../../${base}`]) {
        context.cleanUp(name);
        context.cleanUp(base);
        if (await heldOrRefused(context, name, base)) await context.store.delete(name);
      }
    },
  },
  {
    name: "names that are nothing but dots and slashes are held exactly or refused",
    quick: true,
    async run(context) {
      for (const name of [".", "..", "/", "//", "./", "../", "/.", "/.."]) {
        const full = context.prefix + name;
        if (await heldOrRefused(context, full, context.prefix + "x")) await context.store.delete(full);
      }
    },
  },
  {
    name: "a name as long as the manifest says is held; a longer part is refused",
    quick: true,
    async run({ store, prefix }) {
      const { maxNameBytes, maxNamePartBytes } = store.capabilities;
      assert.ok(maxNameBytes <= MAX_NAME_BYTES, "the manifest promises longer names than there are");
      const long = partsOf(maxNameBytes, store.capabilities, prefix);
      assert.equal(Buffer.byteLength(long), maxNameBytes);
      await store.put(long, toBody("long"));
      await holds(store, long, Buffer.from("long"));
      await store.delete(long);
      if (maxNameBytes < MAX_NAME_BYTES) {
        await rejects(store.put(`${long}n`, toBody("x")), ["invalid"], "put of a longer name");
      }
      const part = Math.min(maxNamePartBytes ?? 255, maxNameBytes - prefix.length);
      for (const letter of ["n", "\u00e4", "\u{1f680}"]) {
        const size = Buffer.byteLength(letter);
        const full = prefix + letter.repeat(Math.floor(part / size)) + "n".repeat(part % size);
        await store.put(full, toBody("part"));
        await holds(store, full, Buffer.from("part"));
        await store.delete(full);
        if (maxNamePartBytes !== undefined && part === maxNamePartBytes) {
          await rejects(store.put(`${full}n`, toBody("x")), ["invalid"], "put of a longer part");
          await rejects(store.stat(`${full}n/x`), ["invalid"], "stat with a longer part");
        }
      }
      assert.deepEqual(await names(store, prefix), []);
    },
  },
  {
    name: "names that differ in case are two objects",
    quick: true,
    needs: (capabilities) => (capabilities.caseSensitive ? undefined : "the store does not tell case apart"),
    async run({ store, prefix }) {
      const all = ["readme", "README", "ReadMe", "Dir/x", "dir/x"];
      for (const name of all) await store.put(prefix + name, toBody(name));
      for (const name of all) await holds(store, prefix + name, Buffer.from(name));
      await store.delete(`${prefix}README`);
      await holds(store, `${prefix}readme`, Buffer.from("readme"));
    },
  },
  {
    name: "a name and a name below it both exist",
    quick: true,
    needs: (capabilities) => (capabilities.prefixNames ? undefined : "the store has directories (prefixNames)"),
    async run({ store, prefix }) {
      const all = ["a", "a/b", "a/b/c", "a/"];
      const held: string[] = [];
      for (const name of all) {
        try {
          await store.put(prefix + name, toBody(name));
          held.push(name);
        } catch (error) {
          // A trailing slash may be refused; the others may not.
          hasCode(error, ["invalid"], "put");
          assert.equal(name, "a/");
        }
      }
      for (const name of held) await holds(store, prefix + name, Buffer.from(name));
      await store.delete(`${prefix}a`);
      await absent(store, `${prefix}a`);
      await holds(store, `${prefix}a/b`, Buffer.from("a/b"));
      await store.delete(`${prefix}a/b`);
      await holds(store, `${prefix}a/b/c`, Buffer.from("a/b/c"));
    },
  },
  {
    name: "a name below an object, and a name above one, is a conflict",
    quick: true,
    needs: (capabilities) => (capabilities.prefixNames ? "both may exist (prefixNames)" : undefined),
    async run({ store, prefix }) {
      await store.put(`${prefix}a`, toBody("a"));
      await store.put(`${prefix}d/e/f`, toBody("f"));
      await rejects(store.put(`${prefix}a/b`, toBody("b")), ["conflict"], "put below an object");
      await rejects(store.put(`${prefix}a/b/c`, toBody("c")), ["conflict"], "put two levels below an object");
      await rejects(store.put(`${prefix}d`, toBody("d")), ["conflict"], "put above an object");
      await rejects(store.put(`${prefix}d/e`, toBody("e")), ["conflict"], "put right above an object");
      await absent(store, `${prefix}a/b`);
      await absent(store, `${prefix}d`);
      await store.delete(`${prefix}a/b`);
      await store.delete(`${prefix}d`);
      await holds(store, `${prefix}a`, Buffer.from("a"));
      await holds(store, `${prefix}d/e/f`, Buffer.from("f"));
      assert.deepEqual((await names(store, prefix)).sort(), [`${prefix}a`, `${prefix}d/e/f`]);
      await store.delete(`${prefix}a`);
      await store.delete(`${prefix}d/e/f`);
      await store.put(`${prefix}a/b`, toBody("b"));
      await store.put(`${prefix}d`, toBody("d"));
      await holds(store, `${prefix}a/b`, Buffer.from("b"));
      await holds(store, `${prefix}d`, Buffer.from("d"));
    },
  },
];

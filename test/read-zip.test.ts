/** The reader of zip archives that the install scripts use: what was packed comes out, and broken archives are refused. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { extract, openZip, readText } from "../scripts/read-zip.ts";

const folder = mkdtempSync(join(tmpdir(), "ciuic-zip-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Packed {
  readonly name: string;
  readonly content: Uint8Array;
  readonly deflate: boolean;
}

/** By APPNOTE.TXT: entries, the list of them, the end. Checksums are left out; the reader does not look at them. */
function zipOf(files: readonly Packed[], comment = ""): Buffer {
  const entries: Buffer[] = [];
  const list: Buffer[] = [];
  let offset = 0;
  for (const { name, content, deflate } of files) {
    const data = deflate ? deflateRawSync(content) : Buffer.from(content);
    const title = Buffer.from(name);
    const extra = Buffer.alloc(3);
    const header = Buffer.alloc(30);
    header.writeUInt32LE(0x04034b50, 0);
    header.writeUInt16LE(title.length, 26);
    header.writeUInt16LE(extra.length, 28);
    const record = Buffer.alloc(46);
    record.writeUInt32LE(0x02014b50, 0);
    record.writeUInt16LE(deflate ? 8 : 0, 10);
    record.writeUInt32LE(data.length, 20);
    record.writeUInt32LE(content.length, 24);
    record.writeUInt16LE(title.length, 28);
    record.writeUInt32LE(offset, 42);
    list.push(record, title);
    entries.push(header, title, extra, data);
    offset += header.length + title.length + extra.length + data.length;
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(Buffer.concat(list).length, 12);
  end.writeUInt32LE(offset, 16);
  end.writeUInt16LE(comment.length, 20);
  return Buffer.concat([...entries, ...list, end, Buffer.from(comment)]);
}

function written(content: Uint8Array): string {
  const path = join(folder, "a.zip");
  writeFileSync(path, content);
  return path;
}

test("files come out as they went in", async () => {
  const name = fc.stringMatching(/^[a-z]{1,8}(\/[a-z]{1,8})?$/);
  // Empty files have no byte to read from.
  const file = fc.record({ name, content: fc.uint8Array({ minLength: 1, maxLength: 300 }), deflate: fc.boolean() });
  const files = fc.uniqueArray(file, { minLength: 1, maxLength: 4, selector: (each) => each.name });
  await fc.assert(
    fc.asyncProperty(files, fc.stringMatching(/^[a-z ]{0,20}$/), async (packed, comment) => {
      const zip = await openZip(written(zipOf(packed, comment)));
      expect([...zip.entries.keys()]).toEqual(packed.map((each) => each.name));
      for (const [i, each] of packed.entries()) {
        const to = join(folder, `out${i}`, "file");
        await extract(zip, each.name, to);
        expect([...readFileSync(to)]).toEqual([...each.content]);
      }
    }),
    { numRuns: 30 },
  );
});

test("what is no archive, or cut, is refused", async () => {
  const good = zipOf([{ name: "a", content: Buffer.from("text"), deflate: true }]);
  const zip = await openZip(written(good));
  expect(await readText(zip, "a")).toBe("text");
  await expect(readText(zip, "b")).rejects.toThrow("there is no b in it");
  await expect(openZip(written(Buffer.from("no archive at all, but longer than an end")))).rejects.toThrow("no end");
  await expect(openZip(written(good.subarray(0, good.length - 5)))).rejects.toThrow("no end");
  const broken = Buffer.from(good);
  broken.writeUInt32LE(0, good.length - 22 - 47);
  await expect(openZip(written(broken))).rejects.toThrow("the list of files is broken at byte 0");
});

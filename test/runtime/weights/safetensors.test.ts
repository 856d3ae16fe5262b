/** The safetensors reader and writer: round trips, the golden checkpoints, and one case for each rule of the header. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { tensorFrom, tensorOf, valuesOf, zeros } from "../../../src/ir/tensor.ts";
import { tensorType } from "../../../src/ir/types.ts";
import { memorySource } from "../../../src/runtime/weights/byte-source.ts";
import { openNodeFolder } from "../../../src/runtime/weights/node-folder.ts";
import {
  readElements,
  readSafetensorsHeader,
  readTensor,
  writeSafetensors,
} from "../../../src/runtime/weights/safetensors.ts";

/** A file with this header and `size` bytes of data. */
function fileOf(header: unknown, size: number): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + text.length + size);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  return file;
}

async function read(file: Uint8Array): Promise<Map<string, number[]>> {
  const source = memorySource("t", file);
  const values = new Map<string, number[]>();
  for (const entry of (await readSafetensorsHeader(source, "t")).tensors.values()) {
    values.set(entry.name, valuesOf(await readTensor(source, entry, "t")));
  }
  return values;
}

const pair = (a: object, b: object = {}) => ({
  a: { dtype: "F32", shape: [2], data_offsets: [0, 8], ...a },
  b: { dtype: "U8", shape: [4], data_offsets: [8, 12], ...b },
});

test("writes what it reads, for any shapes and values", async () => {
  const float = fc.float({ noNaN: true }).map(Math.fround);
  const int = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
  const tensors = fc.dictionary(
    fc.string({ unit: "grapheme", maxLength: 12 }).filter((name) => name !== "__metadata__"),
    fc.oneof(
      fc.array(float, { maxLength: 9 }).map((values) => tensorOf("f32", [values.length], values)),
      fc.array(int, { maxLength: 9 }).map((values) => tensorOf("i32", [1, values.length], values)),
      fc.array(fc.nat(255), { maxLength: 9 }).map((values) => tensorOf("u8", [values.length, 1], values)),
    ),
    { maxKeys: 6 },
  );
  await fc.assert(
    fc.asyncProperty(tensors, async (record) => {
      const written = new Map(Object.entries(record));
      const source = memorySource("t", writeSafetensors(written, new Map([["format", "pt"]])));
      const { tensors: entries, metadata } = await readSafetensorsHeader(source, "t");
      expect(metadata).toEqual(new Map([["format", "pt"]]));
      expect([...entries.keys()].sort()).toEqual([...written.keys()].sort());
      for (const [name, tensor] of written) expect(await readTensor(source, entries.get(name)!, "t")).toEqual(tensor);
    }),
    { numRuns: 200 },
  );
});

test("reads every dtype, also where the data is not aligned", async () => {
  const header = {
    pad: { dtype: "U8", shape: [1], data_offsets: [0, 1] },
    bf: { dtype: "BF16", shape: [1], data_offsets: [1, 3] },
    half: { dtype: "F16", shape: [], data_offsets: [3, 5] },
    fp8: { dtype: "F8_E4M3", shape: [2], data_offsets: [5, 7] },
    scale: { dtype: "F8_E8M0", shape: [1], data_offsets: [7, 8] },
    wide: { dtype: "I64", shape: [2], data_offsets: [8, 24] },
    truth: { dtype: "BOOL", shape: [2], data_offsets: [24, 26] },
    signed: { dtype: "I8", shape: [1, 1], data_offsets: [26, 27] },
    none: { dtype: "F32", shape: [0, 3], data_offsets: [27, 27] },
  };
  const data = [7, 0x80, 0x3f, 0x00, 0xc0, 0x38, 0x7e, 128, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 128];
  const file = fileOf(header, 27);
  file.set([...data, 255, 255, 255, 255, 0, 1, 0xfe], file.length - 27);
  expect(Object.fromEntries(await read(file))).toEqual({
    pad: [7],
    bf: [1],
    half: [-2],
    fp8: [1, 448],
    scale: [2],
    wide: [-1, -2147483648],
    truth: [0, 1],
    signed: [-2],
    none: [],
  });
});

test("reads ranges of elements, into memory that is given", async () => {
  const values = Array.from({ length: 12 }, (_, i) => i - 5);
  for (const dtype of ["f32", "bf16", "i8"] as const) {
    const tensor = tensorOf(dtype, [3, 4], values);
    const source = memorySource("t", writeSafetensors(new Map([["w", tensor]])));
    const entry = (await readSafetensorsHeader(source, "t")).tensors.get("w")!;
    for (const [from, to] of [
      [0, 12],
      [4, 9],
      [12, 12],
    ] as const) {
      const into = zeros(dtype, [to - from]).data;
      expect(await readElements(source, entry, "t", { from, to }, into)).toBe(into);
      expect(into).toEqual(tensor.data.slice(from, to));
      expect(await readElements(source, entry, "t", { from, to })).toEqual(into);
    }
    for (const range of [
      { from: -1, to: 2 },
      { from: 3, to: 13 },
      { from: 2, to: 1 },
      { from: 0.5, to: 2 },
    ]) {
      await expect(readElements(source, entry, "t", range)).rejects.toThrow("of 12");
    }
  }
});

test("ranges are checked like whole tensors", async () => {
  const header = {
    wide: { dtype: "I64", shape: [3], data_offsets: [0, 24] },
    truth: { dtype: "BOOL", shape: [3], data_offsets: [24, 27] },
  };
  const file = fileOf(header, 27);
  file.set([1, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 7], file.length - 27);
  file.set([0, 1, 2], file.length - 3);
  const source = memorySource("t", file);
  const { tensors } = await readSafetensorsHeader(source, "t");
  const into = new Int32Array(2);
  await readElements(source, tensors.get("wide")!, "t", { from: 1, to: 3 }, into);
  expect([...into]).toEqual([-1, 7]);
  await expect(readElements(source, tensors.get("wide")!, "t", { from: 0, to: 2 }, into)).rejects.toThrow(
    "the I64 value 4294967297 at 0 does not fit",
  );
  await expect(readElements(source, tensors.get("truth")!, "t", { from: 1, to: 3 })).rejects.toThrow("BOOL");
  expect(await readElements(source, tensors.get("truth")!, "t", { from: 0, to: 2 })).toEqual(Uint8Array.of(0, 1));
});

test("keeps names such as __proto__ apart from the object's own", async () => {
  const one = tensorFrom(tensorType("f32", [1]), new Float32Array([1]));
  const names = ["__proto__", "constructor", "toString"];
  const values = await read(writeSafetensors(new Map(names.map((name) => [name, one]))));
  expect([...values.keys()].sort()).toEqual([...names].sort());
});

describe("refuses", () => {
  const wrap = [4194305, 4194305, 211106198978564];
  const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ["a file too short", new Uint8Array(7), /7 bytes/],
    [
      "a header longer than the file",
      new Uint8Array([255, 255, 255, 255, 255, 255, 255, 255, 1]),
      /header length 1844/,
    ],
    ["a header that is not an object", fileOf("[]", 0), /starts with "\[\]"/],
    ["leading space", fileOf(" {}", 0), /starts with/],
    ["bad UTF-8", fileOf({}, 0).fill(255, 9, 10), /UTF-8/],
    ["a repeated name", fileOf('{"a":1,"a":1}', 0), /"a" occurs twice/],
    ["a repeated field", fileOf('{"a":{"dtype":"U8","dtype":"I8"}}', 0), /"dtype" occurs twice/],
    ["an entry that is a number", fileOf({ a: 1 }, 0), /tensor "a": expected an object, got 1/],
    ["metadata that is not text", fileOf({ __metadata__: { a: 1 } }, 0), /expected a string/],
    ["an unknown dtype", fileOf(pair({ dtype: "f32" }), 12), /unknown dtype "f32"/],
    ["a dtype from the prototype", fileOf(pair({ dtype: "constructor" }), 12), /unknown dtype/],
    ["a dtype the IR has not", fileOf(pair({ dtype: "F64" }), 12), /dtype F64\nSupported: F32/],
    ["a negative dimension", fileOf(pair({ shape: [-2] }), 12), /got -2/],
    ["minus zero", fileOf('{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}', 0), /whole numbers/],
    ["a fraction", fileOf(pair({ shape: [1.5] }), 12), /got 1.5/],
    ["2^53", fileOf(pair({ shape: [2 ** 53] }), 12), /whole numbers/],
    ["too many dimensions", fileOf(pair({ shape: [1, 1, 1, 1, 1, 1, 1, 1, 2] }), 12), /9 dimensions/],
    [
      "a product that wraps to 4 in 64 bits",
      fileOf(pair({}, { shape: wrap }), 12),
      /4 bytes of data: expected \d{20,}/,
    ],
    ["a length that is not the shape's", fileOf(pair({ shape: [3] }), 12), /8 bytes of data: expected 12/],
    ["offsets past the end", fileOf(pair({}), 11), /ends at byte 12 .*: the file holds 11/],
    ["offsets in the wrong order", fileOf(pair({ data_offsets: [8, 0] }), 12), /expected \[begin, end\]/],
    ["one offset", fileOf(pair({ data_offsets: [0] }), 12), /expected \[begin, end\]/],
    ["overlap", fileOf(pair({}, { data_offsets: [4, 8] }), 12), /overlaps/],
    ["a gap", fileOf(pair({}, { data_offsets: [9, 13] }), 13), /gap/],
    ["bytes after the data", fileOf(pair({}), 13), /1 bytes after/],
    ["infinity", fileOf('{"a":{"dtype":"U8","shape":[1e400],"data_offsets":[0,0]}}', 0), /too large/],
    ["deep nesting", fileOf(`{"a":${"[".repeat(100_000)}`, 0), /nested more than 64/],
  ];
  test.each(cases)("%s", async (_, file, message) => {
    await expect(read(file)).rejects.toThrow(message);
  });

  test("an I64 value that does not fit", async () => {
    const file = fileOf({ a: { dtype: "I64", shape: [1], data_offsets: [0, 8] } }, 8);
    file[file.length - 4] = 1;
    await expect(read(file)).rejects.toThrow(/4294967296 at 0 does not fit/);
  });

  test("a BOOL byte of 2", async () => {
    const file = fileOf({ a: { dtype: "BOOL", shape: [1], data_offsets: [0, 1] } }, 1).fill(2, -1);
    await expect(read(file)).rejects.toThrow(/other than 0 and 1/);
  });
});

test("reads a golden file from disk", async () => {
  const folder = await openNodeFolder("test/fixtures/goldens/v3-fp8");
  const source = await folder.open("golden.safetensors");
  const { tensors } = await readSafetensorsHeader(source, "golden.safetensors");
  const ids = await readTensor(source, tensors.get("input_ids")!, "golden.safetensors");
  expect(ids.type).toEqual(tensorType("i32", [2, 40]));
  expect(Math.min(...valuesOf(ids))).toBeGreaterThanOrEqual(0);
  await source.close();
});

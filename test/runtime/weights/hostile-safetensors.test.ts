/** Mutated safetensors files and index files: a checked header or a typed error, and never a read outside the file. */
import { expect, test } from "vitest";
import { tensorOf } from "../../../src/ir/tensor.ts";
import { type ByteSource, memoryFolder, memorySource } from "../../../src/runtime/weights/byte-source.ts";
import { openCheckpoint } from "../../../src/runtime/weights/checkpoint.ts";
import { readSafetensorsHeader, readTensor, writeSafetensors } from "../../../src/runtime/weights/safetensors.ts";
import { hostileCheck, hostileNumbers, mutateBytes, mutateJson, pick, type Random, randomFrom } from "../hostile.ts";

const original = writeSafetensors(
  new Map([
    ["model.embed_tokens.weight", tensorOf("bf16", [4, 3], Array(12).fill(0.5))],
    ["model.norm.weight", tensorOf("f32", [3], [1, 2, 3])],
    ["scalar", tensorOf("i32", [], [7])],
    ["fp8", tensorOf("f8e4m3", [2, 2], [1, 2, 3, 4])],
    ["empty", tensorOf("u8", [0, 9], [])],
  ]),
  new Map([["format", "pt"]]),
);
const lengthOf = (file: Uint8Array): number => Number(new DataView(file.buffer).getBigUint64(0, true));
const headerText = new TextDecoder().decode(original.subarray(8, 8 + lengthOf(original)));
const data = original.subarray(8 + lengthOf(original));

function fileOf(header: Uint8Array | string, body: Uint8Array, length?: bigint): Uint8Array {
  const text = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + text.length + body.length);
  new DataView(file.buffer).setBigUint64(0, BigInt.asUintN(64, length ?? BigInt(text.length)), true);
  file.set(text, 8);
  file.set(body, 8 + text.length);
  return file;
}

/** One number in the header replaced by one at the edge of something. */
function hostileField(random: Random): string {
  const places = [...headerText.matchAll(/(?<=[[,])\d+(?=[\],])/g)];
  const { index, 0: digits } = pick(random, places);
  return (
    headerText.slice(0, index) + pick(random, hostileNumbers(data.length)) + headerText.slice(index + digits.length)
  );
}

const mutations: readonly ((random: Random) => Uint8Array)[] = [
  (random) => mutateBytes(random, original),
  (random) => fileOf(mutateBytes(random, new TextEncoder().encode(headerText)), data),
  (random) => fileOf(mutateJson(random, headerText), data),
  (random) => fileOf(hostileField(random), data),
  (random) => fileOf(headerText, data, BigInt(lengthOf(original) + random(41) - 20)),
  (random) =>
    fileOf(headerText, data, BigInt(pick(random, ["0", "-1", "9223372036854775808", "100000000", "4294967296"]))),
  (random) => original.slice(0, random(original.length + 1)),
  (random) => fileOf(headerText, new Uint8Array(random(2 * data.length))),
  (random) => fileOf(headerText.trimEnd() + " ".repeat(random(20)), data),
];

/** Fails the test when more is asked for than the file holds. */
function watched(file: Uint8Array): ByteSource {
  const source = memorySource("f", file);
  const read = (offset: number, length: number): Promise<Uint8Array> => {
    if (!(offset >= 0 && length >= 0 && offset + length <= file.length))
      throw new RangeError(`read ${offset}+${length}`);
    return source.read(offset, length);
  };
  return { ...source, read };
}

test("10,000 mutated files", async () => {
  const random = randomFrom(20_001);
  const check = hostileCheck();
  for (let i = 0; i < 10_000; i++) {
    const file = pick(random, mutations)(random);
    const parse = async (): Promise<void> => {
      const source = watched(file);
      const { tensors } = await readSafetensorsHeader(source, "f");
      let bytes = 0;
      for (const entry of tensors.values()) {
        const tensor = await readTensor(source, entry, "f");
        if (tensor.data.byteLength !== entry.bytes && entry.format !== "I64") throw new Error("length");
        bytes += entry.bytes;
      }
      // Every byte of the data belongs to one tensor.
      if (bytes !== file.length - 8 - lengthOf(file)) throw new Error("coverage");
    };
    await check.runAsync(parse, new TextDecoder("latin1").decode(file));
  }
  check.finish({ inputs: 10_000, refused: 5000, accepted: 500 });
});

test("3,000 mutated index files", async () => {
  const random = randomFrom(20_002);
  const check = hostileCheck();
  const shards = new Map([
    ["model-00001-of-00002.safetensors", original],
    ["model-00002-of-00002.safetensors", writeSafetensors(new Map([["lm_head.weight", tensorOf("f32", [1], [1])]]))],
  ]);
  const weightMap = Object.fromEntries(
    ["model.embed_tokens.weight", "model.norm.weight", "scalar", "fp8", "empty"].map((name) => [
      name,
      [...shards.keys()][0],
    ]),
  );
  const index = JSON.stringify({
    metadata: { total_size: 100 },
    weight_map: { ...weightMap, "lm_head.weight": "model-00002-of-00002.safetensors" },
  });
  for (let i = 0; i < 3000; i++) {
    const bytes = new TextEncoder().encode(random(2) === 0 ? mutateJson(random, index) : index);
    const mutated = random(2) === 0 ? mutateBytes(random, bytes) : bytes;
    const folder = memoryFolder("m", new Map([...shards, ["model.safetensors.index.json", mutated]]));
    const parse = async (): Promise<void> => {
      const checkpoint = await openCheckpoint(folder);
      for (const name of checkpoint.tensors.keys()) await checkpoint.read(name);
      await checkpoint.close();
    };
    await check.runAsync(parse, new TextDecoder("latin1").decode(mutated));
  }
  check.finish({ inputs: 3000, refused: 1000, accepted: 200 });
});

test("a large hostile header takes memory in proportion", async () => {
  const names = Array.from({ length: 50_000 }, (_, i) => `"t${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`);
  const source = memorySource("f", fileOf(`{${names.join(",")}}`, new Uint8Array(0)));
  expect((await readSafetensorsHeader(source, "f")).tensors.size).toBe(50_000);
});

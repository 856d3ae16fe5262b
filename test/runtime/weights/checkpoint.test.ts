/** Opening checkpoints: one file, shards, and every way in which an index can be wrong. */
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Tensor, tensorOf } from "../../../src/ir/tensor.ts";
import {
  type ByteSource,
  isPlainFileName,
  type ModelFolder,
  memoryFolder,
} from "../../../src/runtime/weights/byte-source.ts";
import { openCheckpoint } from "../../../src/runtime/weights/checkpoint.ts";
import { openNodeFolder } from "../../../src/runtime/weights/node-folder.ts";
import { writeSafetensors } from "../../../src/runtime/weights/safetensors.ts";

const utf8 = new TextEncoder();
const vector = (...values: number[]): Tensor => tensorOf("f32", [values.length], values);

/** `shards` shards of two tensors each, `t0` ... */
function sharded(shards: number, weightMap: Record<string, unknown> = {}): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const map: Record<string, unknown> = {};
  for (let i = 0; i < shards; i++) {
    const file = `model-${i}.safetensors`;
    const tensors = new Map([
      [`t${2 * i}`, vector(2 * i)],
      [`t${2 * i + 1}`, vector(2 * i + 1)],
    ]);
    files.set(file, writeSafetensors(tensors));
    for (const name of tensors.keys()) map[name] = file;
  }
  const index = JSON.stringify({ metadata: { total_size: 0 }, weight_map: { ...map, ...weightMap } });
  return files.set("model.safetensors.index.json", utf8.encode(index));
}

interface Traffic {
  bytes: number;
  open: number;
  mostOpen: number;
}

/** The folder, counting what is read and how many files are open. */
function counted(folder: ModelFolder, traffic: Traffic): ModelFolder {
  const open = async (file: string): Promise<ByteSource> => {
    const source = await folder.open(file);
    traffic.mostOpen = Math.max(traffic.mostOpen, ++traffic.open);
    return {
      size: source.size,
      read: async (offset, length) => {
        traffic.bytes += length;
        await new Promise((resume) => setImmediate(resume));
        return source.read(offset, length);
      },
      close: async () => {
        traffic.open--;
        await source.close();
      },
    };
  };
  return { ...folder, open };
}

test("reads a tensor's bytes only, with few files open, and closes them", async () => {
  const traffic: Traffic = { bytes: 0, open: 0, mostOpen: 0 };
  const checkpoint = await openCheckpoint(counted(memoryFolder("m", sharded(40)), traffic));
  traffic.bytes = 0;
  const names = [...checkpoint.tensors.keys()];
  expect(names).toHaveLength(80);
  const tensors = await Promise.all(names.map((name) => checkpoint.read(name)));
  expect(tensors).toEqual(names.map((name) => vector(Number(name.slice(1)))));
  expect(traffic.bytes).toBe(80 * 4);
  expect(traffic.mostOpen).toBeLessThanOrEqual(8);
  await checkpoint.close();
  expect(traffic.open).toBe(0);
  await expect(checkpoint.read("t0")).rejects.toThrow(/closed/);
});

test("prefers the single file, and describes its tensors", async () => {
  const files = sharded(1).set("model.safetensors", writeSafetensors(new Map([["x", vector(1, 2)]])));
  const checkpoint = await openCheckpoint(memoryFolder("m", files));
  expect([...checkpoint.tensors.keys()]).toEqual(["x"]);
  expect(checkpoint.tensors.get("x")).toMatchObject({ dtype: "f32", shape: [2], bytes: 8, file: "model.safetensors" });
  await checkpoint.close();
});

test("a missing tensor is an error with the nearest name", async () => {
  const files = new Map([["model.safetensors", writeSafetensors(new Map([["model.norm.weight", vector(1)]]))]]);
  const checkpoint = await openCheckpoint(memoryFolder("m", files));
  await expect(checkpoint.read("model.nrm.weight")).rejects.toThrow(
    'm: the checkpoint has no tensor "model.nrm.weight"\nDid you mean "model.norm.weight"?',
  );
  await checkpoint.close();
});

describe("refuses", () => {
  const index = (text: string) => new Map([["model.safetensors.index.json", utf8.encode(text)]]);
  const cases: readonly (readonly [string, Map<string, Uint8Array>, RegExp])[] = [
    ["a folder without weights", new Map(), /no weights/],
    ["pickles", new Map([["pytorch_model.bin", new Uint8Array(1)]]), /pickle .*\nConvert/],
    ["a tensor that its shard has not", sharded(2, { ghost: "model-0.safetensors" }), /model-0.*has no tensor "ghost"/],
    ["a missing shard", sharded(1, { x: "gone.safetensors" }), /gone.safetensors: no such file/],
    ["a path upwards", sharded(1, { x: "../secret.safetensors" }), /not the plain name/],
    ["an absolute path", sharded(1, { x: "/etc/x.safetensors" }), /not the plain name/],
    ["a Windows path", sharded(1, { x: "..\\x.safetensors" }), /not the plain name/],
    ["a drive", sharded(1, { x: "C:x.safetensors" }), /not the plain name/],
    ["another kind of file", sharded(1, { x: "config.json" }), /not the plain name/],
    ["a file name that is a number", sharded(1, { x: 1 }), /expected a string, got 1/],
    ["an index without weight_map", index("{}"), /weight_map: expected an object, got nothing/],
    ["a weight_map that is an array", index('{"weight_map":[]}'), /expected an object/],
    ["an index that is not JSON", index('{"weight_map"'), /not valid JSON/],
    ["a name twice", index('{"weight_map":{"a":"a.safetensors","a":"b.safetensors"}}'), /occurs twice/],
  ];
  test.each(cases)("%s", async (_, files, message) => {
    const traffic: Traffic = { bytes: 0, open: 0, mostOpen: 0 };
    await expect(openCheckpoint(counted(memoryFolder("m", files), traffic))).rejects.toThrow(message);
    expect(traffic.open).toBe(0);
  });
});

describe("on disk", () => {
  test("opens the golden checkpoints", async () => {
    const checkpoint = await openCheckpoint(await openNodeFolder("test/fixtures/goldens/v3-fp8"));
    const fp8 = [...checkpoint.tensors].filter(([, { dtype }]) => dtype === "f8e4m3");
    expect(fp8.length).toBeGreaterThan(0);
    const [name, { shape, dtype }] = fp8[0]!;
    expect((await checkpoint.read(name)).type).toEqual({ shape, dtype });
    await checkpoint.close();
  });

  test("reads nothing outside the folder, and no pipes or folders", async () => {
    const path = await mkdtemp(join(tmpdir(), "folder-"));
    try {
      const folder = await openNodeFolder(path);
      for (const file of ["../x", "/etc/passwd", "a/b", "..", ".", "", "a\0b", "NUL"]) {
        await expect(folder.open(file)).rejects.toThrow(/not the name of a file/);
      }
      await symlink("/dev/zero", join(path, "zero.safetensors"));
      await expect(folder.open("zero.safetensors")).rejects.toThrow(/not a regular file/);
      await expect(folder.open("gone")).rejects.toThrow(/no such file/);
      await writeFile(join(path, "a.json"), "{}x");
      await expect(folder.readText("a.json", 2)).rejects.toThrow(/3 bytes: expected at most 2/);
      await expect(openNodeFolder(join(path, "a.json"))).rejects.toThrow(/not a folder/);
    } finally {
      await rm(path, { recursive: true });
    }
  });

  test("a file that shrinks while open is an error, not old memory", async () => {
    const path = await mkdtemp(join(tmpdir(), "folder-"));
    try {
      await writeFile(join(path, "a"), new Uint8Array(100).fill(1));
      const source = await (await openNodeFolder(path)).open("a");
      await writeFile(join(path, "a"), new Uint8Array(10));
      await expect(source.read(0, 100)).rejects.toThrow(/became shorter/);
      await expect(source.read(0, 100, new Uint8Array(100))).rejects.toThrow(/became shorter/);
      await expect(source.read(90, 11)).rejects.toThrow(/not inside the file/);
      await source.close();
    } finally {
      await rm(path, { recursive: true });
    }
  });
});

test("plain file names", () => {
  for (const good of ["model-00001-of-00163.safetensors", "a", "..a", "config.json"])
    expect(isPlainFileName(good)).toBe(true);
  for (const bad of ["", ".", "..", "a/", "\\", "a:b", "con", "lpt1.txt", "a.", "x".repeat(256)]) {
    expect(isPlainFileName(bad)).toBe(false);
  }
});

/** Models over HTTP kept in storage: fetched once, resumed, checked, repaired; and what is said when that fails. */
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { chunkBytes } from "../../src/browser/file-record.ts";
import { NetworkError } from "../../src/browser/http-file.ts";
import {
  type DownloadProgress,
  openRemoteFolder,
  openStoredFolder,
  type StoredFolderOptions,
} from "../../src/browser/stored-folder.ts";
import { InputError, UnsupportedError } from "../../src/ir/errors.ts";
import { type FileServer, startFileServer } from "./file-server.ts";
import { type MemoryStore, memoryStore } from "./memory-store.ts";

const weights = "model.safetensors";
const size = 3 * chunkBytes + 12_345;

/** Bytes without a pattern that a shifted copy would share. */
function content(seed: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

const original = content(1, size);
let server: FileServer;
let store: MemoryStore;

beforeEach(async () => {
  server = await startFileServer({ "config.json": '{"a":1}', [weights]: original });
  server.versions.set(weights, '"one"');
  store = memoryStore();
});
afterEach(() => server.close());

function open(options: Partial<StoredFolderOptions> = {}) {
  return openStoredFolder(server.url, { store, freeBytes: async () => null, ...options });
}

async function readAll(folder: Awaited<ReturnType<typeof open>>): Promise<Uint8Array> {
  const source = await folder.open(weights);
  return source.read(0, source.size);
}

/** Like toEqual, which is slow on megabytes. */
function expectBytes(read: Uint8Array, expected: Uint8Array): void {
  expect([read.length, Buffer.compare(read, expected)]).toEqual([expected.length, 0]);
}

const bigRequests = () => server.log.filter((line) => line.startsWith(weights));

describe("a model", () => {
  it("is fetched once, with progress to its end", async () => {
    const seen: DownloadProgress[] = [];
    const folder = await open({ onProgress: (progress) => seen.push(progress) });
    expectBytes(await readAll(folder), original);
    expect(await folder.readText("config.json", 100)).toBe('{"a":1}');
    expect([await folder.has(weights), await folder.has("tokenizer.json")]).toEqual([true, false]);
    expect(seen.map(({ done }) => done)).toEqual(seen.map(({ done }) => done).sort((a, b) => a - b));
    expect(seen.at(-1)).toMatchObject({ done: size + 7, total: size + 7, kept: 0 });
    expect(bigRequests()).toEqual([`${weights} bytes=0-`]);

    server.log.length = 0;
    const again = await open();
    expect(again.state()).toEqual({ total: size + 7, kept: size + 7, repaired: 0 });
    expectBytes(await readAll(again), original);
    expect(server.log).toEqual([]);
  });

  it("is refused by its config before anything else is fetched", async () => {
    const seen: string[] = [];
    const refuse = (config: string) => {
      seen.push(config);
      throw new UnsupportedError("memory", "too large");
    };
    await expect(open({ beforeDownload: refuse })).rejects.toThrow(/too large/);
    expect(seen).toEqual(['{"a":1}']);
    expect(bigRequests()).toEqual([]);
    expect(await store.list()).toEqual([]);
    // What is there is not asked about again.
    await open({ beforeDownload: () => {} });
    await open({ beforeDownload: refuse });
    expect(seen).toHaveLength(1);
  });

  it("is found through its index, or by a list of names without asking in vain", async () => {
    const shard = "model-00001-of-00001.safetensors";
    server.files.set("model.safetensors.index.json", new TextEncoder().encode(`{"weight_map":{"w":"${shard}"}}`));
    await expect(open()).rejects.toThrow(/model-00001-of-00001\.safetensors: no such file, but model\.safetensors/);
    server.files.set(shard, original);
    expect(await (await open()).has(shard)).toBe(true);
    expect(await (await open({ files: ["config.json", weights] })).has(weights)).toBe(true);
    await expect(open({ files: ["config.json", "absent"] })).rejects.toThrow(/absent: no such file/);
  });

  it.for(["../config.json", "a/b.safetensors", "/etc/passwd.safetensors", "..\\x.safetensors"])(
    "may not name files elsewhere: %s",
    async (name) => {
      const index = JSON.stringify({ weight_map: { w: name } });
      server.files.set("model.safetensors.index.json", new TextEncoder().encode(index));
      await expect(open()).rejects.toThrow(InputError);
      await expect(open({ files: ["config.json", name] })).rejects.toThrow(InputError);
    },
  );

  it("that is not there is an error that names the address", async () => {
    server.files.delete("config.json");
    await expect(open()).rejects.toThrow(/model\/config\.json: no such file, so there is no model/);
  });
});

it("is read into memory that is given, at its place", async () => {
  for (const folder of [await open(), await openRemoteFolder(server.url)]) {
    const source = await folder.open(weights);
    const memory = new Uint8Array(200);
    const into = memory.subarray(50, 150);
    expect(await source.read(chunkBytes - 30, 100, into)).toBe(into);
    expectBytes(into, original.subarray(chunkBytes - 30, chunkBytes + 70));
    expectBytes(memory.subarray(150), new Uint8Array(50));
  }
});

describe("an interrupted download", () => {
  it("goes on at the chunk where it was aborted", async () => {
    const controller = new AbortController();
    const onProgress = ({ done }: DownloadProgress) => {
      if (done > 2 * chunkBytes) controller.abort();
    };
    await expect(open({ onProgress, signal: controller.signal })).rejects.toThrow(/abort/i);
    server.log.length = 0;
    const folder = await open();
    expect(folder.state().kept).toBeGreaterThanOrEqual(2 * chunkBytes);
    expect(bigRequests()).toEqual([`${weights} bytes=${folder.state().kept - 7}-`]);
    expectBytes(await readAll(folder), original);
  });

  it("is tried again by itself when the connection breaks", async () => {
    server.cuts = [chunkBytes + 1, 10];
    expectBytes(await readAll(await open()), original);
    expect(bigRequests().map((line) => line.split(" ")[1])).toEqual([
      "bytes=0-",
      `bytes=${chunkBytes}-`,
      `bytes=${chunkBytes}-`,
    ]);
  });

  it("starts over in silence from servers without ranges, and is right", async () => {
    server.ranges = false;
    server.cuts = [2 * chunkBytes + 5];
    expectBytes(await readAll(await open()), original);
  });

  it("never mixes two versions of a file", async () => {
    const controller = new AbortController();
    const onProgress = ({ done }: DownloadProgress) => {
      if (done > chunkBytes) controller.abort();
    };
    await expect(open({ onProgress, signal: controller.signal })).rejects.toThrow();
    const other = content(2, size);
    server.files.set(weights, other);
    server.versions.set(weights, '"two"');
    expectBytes(await readAll(await open()), other);
  });
});

describe("a damaged copy", () => {
  const damage = (at: number) => {
    const bytes = store.files.get(weights)!;
    bytes[at] = bytes[at]! ^ 1;
  };

  it("is repaired by fetching the chunk again", async () => {
    await open();
    damage(chunkBytes + 17);
    server.log.length = 0;
    const folder = await open();
    const source = await folder.open(weights);
    const parts = [0, 1, 2, 3].map((i) => source.read(chunkBytes + 10 * i, 10));
    expectBytes(Buffer.concat(await Promise.all(parts)), original.subarray(chunkBytes, chunkBytes + 40));
    expectBytes(await readAll(folder), original);
    expect(bigRequests()).toEqual([`${weights} bytes=${chunkBytes}-${2 * chunkBytes - 1}`]);
    expect(folder.state().repaired).toBe(chunkBytes);
    expectBytes(store.files.get(weights)!, original);
  });

  it("is refused where the server has other bytes by now, and fetched anew by the next load", async () => {
    await open();
    damage(0);
    const other = content(3, size);
    server.files.set(weights, other); // with the same version: a server that lies
    const folder = await open();
    await expect(readAll(folder)).rejects.toThrow(/bytes 0 to 1048576 are damaged, and not the same on the server/);
    expectBytes(await readAll(await open()), other);
  });

  it("whatever is lost, cut or changed, what is read is right", async () => {
    await open();
    const whole = new Map([...store.files].map(([name, bytes]) => [name, bytes.slice()]));
    const harm = fc.record({
      file: fc.constantFrom(...whole.keys()),
      kind: fc.constantFrom("flip", "cut", "remove"),
      at: fc.nat(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(harm, { minLength: 1, maxLength: 3 }), async (harms) => {
        store.files.clear();
        for (const [name, bytes] of whole) store.files.set(name, bytes.slice());
        for (const { file, kind, at } of harms) {
          const bytes = store.files.get(file);
          if (bytes === undefined) continue;
          const index = at % bytes.length;
          if (kind === "flip") bytes[index] = bytes[index]! ^ (1 << (at % 8));
          else if (kind === "cut") store.files.set(file, bytes.slice(0, index));
          else store.files.delete(file);
        }
        const folder = await open();
        // A record whose hash was changed calls good bytes damaged: the load after it is right.
        const read = await readAll(folder).catch(async (error: unknown) => {
          expect(error).toBeInstanceOf(InputError);
          return readAll(await open());
        });
        expectBytes(read, original);
      }),
      { numRuns: 25 },
    );
  });
});

describe("without room", () => {
  it("says which files fit, before anything is fetched", async () => {
    const error = await open({ freeBytes: async () => 5 * 2 ** 20 }).catch((each: unknown) => each);
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(String(error)).toContain("no room for the model: 3.2 MB are still to be stored, and 5.2 MB are free");
    expect(String(error)).toContain("config.json: 0.00 MB, fits");
    expect(String(error)).toContain("model.safetensors: 3.2 MB, does not fit");
    expect(bigRequests()).toEqual([]);
  });

  it("says so too when the browser refuses in the middle, and keeps what there is", async () => {
    store.quota = 2 * chunkBytes + 600; // no room for the record beside two chunks
    await expect(open()).rejects.toThrow(
      /storage: no room for the model: 2\.1 MB are still to be stored, and the browser gives no more\n.*config\.json: 0\.00 MB, stored\n.*safetensors: 2\.1 MB of 3\.2 MB, missing\n/,
    );
    store.quota = Number.POSITIVE_INFINITY;
    const folder = await open();
    expect(folder.state().kept).toBe(chunkBytes + 7);
    expectBytes(await readAll(folder), original);
  });

  it("is no matter for a model that is all there", async () => {
    await open();
    expect((await open({ freeBytes: async () => 0 })).state().kept).toBe(size + 7);
  });
});

describe("without a connection", () => {
  it("a stored model opens, and one that is not all there does not", async () => {
    await open();
    await server.close();
    expectBytes(await readAll(await open()), original);
    store.files.set(weights, store.files.get(weights)!.slice(0, 100));
    await expect(open()).rejects.toThrow(NetworkError);
  });
});

describe("a folder that is not stored", () => {
  it("reads ranges as they are needed", async () => {
    const folder = await openRemoteFolder(server.url);
    const source = await folder.open(weights);
    expect(await source.read(1000, 5)).toEqual(original.slice(1000, 1005));
    expect(await source.read(size, 0)).toEqual(new Uint8Array());
    await expect(source.read(size - 1, 2)).rejects.toThrow(/not inside the file/);
    expect(bigRequests()).toEqual([`${weights} bytes=1000-1004`]);
    server.ranges = false;
    await expect(source.read(1000, 5)).rejects.toThrow(/does not answer ranges/);
  });
});

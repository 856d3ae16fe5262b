/** One file kept in the browser's storage: fetched from where it was left, checked when read, repaired where damaged. */
import { InputError } from "../ir/errors.ts";
import { type ByteSource, checkRange } from "../runtime/weights/byte-source.ts";
import {
  chunkBytes,
  chunkCount,
  type FileRecord,
  hashChunk,
  isComplete,
  readRecord,
  recordName,
  writeRecord,
} from "./file-record.ts";
import type { FileStore, FileWriter } from "./file-store.ts";
import { NetworkError, type RemoteFile, readRemoteRange, streamRemoteFile } from "./http-file.ts";

/** After so many bytes the record is written: what a tab that is killed loses at most. */
const recordEvery = 16 * 2 ** 20;

/** Waits, in milliseconds, before the connection is tried again; progress begins them anew. */
const retryAfter: readonly number[] = [300, 1000, 3000];

/** The bytes of a file that are there already and need not be fetched. */
export async function storedBytes(store: FileStore, file: string, remote: RemoteFile): Promise<number> {
  const record = await usableRecord(store, file, remote);
  return Math.min(record.hashes.length * chunkBytes, remote.size);
}

export interface DownloadOptions {
  /** Called with the bytes of this file that are there. */
  readonly progress?: (done: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Fetches what is missing of a file. When it fails, or is aborted, what has arrived stays, to go on from there.
 * @throws NetworkError after some tries, InputError, DOMException QuotaExceededError
 */
export async function download(
  store: FileStore,
  file: string,
  remote: RemoteFile,
  { progress, signal }: DownloadOptions = {},
): Promise<void> {
  const record = await usableRecord(store, file, remote);
  const hashes = [...record.hashes];
  if (isComplete(record)) return;
  const stored = () => hashes.length * chunkBytes;
  const writer = await store.write(file);
  let recorded = stored();
  try {
    writer.truncate(stored());
    for (let failures = 0; !isComplete({ ...record, hashes }); ) {
      const before = stored();
      try {
        for await (const chunk of chunksFrom(remote, stored(), signal)) {
          signal?.throwIfAborted();
          writer.write(chunk, stored());
          hashes.push(await hashChunk(chunk));
          progress?.(Math.min(stored(), remote.size));
          if (stored() - recorded < recordEvery) continue;
          recorded = stored();
          await writeRecord(store, file, { ...record, hashes });
        }
      } catch (error) {
        // Makes room for the record, without which the rest would be worth nothing.
        if (isQuotaError(error) && hashes.pop() !== undefined) writer.truncate(stored());
        failures = stored() > before ? 1 : failures + 1;
        const wait = retryAfter[failures - 1];
        if (!(error instanceof NetworkError) || wait === undefined) throw error;
        await delay(wait, signal);
      }
    }
  } finally {
    writer.close();
    // Also after a failure: the next attempt begins here.
    await writeRecord(store, file, { ...record, hashes });
  }
}

/** The stream cut into chunks, the last of which may be shorter. @throws NetworkError when it ends too early */
async function* chunksFrom(
  remote: RemoteFile,
  offset: number,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const lengthAt = (at: number) => Math.min(chunkBytes, remote.size - at);
  let at = offset;
  let chunk = new Uint8Array(lengthAt(at));
  let filled = 0;
  for await (const piece of streamRemoteFile(remote, offset, signal)) {
    for (let used = 0; used < piece.length; ) {
      if (chunk.length === 0) throw new InputError(remote.url, `the server sends more than ${remote.size} bytes`);
      const part = piece.subarray(used, used + chunk.length - filled);
      chunk.set(part, filled);
      used += part.length;
      filled += part.length;
      if (filled < chunk.length) continue;
      yield chunk;
      at += filled;
      chunk = new Uint8Array(lengthAt(at));
      filled = 0;
    }
  }
  if (at < remote.size) throw new NetworkError(remote.url, `the connection ended ${remote.size - at} bytes early`);
}

/** The record as far as it is about this version of the file and its bytes are there. */
async function usableRecord(store: FileStore, file: string, { size, version }: RemoteFile): Promise<FileRecord> {
  const record = await readRecord(store, file);
  if (record === null || record.size !== size || record.version !== version) return { size, version, hashes: [] };
  const stored = (await store.size(file)) ?? 0;
  const whole = stored >= size ? chunkCount(size) : Math.floor(stored / chunkBytes);
  return { ...record, hashes: record.hashes.slice(0, whole) };
}

export interface OpenOptions {
  /** Called after a damaged part was fetched again. */
  readonly onRepair?: ((file: string, bytes: number) => void) | undefined;
}

/**
 * Opens a complete file. Each chunk is compared with its hash when it is first read, and fetched again where it differs.
 * @throws InputError when a chunk cannot be restored
 */
export async function openStoredFile(
  store: FileStore,
  file: string,
  remote: RemoteFile,
  { onRepair }: OpenOptions = {},
): Promise<ByteSource> {
  const { size, hashes, version } = await usableRecord(store, file, remote);
  if (!isComplete({ size, version, hashes })) throw new InputError(file, "is not all in the browser's storage");
  const verified = new Set<number>();
  /** Chunks that are being compared: reads overlap. */
  const verifying = new Map<number, Promise<Uint8Array<ArrayBuffer>>>();
  // One repair at a time: a file has one writer.
  let repairs: Promise<unknown> = Promise.resolve();

  const compare = async (index: number): Promise<Uint8Array<ArrayBuffer>> => {
    const at = index * chunkBytes;
    const chunk = await store.read(file, at, Math.min(chunkBytes, size - at));
    if ((await hashChunk(chunk)) === hashes[index]) return chunk;
    const turn = repairs.then(() => repair(store, file, remote, at, hashes[index] ?? ""));
    repairs = turn.catch(() => {});
    const restored = await turn;
    onRepair?.(file, restored.length);
    return restored;
  };
  const verify = (index: number): Promise<Uint8Array<ArrayBuffer>> => {
    const chunk = verifying.get(index) ?? compare(index).finally(() => verifying.delete(index));
    verifying.set(index, chunk);
    return chunk;
  };

  return {
    size,
    read: async (offset, length, into) => {
      checkRange(file, offset, length, size);
      const bytes = into ?? new Uint8Array(length);
      for (let done = 0; done < length; ) {
        const from = offset + done;
        const index = Math.floor(from / chunkBytes);
        const start = from - index * chunkBytes;
        const count = Math.min(chunkBytes - start, length - done);
        if (verified.has(index)) bytes.set(await store.read(file, from, count), done);
        else bytes.set((await verify(index)).subarray(start, start + count), done);
        verified.add(index);
        done += count;
      }
      return bytes;
    },
    close: async () => {},
  };
}

async function repair(
  store: FileStore,
  file: string,
  remote: RemoteFile,
  at: number,
  hash: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const chunk = await readRemoteRange(remote, at, Math.min(chunkBytes, remote.size - at));
  if ((await hashChunk(chunk)) !== hash) {
    // Neither can be trusted: begin again.
    await store.remove(recordName(file));
    throw new InputError(file, `bytes ${at} to ${at + chunk.length} are damaged, and not the same on the server`, {
      hint: "Load the model again: the file will be fetched anew.",
    });
  }
  let writer: FileWriter | undefined;
  try {
    writer = await store.write(file);
    writer.write(chunk, at);
  } finally {
    writer?.close();
  }
  return chunk;
}

export function isQuotaError(error: unknown): boolean {
  return error instanceof DOMException && error.name === "QuotaExceededError";
}

function delay(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  });
}

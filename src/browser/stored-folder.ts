/** A model's folder in the browser's storage: what is missing is fetched from the server, if there is room for it. */
import { UnsupportedError } from "../ir/errors.ts";
import { maxConfigBytes } from "../runtime/load-limits.ts";
import {
  checkRange,
  checkTextSize,
  decodeUtf8,
  type ModelFolder,
  missingFile,
} from "../runtime/weights/byte-source.ts";
import { readFolderRecord, readRecord, recordName, writeFolderRecord } from "./file-record.ts";
import type { FileStore } from "./file-store.ts";
import { fileUrl } from "./folder-url.ts";
import { NetworkError, type RemoteFile, readRemoteRange } from "./http-file.ts";
import { type FileSearch, findModelFiles, type RemoteFiles } from "./model-files.ts";
import { download, isQuotaError, openStoredFile, storedBytes } from "./stored-file.ts";

export interface DownloadProgress {
  readonly phase: "download";
  /** Bytes of the model that are there, and in all. */
  readonly done: number;
  readonly total: number;
  /** Of `done`, the bytes that were there before. */
  readonly kept: number;
  /** The file being fetched. */
  readonly file: string;
}

export interface StoredFolderOptions extends FileSearch {
  readonly store: FileStore;
  /** Bytes that may still be stored; null where the browser does not say. */
  readonly freeBytes: () => Promise<number | null>;
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
  /** Called with config.json before anything is downloaded; what it throws ends it. */
  readonly beforeDownload?: ((config: string) => void) | undefined;
}

export interface StoredFolder extends ModelFolder {
  /** Bytes of all files, those that were there before, and those fetched again because they were damaged. */
  readonly state: () => { readonly total: number; readonly kept: number; readonly repaired: number };
}

/**
 * Brings all files of the model at `url` into the store. Without a connection, a model that is all there is used as it is.
 * @throws UnsupportedError when there is no room, NetworkError, InputError
 */
export async function openStoredFolder(url: string, options: StoredFolderOptions): Promise<StoredFolder> {
  const { store, signal, onProgress, beforeDownload } = options;
  const files = await findModelFiles(url, options).catch(async (error: unknown) => {
    const offline = error instanceof NetworkError ? await completeFolder(store, url) : null;
    if (offline === null) throw error;
    return offline;
  });
  await removeOthers(store, files);
  const kept = await keptBytes(store, files);
  const total = sum([...files.values()].map(({ size }) => size));
  const before = sum(kept.values());
  const config = files.get(configFile);
  if (beforeDownload !== undefined && config !== undefined && before < total)
    beforeDownload(await remoteFolder(url, files, signal).readText(configFile, maxConfigBytes));
  checkSpace(files, kept, await options.freeBytes());
  let done = before;
  for (const [name, remote] of files) {
    const start = done - (kept.get(name) ?? 0);
    const progress = (bytes: number) => {
      done = start + bytes;
      onProgress?.({ phase: "download", done, total, kept: before, file: name });
    };
    await download(store, name, remote, { progress, signal }).catch(async (cause: unknown) => {
      throw isQuotaError(cause) ? noRoom(files, await keptBytes(store, files), null, cause) : cause;
    });
    progress(remote.size);
  }
  const record = [...files].map(([name, { size, version }]) => [name, { size, version }] as const);
  await writeFolderRecord(store, Object.fromEntries(record));
  return storedFolder(url, store, files, { total, kept: before });
}

function storedFolder(
  url: string,
  store: FileStore,
  files: RemoteFiles,
  found: { readonly total: number; readonly kept: number },
): StoredFolder {
  let repaired = 0;
  const onRepair = (_: string, bytes: number) => {
    repaired += bytes;
  };
  const open = async (file: string) => {
    const remote = files.get(file);
    if (remote === undefined) throw missingFile(url, file);
    return openStoredFile(store, file, remote, { onRepair });
  };
  return {
    name: url,
    has: async (file) => files.has(file),
    open,
    readText: async (file, maxBytes) => {
      const source = await open(file);
      checkTextSize(file, source.size, maxBytes);
      return decodeUtf8(file, await source.read(0, source.size));
    },
    state: () => ({ ...found, repaired }),
  };
}

/** The folder read over HTTP as it is needed, where nothing can be stored. */
export async function openRemoteFolder(url: string, search: FileSearch = {}): Promise<ModelFolder> {
  return remoteFolder(url, await findModelFiles(url, search), search.signal);
}

function remoteFolder(url: string, files: RemoteFiles, signal: AbortSignal | undefined): ModelFolder {
  const find = (file: string): RemoteFile => {
    const remote = files.get(file);
    if (remote === undefined) throw missingFile(url, file);
    return remote;
  };
  const open = async (file: string) => {
    const remote = find(file);
    const read = async (offset: number, length: number, into?: Uint8Array) => {
      checkRange(file, offset, length, remote.size);
      const bytes = await readRemoteRange(remote, offset, length, signal);
      if (into === undefined) return bytes;
      into.set(bytes);
      return into;
    };
    return { size: remote.size, read, close: async () => {} };
  };
  return {
    name: url,
    has: async (file) => files.has(file),
    open,
    readText: async (file, maxBytes) => {
      const { size, read } = await open(file);
      checkTextSize(file, size, maxBytes);
      return decodeUtf8(file, await read(0, size));
    },
  };
}

/** The files as they were last seen, if all of them are there. */
async function completeFolder(store: FileStore, url: string): Promise<RemoteFiles | null> {
  const record = await readFolderRecord(store);
  if (record === null) return null;
  const files = new Map<string, RemoteFile>();
  for (const [name, { size, version }] of Object.entries(record)) {
    const remote = { url: fileUrl(url, name), size, version };
    if ((await storedBytes(store, name, remote)) < size || (await readRecord(store, name)) === null) return null;
    files.set(name, remote);
  }
  return files;
}

/** The bytes of each file that are there. */
async function keptBytes(store: FileStore, files: RemoteFiles): Promise<ReadonlyMap<string, number>> {
  const kept = new Map<string, number>();
  for (const [name, remote] of files) kept.set(name, await storedBytes(store, name, remote));
  return kept;
}

/** What an earlier version of the model left behind only takes room. */
async function removeOthers(store: FileStore, files: RemoteFiles): Promise<void> {
  const ours = new Set(["folder.record", ...files.keys(), ...[...files.keys()].map(recordName)]);
  for (const file of await store.list()) if (!ours.has(file)) await store.remove(file);
}

const configFile = "config.json";
/** Records and the file system's own bookkeeping take some more. */
const spareBytes = 4 * 2 ** 20;

/** Browsers may say more than they will give, so that sites cannot recognise people by it: then writing fails later. */
function checkSpace(files: RemoteFiles, kept: ReadonlyMap<string, number>, free: number | null): void {
  const missing = sum([...files].map(([name, { size }]) => size - (kept.get(name) ?? 0)));
  if (free !== null && missing > 0 && missing + spareBytes > free) throw noRoom(files, kept, free);
}

/** Says of each file whether it is there, fits or does not. */
function noRoom(
  files: RemoteFiles,
  kept: ReadonlyMap<string, number>,
  free: number | null,
  cause?: unknown,
): UnsupportedError {
  let left = (free ?? 0) - spareBytes;
  const lines = [...files].map(([name, { size }]) => {
    const missing = size - (kept.get(name) ?? 0);
    if (missing === 0) return `  ${name}: ${megabytes(size)}, stored`;
    left -= missing;
    const fits = free === null ? "missing" : left >= 0 ? "fits" : "does not fit";
    return `  ${name}: ${megabytes(missing)}${missing < size ? ` of ${megabytes(size)}` : ""}, ${fits}`;
  });
  const missing = sum([...files].map(([name, { size }]) => size - (kept.get(name) ?? 0)));
  const room = free === null ? "and the browser gives no more" : `and ${megabytes(free)} are free`;
  return new UnsupportedError(
    "storage",
    `no room for the model: ${megabytes(missing)} are still to be stored, ${room}`,
    {
      text: lines.join("\n"),
      hint: 'Free some space, remove other models, or load with storage: "none", which keeps nothing.',
      cause,
    },
  );
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e6 ? 2 : 1)} MB`;
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

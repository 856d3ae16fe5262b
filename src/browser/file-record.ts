/**
 * What is kept beside a stored file: its size and version on the server, and the SHA-256 of each chunk. Chunks make a
 * download resumable at any of them, let a file be checked part by part when it is read, and repaired the same way.
 */
import { isPlainFileName } from "../runtime/weights/byte-source.ts";
import type { FileStore } from "./file-store.ts";

export const chunkBytes = 2 ** 20;

export interface FileRecord {
  readonly size: number;
  readonly version: string;
  /** Lower-case hexadecimal, of the chunks that are stored; all but the file's last have `chunkBytes` bytes. */
  readonly hashes: readonly string[];
}

export function chunkCount(size: number): number {
  return Math.ceil(size / chunkBytes);
}

export function isComplete({ size, hashes }: FileRecord): boolean {
  return hashes.length === chunkCount(size);
}

export async function hashChunk(chunk: Uint8Array<ArrayBuffer>): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", chunk)));
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The record of a file, null where there is none or it makes no sense: then the file is fetched again. */
export async function readRecord(store: FileStore, file: string): Promise<FileRecord | null> {
  const size = await store.size(recordName(file));
  if (size === null) return null;
  const text = new TextDecoder().decode(await store.read(recordName(file), 0, size));
  return parseRecord(text);
}

/** Written in place: what a crash leaves half written does not parse. */
export async function writeRecord(store: FileStore, file: string, record: FileRecord): Promise<void> {
  await writeWhole(store, recordName(file), JSON.stringify(record));
}

export async function writeWhole(store: FileStore, file: string, text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  const writer = await store.write(file);
  try {
    writer.truncate(0);
    writer.write(bytes, 0);
  } finally {
    writer.close();
  }
}

export function recordName(file: string): string {
  return `${file}.record`;
}

export function parseRecord(text: string): FileRecord | null {
  const value = parseJson(text);
  if (typeof value !== "object" || value === null) return null;
  const { size, version, hashes } = value as Partial<Record<string, unknown>>; // checked below
  const fits =
    Number.isSafeInteger(size) &&
    Number(size) >= 0 &&
    typeof version === "string" &&
    Array.isArray(hashes) &&
    hashes.length <= chunkCount(Number(size)) &&
    hashes.every((hash) => typeof hash === "string" && /^[0-9a-f]{64}$/.test(hash));
  return fits ? { size: Number(size), version, hashes } : null;
}

/** The names and versions of a model's files as they were when all of them had been stored: what is used offline. */
export type FolderRecord = Readonly<Record<string, Pick<FileRecord, "size" | "version">>>;

const folderRecordName = "folder.record";

export async function writeFolderRecord(store: FileStore, record: FolderRecord): Promise<void> {
  await writeWhole(store, folderRecordName, JSON.stringify(record));
}

export async function readFolderRecord(store: FileStore): Promise<FolderRecord | null> {
  const size = await store.size(folderRecordName);
  if (size === null) return null;
  const value = parseJson(new TextDecoder().decode(await store.read(folderRecordName, 0, size)));
  if (typeof value !== "object" || value === null) return null;
  const files = Object.entries(value as Record<string, unknown>); // of an object; the values are checked
  const read: Record<string, Pick<FileRecord, "size" | "version">> = {};
  for (const [name, entry] of files) {
    const record = parseRecord(JSON.stringify({ ...(entry as object), hashes: [] })); // spreading takes anything
    if (record === null || !isPlainFileName(name)) return null;
    read[name] = { size: record.size, version: record.version };
  }
  return read;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

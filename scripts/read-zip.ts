/** Reads zip archives, such as Python wheels, without unpacking them whole: the list of files, and single files out of it. */
import { createReadStream, createWriteStream } from "node:fs";
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createInflateRaw } from "node:zlib";

export interface ZipEntry {
  readonly name: string;
  readonly bytes: number;
  readonly packedBytes: number;
  /** 0 is stored, 8 deflated. */
  readonly method: number;
  /** Where the entry's own header begins. */
  readonly offset: number;
}

export interface ZipFile {
  readonly path: string;
  readonly entries: ReadonlyMap<string, ZipEntry>;
}

// Signatures and sizes of APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16.
const endSignature = 0x06054b50;
const listSignature = 0x02014b50;
const endBytes = 22;
const listBytes = 46;
const headerBytes = 30;

/** @throws Error for what is not a zip file, and for one that needs more than 32-bit sizes */
export async function openZip(path: string): Promise<ZipFile> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    const tailBytes = Math.min(size, endBytes + 0xffff);
    const tail = await readAt(file, size - tailBytes, tailBytes);
    let end = tailBytes - endBytes;
    while (end >= 0 && tail.readUInt32LE(end) !== endSignature) end--;
    if (end < 0) throw new Error(`${path}: no end of a zip file is found`);
    const [count, bytes, offset] = [
      tail.readUInt16LE(end + 10),
      tail.readUInt32LE(end + 12),
      tail.readUInt32LE(end + 16),
    ];
    if (offset === 0xffffffff || count === 0xffff) throw new Error(`${path}: zip files of 64-bit sizes are not read`);
    return { path, entries: listEntries(path, await readAt(file, offset, bytes), count) };
  } finally {
    await file.close();
  }
}

function listEntries(path: string, list: Buffer, count: number): ReadonlyMap<string, ZipEntry> {
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (list.readUInt32LE(at) !== listSignature) throw new Error(`${path}: the list of files is broken at byte ${at}`);
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((field) => list.readUInt16LE(at + field)) as [
      number,
      number,
      number,
    ]; // three fields give three numbers
    const name = list.toString("utf8", at + listBytes, at + listBytes + nameBytes);
    entries.set(name, {
      name,
      method: list.readUInt16LE(at + 10),
      packedBytes: list.readUInt32LE(at + 20),
      bytes: list.readUInt32LE(at + 24),
      offset: list.readUInt32LE(at + 42),
    });
    at += listBytes + nameBytes + extraBytes + commentBytes;
  }
  return entries;
}

/** Writes one file of the archive to `to`, whose folder is made. */
export async function extract(zip: ZipFile, name: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await pipeline(await contentOf(zip, name), createWriteStream(to));
}

/** One file of the archive as text. */
export async function readText(zip: ZipFile, name: string): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of await contentOf(zip, name)) parts.push(part);
  return Buffer.concat(parts).toString("utf8");
}

async function contentOf(zip: ZipFile, name: string): Promise<Readable> {
  const entry = zip.entries.get(name);
  if (entry === undefined) throw new Error(`${zip.path}: there is no ${name} in it`);
  const file = await open(zip.path);
  const header = await readAt(file, entry.offset, headerBytes);
  await file.close();
  const start = entry.offset + headerBytes + header.readUInt16LE(26) + header.readUInt16LE(28);
  const packed = createReadStream(zip.path, { start, end: start + entry.packedBytes - 1 });
  return entry.method === 0 ? packed : packed.pipe(createInflateRaw());
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}

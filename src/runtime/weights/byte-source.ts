/**
 * Where a model's files come from: a folder of named files, and random access to the bytes of one. The Node version is
 * in node-folder.ts; this file imports nothing from Node, so that a browser version (HTTP ranges, File) can stand beside it.
 */
import { InputError } from "../../ir/errors.ts";

/** Random access to the bytes of one file. */
export interface ByteSource {
  /** Bytes in the file when it was opened. */
  readonly size: number;
  /**
   * Exactly `length` bytes from `offset`, in memory that nobody else holds, or in `into` if given, which has that length.
   * @throws InputError when the range is not inside the file, or the file became shorter.
   */
  read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** A model's folder. File names are plain: no separators, no `..`. */
export interface ModelFolder {
  /** For messages: what the user called it. */
  readonly name: string;
  has(file: string): Promise<boolean>;
  /** The file as text. @throws InputError when it is missing, longer than `maxBytes` or not UTF-8. */
  readText(file: string, maxBytes: number): Promise<string>;
  open(file: string): Promise<ByteSource>;
  /** The file's path from the root of the file system, where it has one. */
  readonly pathOf?: (file: string) => string;
}

/** Largest part of a file read in one piece: 4 GiB. The largest tensor of a published DeepSeek checkpoint has 1.9 GB. */
export const maxReadBytes = 2 ** 32;

/** Whether `name` names a file directly in a folder, on every operating system. */
export function isPlainFileName(name: string): boolean {
  // Device names (`NUL`, `COM1`) open devices on Windows whatever their extension.
  const device = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i.test(name);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  return name.length <= 255 && /^[^/\\:*?"<>|\x00-\x1f]+$/.test(name) && !/^\.{1,2}$|[. ]$/.test(name) && !device;
}

/** @throws InputError unless `[offset, offset + length)` is a range of whole numbers inside the file. */
export function checkRange(where: string, offset: number, length: number, size: number): void {
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (!whole || offset > size || length > size - offset) {
    throw new InputError(where, `bytes ${offset} to ${offset + length} are not inside the file of ${size} bytes`);
  }
  if (length > maxReadBytes)
    throw new InputError(where, `reading ${length} bytes at once: expected at most ${maxReadBytes}`);
}

/** Text of UTF-8 bytes. @throws InputError on any malformed sequence. */
export function decodeUtf8(where: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new InputError(where, "not valid UTF-8 text", { cause });
  }
}

/** A folder held in memory, for tests and for files picked in a browser. */
export function memoryFolder(name: string, files: ReadonlyMap<string, Uint8Array>): ModelFolder {
  const find = (file: string): Uint8Array => {
    const bytes = files.get(file);
    if (bytes === undefined) throw missingFile(name, file);
    return bytes;
  };
  return {
    name,
    has: async (file) => files.has(file),
    readText: async (file, maxBytes) => {
      const bytes = find(file);
      checkTextSize(file, bytes.length, maxBytes);
      return decodeUtf8(file, bytes);
    },
    open: async (file) => memorySource(file, find(file)),
  };
}

/** A file held in memory. */
export function memorySource(where: string, bytes: Uint8Array): ByteSource {
  return {
    size: bytes.length,
    read: async (offset, length, into) => {
      checkRange(where, offset, length, bytes.length);
      if (into === undefined) return bytes.slice(offset, offset + length);
      into.set(bytes.subarray(offset, offset + length));
      return into;
    },
    close: async () => {},
  };
}

export function missingFile(folder: string, file: string): InputError {
  const hint = "A model's folder holds config.json, weights as .safetensors and mostly tokenizer.json.";
  return new InputError(`${folder} ${file}`, "no such file", { hint });
}

export function checkTextSize(where: string, size: number, maxBytes: number): void {
  if (size > maxBytes) throw new InputError(where, `file of ${size} bytes: expected at most ${maxBytes}`);
}

/** A model folder on disk, under Node. Node's modules are reached through the process, so that a browser bundle holds no import of them. */
import type { FileHandle } from "node:fs/promises";
import { InputError, showValue } from "../../ir/errors.ts";
import {
  type ByteSource,
  checkRange,
  checkTextSize,
  decodeUtf8,
  isPlainFileName,
  type ModelFolder,
  missingFile,
} from "./byte-source.ts";

/** Node reads at most 2^31 - 1 bytes in one call. */
const maxCallBytes = 2 ** 30;

/** The folder at `path`. @throws InputError when it is not a folder. */
export async function openNodeFolder(path: string): Promise<ModelFolder> {
  const { stat } = process.getBuiltinModule("node:fs/promises");
  const { join, resolve } = process.getBuiltinModule("node:path");
  const info = await stat(path).catch((cause: unknown) => {
    const why = hasCode(cause, "ENOENT") ? "there is no such file or folder" : reason(cause);
    throw new InputError(path, `cannot open the model folder: ${why}`, { cause });
  });
  if (!info.isDirectory()) {
    throw new InputError(path, "not a folder", { hint: "Name the folder that holds config.json and the weights." });
  }
  const pathOf = (file: string): string => {
    if (!isPlainFileName(file)) throw new InputError(showValue(file), "not the name of a file in the model's folder");
    return join(path, file);
  };
  const open = async (file: string): Promise<ByteSource> => openNodeFile(pathOf(file), file, path);
  return {
    name: path,
    open,
    pathOf: (file) => resolve(pathOf(file)),
    has: async (file) => {
      const found = await stat(pathOf(file)).catch(() => undefined);
      return found?.isFile() ?? false;
    },
    readText: async (file, maxBytes) => {
      const source = await open(file);
      try {
        checkTextSize(file, source.size, maxBytes);
        return decodeUtf8(file, await source.read(0, source.size));
      } finally {
        await source.close();
      }
    },
  };
}

async function openNodeFile(path: string, file: string, folder: string): Promise<ByteSource> {
  const { open, stat } = process.getBuiltinModule("node:fs/promises");
  // Asked before opening: opening a pipe would wait for its other end.
  const before = await stat(path).catch((cause: unknown) => {
    throw hasCode(cause, "ENOENT")
      ? missingFile(folder, file)
      : new InputError(file, `cannot open: ${reason(cause)}`, { cause });
  });
  if (!before.isFile()) throw new InputError(file, "not a regular file");
  const handle = await open(path, "r").catch((cause: unknown) => {
    throw new InputError(file, `cannot open: ${reason(cause)}`, { cause });
  });
  const { size } = await handle.stat();
  return {
    size,
    read: async (offset, length, into) => {
      checkRange(file, offset, length, size);
      return readFully(handle, file, offset, into ?? allocate(file, length));
    },
    close: () => handle.close(),
  };
}

/** Fills `bytes`: a short read is an error, so that what was in memory before is never taken for the file's. */
async function readFully(handle: FileHandle, file: string, offset: number, bytes: Uint8Array): Promise<Uint8Array> {
  for (let done = 0; done < bytes.length; ) {
    const want = Math.min(bytes.length - done, maxCallBytes);
    const { bytesRead } = await handle.read(bytes, done, want, offset + done).catch((cause: unknown) => {
      throw new InputError(file, `cannot read: ${reason(cause)}`, { cause });
    });
    if (bytesRead === 0)
      throw new InputError(file, `the file ends at byte ${offset + done}: it became shorter while in use`);
    done += bytesRead;
  }
  return bytes;
}

function allocate(file: string, length: number): Uint8Array {
  try {
    return new Uint8Array(length);
  } catch (cause) {
    throw new InputError(file, `no memory for ${length} bytes`, { cause });
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

function reason(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}

/** A FileStore in memory that can be damaged and can run full. */
import type { FileStore } from "../../src/browser/file-store.ts";

export interface MemoryStore extends FileStore {
  readonly files: Map<string, Uint8Array<ArrayBuffer>>;
  /** Bytes of all files together, at most. */
  quota: number;
}

export function memoryStore(): MemoryStore {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  const writing = new Set<string>();
  const resize = (file: string, size: number) => {
    const old = files.get(file) ?? new Uint8Array();
    const others = [...files].reduce((sum, [name, bytes]) => sum + (name === file ? 0 : bytes.length), 0);
    if (size > old.length && others + size > store.quota) throw new DOMException("full", "QuotaExceededError");
    const bytes = new Uint8Array(size);
    bytes.set(old.subarray(0, size));
    files.set(file, bytes);
  };
  const store: MemoryStore = {
    files,
    quota: Number.POSITIVE_INFINITY,
    size: async (file) => files.get(file)?.length ?? null,
    read: async (file, offset, length) => (files.get(file) ?? new Uint8Array()).slice(offset, offset + length),
    write: async (file) => {
      if (writing.has(file)) throw new Error(`${file} has a writer`);
      writing.add(file);
      if (!files.has(file)) files.set(file, new Uint8Array());
      return {
        write: (bytes, at) => {
          if (at + bytes.length > (files.get(file)?.length ?? 0)) resize(file, at + bytes.length);
          files.get(file)?.set(bytes, at);
        },
        truncate: (size) => resize(file, size),
        close: () => void writing.delete(file),
      };
    },
    remove: async (file) => void files.delete(file),
    list: async () => [...files.keys()],
  };
  return store;
}

/**
 * Where downloaded files are kept: a flat folder of named files that are written in place. In browsers that is a folder
 * of the Origin Private File System; tests have one in memory.
 */

export interface FileStore {
  /** Length in bytes, null where there is no such file. */
  size(file: string): Promise<number | null>;
  /** The bytes that are there, fewer than `length` at the end of the file. */
  read(file: string, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Opens a file to write, and makes it if it is not there. Only one writer of a file can be open. */
  write(file: string): Promise<FileWriter>;
  remove(file: string): Promise<void>;
  list(): Promise<readonly string[]>;
}

/** Writes are synchronous, as OPFS offers them to workers. */
export interface FileWriter {
  /** @throws DOMException QuotaExceededError when the browser gives no more space */
  write(bytes: Uint8Array, at: number): void;
  truncate(size: number): void;
  close(): void;
}

/** The folder `name` of this site's private files. Works in workers only, which alone may write synchronously. */
export async function openPrivateFolder(name: string): Promise<FileStore> {
  const root = await navigator.storage.getDirectory();
  const ours = await root.getDirectoryHandle("ciuic", { create: true });
  const folder = await ours.getDirectoryHandle(name, { create: true });
  const open = (file: string) => folder.getFileHandle(file).catch(nullIfMissing);
  return {
    size: async (file) => (await (await open(file))?.getFile())?.size ?? null,
    read: async (file, offset, length) => {
      // Asked for anew each time: a File is a snapshot, which a repair makes unreadable.
      const content = await (await open(file))?.getFile();
      return new Uint8Array((await content?.slice(offset, offset + length).arrayBuffer()) ?? new ArrayBuffer());
    },
    write: async (file) => {
      const handle = await folder.getFileHandle(file, { create: true });
      const access = await (handle as unknown as WritableHandle).createSyncAccessHandle(); // as workers have it
      return {
        write: (bytes, at) => writeAll(access, bytes, at),
        truncate: (size) => access.truncate(size),
        close: () => {
          access.flush();
          access.close();
        },
      };
    },
    remove: async (file) => {
      await folder.removeEntry(file).catch(nullIfMissing);
    },
    list: async () => Array.fromAsync(folder.keys()),
  };
}

/** Removes everything that `openPrivateFolder(name)` kept. */
export async function removePrivateFolder(name: string): Promise<void> {
  const root = await navigator.storage.getDirectory();
  const ours = await root.getDirectoryHandle("ciuic", { create: true });
  await ours.removeEntry(name, { recursive: true }).catch(nullIfMissing);
}

/** What TypeScript's declarations for pages leave out, since only workers have it. */
interface WritableHandle {
  createSyncAccessHandle(): Promise<SyncAccess>;
}

interface SyncAccess {
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

function writeAll(access: SyncAccess, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length; ) {
    const written = access.write(bytes.subarray(done), { at: at + done });
    if (written === 0) throw new DOMException("nothing more can be written", "QuotaExceededError");
    done += written;
  }
}

function nullIfMissing(error: unknown): null {
  if (error instanceof DOMException && error.name === "NotFoundError") return null;
  throw error;
}

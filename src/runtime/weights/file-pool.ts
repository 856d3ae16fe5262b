/** Open files of a folder, few at a time: reads wait for their turn, and files that nobody reads are closed when others need the place. */
import { InputError } from "../../ir/errors.ts";
import type { ByteSource, ModelFolder } from "./byte-source.ts";

export interface FilePool {
  /** Calls `task` with the open file, which it must not keep. */
  use<T>(file: string, task: (source: ByteSource) => Promise<T>): Promise<T>;
  /** Waits for reads under way, then closes every file. Later uses are errors. */
  close(): Promise<void>;
}

interface OpenFile {
  readonly source: Promise<ByteSource>;
  users: number;
}

/** At most `limit` reads run at once, and at most `limit` files are open. */
export function openFilePool(folder: ModelFolder, limit = 8): FilePool {
  const open = new Map<string, OpenFile>();
  const waiting: (() => void)[] = [];
  let running = 0;
  let closed = false;
  // Opening is one at a time, so that closing an idle file and opening the next is one step.
  let opening: Promise<unknown> = Promise.resolve();

  async function closeIdle(keep: number): Promise<void> {
    for (const [file, entry] of open) {
      if (open.size <= keep) return;
      if (entry.users > 0) continue;
      open.delete(file);
      await entry.source.then(
        (source) => source.close(),
        () => {},
      );
    }
  }

  async function acquire(file: string): Promise<OpenFile> {
    // Fewer than `limit` other reads run, so an idle file can always be closed.
    if (!open.has(file)) await closeIdle(limit - 1);
    const entry = open.get(file) ?? { source: folder.open(file), users: 0 };
    open.set(file, entry);
    entry.users++;
    return entry;
  }

  async function use<T>(file: string, task: (source: ByteSource) => Promise<T>): Promise<T> {
    if (closed) throw new InputError(file, "read after the checkpoint was closed");
    if (running >= limit) await new Promise<void>((resume) => waiting.push(resume));
    else running++;
    let entry: OpenFile | undefined;
    try {
      const turn = opening.then(() => acquire(file));
      opening = turn.catch(() => {});
      entry = await turn;
      return await task(await entry.source);
    } finally {
      if (entry !== undefined) entry.users--;
      const next = waiting.shift();
      if (next === undefined) running--;
      else next();
    }
  }

  return {
    use,
    close: async () => {
      closed = true;
      await Promise.allSettled([...open.values()].map((entry) => entry.source));
      await closeIdle(0);
    },
  };
}

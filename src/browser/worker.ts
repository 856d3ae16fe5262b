/** What a model's worker runs: the model, or in a worker with the name of a thread one thread of it. */
import { serveThread, threadName } from "../compile.ts";
import { InputError, UnsupportedError } from "../ir/errors.ts";
import { findCapabilities } from "./backend-choice.ts";
import { openPrivateFolder } from "./file-store.ts";
import { storageName } from "./folder-url.ts";
import { ModelServer, type OpenedFolder, type Surroundings } from "./model-server.ts";
import type { LoadSettings, ToWorker } from "./protocol.ts";
import { openRemoteFolder, openStoredFolder } from "./stored-folder.ts";

/** The scope of a dedicated worker, as far as it is used. */
interface WorkerScope {
  readonly name: string;
  readonly location: { readonly href: string };
  postMessage(message: unknown): void;
  onmessage: ((event: { data: ToWorker }) => void) | null;
}

// The declarations are those of pages; this file runs in workers only.
const scope = globalThis as unknown as WorkerScope;

if (scope.name === threadName)
  serveThread(scope as unknown as Parameters<typeof serveThread>[0]); // the same port
else {
  const surroundings = { capabilities: findCapabilities, openFolder, threadUrl: scope.location.href };
  const server = new ModelServer((message) => scope.postMessage(message), surroundings);
  scope.onmessage = ({ data }) => server.receive(data);
}

async function openFolder(
  url: string,
  settings: LoadSettings,
  watch: Parameters<Surroundings["openFolder"]>[2],
): Promise<OpenedFolder> {
  const { files, storage } = settings;
  const search = { files, signal: watch.signal };
  const why = storage === "none" ? null : missingStorage();
  if (storage === "opfs" && why !== null) throw new UnsupportedError("storage opfs", why);
  if (storage === "none" || why !== null) {
    const folder = await openRemoteFolder(url, search);
    return { folder, storage: () => ({ kind: "none", why, total: 0, kept: 0, repaired: 0 }) };
  }
  if (storage !== undefined && storage !== "opfs") throw new InputError("storage", 'expected "opfs" or "none"');
  const store = await openPrivateFolder(await storageName(url));
  // One tab downloads; others wait and find the files there.
  const folder = await navigator.locks.request(`ciuic ${url}`, { signal: watch.signal }, () =>
    openStoredFolder(url, { ...search, store, freeBytes, ...watch }),
  );
  return { folder, storage: () => ({ kind: "opfs", why: null, ...folder.state() }) };
}

function missingStorage(): string | null {
  if (!globalThis.isSecureContext)
    return "the page does not come over HTTPS or from this machine, so nothing can be stored";
  return typeof navigator.storage?.getDirectory === "function" ? null : "this browser has no private file system";
}

async function freeBytes(): Promise<number | null> {
  const { quota, usage = 0 } = await navigator.storage.estimate();
  return quota === undefined ? null : Math.max(quota - usage, 0);
}

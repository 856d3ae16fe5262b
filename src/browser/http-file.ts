/** Files over HTTP: how long they are, ranges of their bytes, and a stream of the rest of one. */
import { InputError } from "../ir/errors.ts";

/** A file as the server has it now. */
export interface RemoteFile {
  readonly url: string;
  readonly size: number;
  /** ETag, or else Last-Modified: what tells two versions of the file apart. Empty where the server says neither. */
  readonly version: string;
}

/** The connection failed, as opposed to an answer that says no: worth another try, or working offline. */
export class NetworkError extends InputError {}

/** Missing files are answered so; some storage services say 403, but that may also mean "log in". */
const missing = [404, 410];

/**
 * Asks for a file's size and version without reading it. Null where the server has no such file.
 * @throws NetworkError, InputError for other answers
 */
export async function findRemoteFile(url: string, signal?: AbortSignal): Promise<RemoteFile | null> {
  // One byte instead of HEAD: redirects to storage services are often signed for GET only.
  const response = await request(url, { headers: { Range: "bytes=0-0" } }, signal);
  // What is short is read, so that it does not look like a failure; a server without ranges sends everything.
  if (response.status === 200) void response.body?.cancel();
  else await response.arrayBuffer().catch((cause: unknown) => rethrow(url, cause));
  if (missing.includes(response.status) || isPage(response)) return null;
  if (!response.ok && response.status !== 416) throw refused(url, response);
  const size = totalSize(response) ?? (await sizeByHead(url, signal));
  if (size === null) {
    throw new InputError(url, "the server does not say how long the file is", {
      hint: "It should answer ranges with Content-Range, or send Content-Length without compression.",
    });
  }
  return { url, size, version: response.headers.get("ETag") ?? response.headers.get("Last-Modified") ?? "" };
}

/** A part of the file. @throws NetworkError, InputError when the answer is something else */
export async function readRemoteRange(
  { url, size }: RemoteFile,
  offset: number,
  length: number,
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  if (length === 0) return new Uint8Array();
  const response = await request(url, { headers: { Range: `bytes=${offset}-${offset + length - 1}` } }, signal);
  if (!response.ok) throw refused(url, response);
  if (response.status !== 206 && (offset > 0 || length < size)) {
    void response.body?.cancel();
    throw new InputError(url, "the server does not answer ranges of bytes", {
      hint: "Another server may; in a browser, models kept in its storage need whole files only.",
    });
  }
  const bytes = new Uint8Array(await response.arrayBuffer().catch((cause: unknown) => rethrow(url, cause)));
  if (bytes.length !== length) throw new NetworkError(url, `expected ${length} bytes, got ${bytes.length}`);
  return bytes;
}

/**
 * The bytes from `offset` to the end, in pieces as they arrive. A server without ranges sends all, of which the beginning is skipped.
 * @throws NetworkError when the connection breaks, InputError when the file is another one by now
 */
export async function* streamRemoteFile(
  { url, size, version }: RemoteFile,
  offset: number,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (offset >= size) return;
  const response = await request(url, { headers: { Range: `bytes=${offset}-` } }, signal);
  if (!response.ok || response.body === null) throw refused(url, response);
  const total = totalSize(response);
  const now = response.headers.get("ETag") ?? response.headers.get("Last-Modified") ?? "";
  if ((total !== null && total !== size && response.status === 206) || now !== version) {
    void response.body.cancel();
    throw new InputError(url, "the file on the server changed during the download", { hint: "Load the model again." });
  }
  let skip = response.status === 206 ? 0 : offset;
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((cause: unknown) => rethrow(url, cause));
      if (done) return;
      if (skip >= value.length) skip -= value.length;
      else {
        yield value.subarray(skip);
        skip = 0;
      }
    }
  } finally {
    // The reader may have stopped early; a connection that broke has nothing to cancel.
    reader.cancel().catch(() => {});
  }
}

async function request(url: string, init: RequestInit, signal?: AbortSignal): Promise<Response> {
  // The browser's own cache would hold every model a second time.
  const all: RequestInit = { ...init, cache: "no-store", ...(signal && { signal }) };
  return fetch(url, all).catch((cause: unknown) => rethrow(url, cause));
}

/** An abort stays one; everything else that fetch throws is the network's. */
function rethrow(url: string, cause: unknown): never {
  if (cause instanceof DOMException && cause.name === "AbortError") throw cause;
  throw new NetworkError(url, `cannot be fetched: ${cause instanceof Error ? cause.message : String(cause)}`, {
    hint: "The server may be down, or not allow this page to read it (CORS).",
    cause,
  });
}

function refused(url: string, { status, statusText }: Response): InputError {
  return new InputError(url, `the server answers ${`${status} ${statusText}`.trim()}`);
}

/** Sites that answer every address with their start page have no such file. */
function isPage({ headers }: Response): boolean {
  return headers.get("Content-Type")?.startsWith("text/html") ?? false;
}

/** `bytes 0-0/1234`, or for an answer with all bytes its length, unless that is of compressed bytes. */
function totalSize({ status, headers }: Response): number | null {
  const range = /\/(\d+)$/.exec(headers.get("Content-Range") ?? "")?.[1];
  if (range !== undefined) return Number(range);
  if (status !== 200 || headers.has("Content-Encoding")) return null;
  const length = headers.get("Content-Length");
  return length === null ? null : Number(length);
}

/** Servers of other sites must allow a page to see Content-Range, but Content-Length is always seen. */
async function sizeByHead(url: string, signal?: AbortSignal): Promise<number | null> {
  const response = await request(url, { method: "HEAD" }, signal);
  return response.ok ? totalSize(response) : null;
}

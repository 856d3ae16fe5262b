/** A small web server for folders and files in memory: ranges, types, and the headers that give a page shared memory. */
import { createReadStream } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { extname, join, sep } from "node:path";

export interface Site {
  /** Folders by the path under which their files appear, `/models/`. */
  readonly folders: Readonly<Record<string, string>>;
  /** Contents by path, `/chat.js`; these go before folders. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Whether pages may share memory between threads: sends COOP and COEP. */
  readonly isolated: boolean;
  /** Further headers. */
  readonly headers?: Readonly<Record<string, string>>;
}

interface Found {
  readonly size: number;
  readonly version: string;
  readonly send: (response: ServerResponse, from: number, to: number) => void;
}

const types: Readonly<Record<string, string>> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".map": "application/json",
  ".svg": "image/svg+xml",
  ".md": "text/plain; charset=utf-8",
};

/** Answers one request. Never throws: what goes wrong becomes a status. */
export async function serveSite(site: Site, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const headers = {
    // Documents and workers must have these; on everything else they do no harm.
    ...(site.isolated && {
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
      "Cross-Origin-Resource-Policy": "same-origin",
    }),
    "X-Content-Type-Options": "nosniff",
    ...site.headers,
  };
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  try {
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("Allow", "GET, HEAD");
      return answer(response, 405);
    }
    const path = pathOf(request.url ?? "/");
    const found = path === null ? null : await find(site, path);
    if (path === null || found === null) return answer(response, 404);
    sendFile(request, response, path, found);
  } catch {
    if (response.headersSent) response.destroy();
    else answer(response, 500);
  }
}

/** The decoded path, or null for one that could leave its folder or names a hidden file. */
export function pathOf(url: string): string | null {
  let path: string;
  try {
    path = decodeURIComponent(url.replace(/[?#].*$/s, ""));
  } catch {
    return null;
  }
  if (!path.startsWith("/") || /[\0\\:]/.test(path)) return null;
  const parts = path.slice(1).split("/");
  if (parts.some((part, i) => part.startsWith(".") || (part === "" && i < parts.length - 1))) return null;
  return path.endsWith("/") ? `${path}index.html` : path;
}

/** `[from, to)` of a Range header; null to send everything; `invalid` for a range outside the file. */
export function rangeOf(header: string | undefined, size: number): readonly [number, number] | null | "invalid" {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? "");
  if (match === null || (match[1] === "" && match[2] === "")) return null;
  if (match[1] === "") {
    const count = Math.min(Number(match[2]), size);
    return count === 0 ? "invalid" : [size - count, size];
  }
  const from = Number(match[1]);
  const to = match[2] === "" ? size : Math.min(Number(match[2]) + 1, size);
  return from >= size || to <= from ? "invalid" : [from, to];
}

async function find(site: Site, path: string): Promise<Found | null> {
  const content = site.files.get(path);
  if (content !== undefined) {
    const send = (response: ServerResponse, from: number, to: number) => response.end(content.subarray(from, to));
    return { size: content.length, version: String(content.length), send };
  }
  for (const [prefix, folder] of Object.entries(site.folders)) {
    if (!path.startsWith(prefix)) continue;
    const file = await fileIn(folder, path.slice(prefix.length));
    if (file !== null) return file;
  }
  return null;
}

async function fileIn(folder: string, path: string): Promise<Found | null> {
  const root = await realpath(folder);
  // A link that leads out of the folder is not followed.
  const file = await realpath(join(root, path)).catch(() => null);
  if (file === null || !file.startsWith(root + sep)) return null;
  const info = await stat(file);
  if (!info.isFile()) return null;
  return {
    size: info.size,
    version: `${info.size}-${Math.floor(info.mtimeMs)}`,
    send: (response, from, to) => {
      if (to <= from) return response.end();
      const stream = createReadStream(file, { start: from, end: to - 1 });
      stream.on("error", () => response.destroy());
      response.on("close", () => stream.destroy());
      stream.pipe(response);
    },
  };
}

function sendFile(request: IncomingMessage, response: ServerResponse, path: string, found: Found): void {
  const { size, version, send } = found;
  const etag = `"${version}"`;
  response.setHeader("Accept-Ranges", "bytes");
  response.setHeader("Cache-Control", "no-cache");
  response.setHeader("Content-Type", types[extname(path)] ?? "application/octet-stream");
  response.setHeader("ETag", etag);
  if (request.headers["if-none-match"] === etag && request.headers.range === undefined) {
    answer(response, 304);
    return;
  }
  const range = rangeOf(request.headers.range, size);
  if (range === "invalid") {
    response.setHeader("Content-Range", `bytes */${size}`);
    answer(response, 416);
    return;
  }
  const [from, to] = range ?? [0, size];
  if (range !== null) response.setHeader("Content-Range", `bytes ${from}-${to - 1}/${size}`);
  response.setHeader("Content-Length", to - from);
  response.statusCode = range === null ? 200 : 206;
  if (request.method === "HEAD") response.end();
  else send(response, from, to);
}

function answer(response: ServerResponse, status: number): void {
  response.statusCode = status;
  response.end();
}

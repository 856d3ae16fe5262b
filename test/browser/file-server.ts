/** A web server of files in memory that can misbehave: cut connections, ignore ranges, change its mind. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface FileServer {
  readonly url: string;
  readonly files: Map<string, Uint8Array>;
  /** `name` or `name bytes=...`, of every request but those for one byte, which ask for the size. */
  readonly log: string[];
  /** Versions by name, as ETag; others have none. */
  readonly versions: Map<string, string>;
  ranges: boolean;
  /** The connections that are cut next, each after so many bytes. */
  cuts: number[];
  close(): Promise<void>;
}

export async function startFileServer(files: Record<string, Uint8Array | string>): Promise<FileServer> {
  const encoded = Object.entries(files).map(([name, content]) => {
    return [name, typeof content === "string" ? new TextEncoder().encode(content) : content] as const;
  });
  const server = createServer((request, response) => answer(state, request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // of a server that listens
  const state: FileServer = {
    url: `http://127.0.0.1:${port}/model/`,
    files: new Map(encoded),
    log: [],
    versions: new Map(),
    ranges: true,
    cuts: [],
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return state;
}

function answer(state: FileServer, request: IncomingMessage, response: ServerResponse): void {
  const name = decodeURIComponent((request.url ?? "").replace("/model/", ""));
  const content = state.files.get(name);
  const { range } = request.headers;
  if (range !== "bytes=0-0") state.log.push(range === undefined ? name : `${name} ${range}`);
  if (content === undefined) {
    response.writeHead(404).end();
    return;
  }
  const version = state.versions.get(name);
  if (version !== undefined) response.setHeader("ETag", version);
  const match = state.ranges ? /^bytes=(\d+)-(\d*)$/.exec(range ?? "") : null;
  const from = match === null ? 0 : Number(match[1]);
  const to = match?.[2] ? Math.min(Number(match[2]) + 1, content.length) : content.length;
  if (from >= content.length && match !== null) {
    response.writeHead(416, { "Content-Range": `bytes */${content.length}` }).end();
    return;
  }
  response.setHeader("Content-Length", to - from);
  if (match !== null) response.setHeader("Content-Range", `bytes ${from}-${to - 1}/${content.length}`);
  response.writeHead(match === null ? 200 : 206);
  const cut = range === "bytes=0-0" || to - from < 1000 ? undefined : state.cuts.shift();
  if (cut === undefined) response.end(content.subarray(from, to));
  else response.write(content.subarray(from, Math.min(from + cut, to)), () => response.destroy());
}

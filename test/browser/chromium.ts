/** Chromium for tests: found, started, and pointed at a site of this checkout. */
import { existsSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { transform } from "esbuild";
import { type Browser, chromium } from "playwright-core";
import { bundleExample } from "../../examples/bundle.ts";
import { exampleSite } from "../../examples/serve.ts";
import { serveSite } from "../../examples/site.ts";

const usualPlaces = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The browser to test with: CHROMIUM, or one in a usual place; null where there is none. */
export function findChromium(): string | null {
  const named = process.env.CHROMIUM;
  if (named !== undefined && named !== "") return named;
  const found = usualPlaces.find((path) => existsSync(path));
  if (found === undefined) {
    console.warn(
      "SKIPPED: tests in a browser, since there is no Chromium. scripts/install-browser.sh, or set CHROMIUM.",
    );
  }
  return found ?? null;
}

export function startChromium(executablePath: string): Promise<Browser> {
  // A container has neither the rights for the sandbox nor a large /dev/shm, nor a GPU: Chromium's software one needs a flag.
  return chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-webgpu"],
  });
}

export interface TestSite {
  readonly url: string;
  /** Path, with the range where one is asked for. */
  readonly log: string[];
  /** The file of this path is sent as far as this many bytes; then nothing more comes. */
  stall: { readonly path: string; readonly bytes: number } | null;
  close(): void;
}

export interface SiteOptions {
  readonly isolated?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A page that tests run in: the library, found at `path`, as `ciuic`. */
function testPage(name: string, path: string): [string, Uint8Array][] {
  const html = `<!doctype html><title>test</title><link rel="icon" href="data:,">
    <script type="module" src="/${name}.js"></script>`;
  const script = `import * as ciuic from "${path}"; globalThis.ciuic = ciuic;`;
  const encode = (text: string) => new TextEncoder().encode(text);
  return [
    [`/${name}.html`, encode(html)],
    [`/${name}.js`, encode(script)],
  ];
}

/** Modules as they are, their types taken away: what a browser loads where there is no bundler. */
async function serveModule(url: string, response: ServerResponse): Promise<void> {
  const source = await readFile(new URL(`../..${url}`, import.meta.url), "utf8");
  const { code } = await transform(source, { loader: "ts", target: "es2022" });
  response.setHeader("Content-Type", "text/javascript").end(code);
}

let bundle: Promise<ReadonlyMap<string, Uint8Array>> | null = null;

/** Answers a request for all of a model's file, and stays silent in the middle. */
async function serveBeginning(
  { path, bytes }: NonNullable<TestSite["stall"]>,
  response: ServerResponse,
): Promise<void> {
  const file = new URL(`../..${path}`, import.meta.url);
  const [content, { mtimeMs }] = [await readFile(file), await stat(file)];
  response.writeHead(206, {
    "Content-Length": content.length,
    "Content-Range": `bytes 0-${content.length - 1}/${content.length}`,
    // As the site itself has it.
    ETag: `"${content.length}-${Math.floor(mtimeMs)}"`,
  });
  response.write(content.subarray(0, bytes));
}

/** The example's site, and `/test.html`; `/unbundled.html` takes every file of the library by itself, but for the worker. */
export async function startSite({ isolated = true, headers = {} }: SiteOptions = {}): Promise<TestSite> {
  bundle ??= bundleExample();
  const files = new Map([
    ...(await bundle),
    ...testPage("test", "/browser.js"),
    ...testPage("unbundled", "/src/browser.ts"),
  ]);
  files.set("/src/browser/worker.js", files.get("/browser/worker.js")!);
  const site = { ...exampleSite(files, isolated), headers };
  const server = createServer((request, response) => {
    const { range } = request.headers;
    started.log.push(range === undefined ? `${request.url}` : `${request.url} ${range}`);
    if (started.stall !== null && request.url === started.stall.path && range !== "bytes=0-0") {
      void serveBeginning(started.stall, response);
    } else if (/^\/src\/[\w/-]+\.ts$/.test(request.url ?? "")) void serveModule(`${request.url}`, response);
    else void serveSite(site, request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // of a server that listens
  const started: TestSite = {
    url: `http://127.0.0.1:${port}`,
    log: [],
    stall: null,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
  return started;
}

/** Chromium for tests: found, started, and pointed at a site of this checkout. */
import { existsSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
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
  // A container has neither the rights for the sandbox nor a large /dev/shm.
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

export interface TestSite {
  readonly url: string;
  /** Path, with the range where one is asked for. */
  readonly log: string[];
  /** Sees requests before the site does; true where it has answered. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean;
  close(): void;
}

export interface SiteOptions {
  readonly isolated?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
}

/** The page that tests run in: the library as `ciuic`. */
const testPage = `<!doctype html><title>test</title><link rel="icon" href="data:,">
<script type="module" src="/test.js"></script>`;
const testScript = 'import * as ciuic from "/browser.js"; globalThis.ciuic = ciuic;';

let bundle: Promise<ReadonlyMap<string, Uint8Array>> | null = null;

/** The example's site, and `/test.html`. */
export async function startSite({ isolated = true, headers = {} }: SiteOptions = {}): Promise<TestSite> {
  bundle ??= bundleExample();
  const encode = (text: string) => new TextEncoder().encode(text);
  const files = new Map([...(await bundle), ["/test.html", encode(testPage)], ["/test.js", encode(testScript)]]);
  const site = { ...exampleSite(files, isolated), headers };
  const server = createServer((request, response) => {
    const { range } = request.headers;
    started.log.push(range === undefined ? `${request.url}` : `${request.url} ${range}`);
    if (!started.intercept(request, response)) void serveSite(site, request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // of a server that listens
  const started: TestSite = {
    url: `http://127.0.0.1:${port}`,
    log: [],
    intercept: () => false,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
  return started;
}

/**
 * The same shape in a browser on this GPU, through `ciuic/browser` as a page has it: the model is read over HTTP, lives in a
 * worker, and tokens come as parts of a generation. Takes any Chromium, also one without windows (`--chromium FILE`).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { serveSite } from "../../examples/site.ts";
import { makeCheckpoint } from "../cpu/make/make-models.ts";
import { type Figures, recordFigures } from "./figures.ts";
import { beside, type Flags, type Mode, shapeFlags, shapeOptions } from "./mode.ts";

export const browserMode: Mode = {
  name: "browser",
  does: "a published shape in a browser on this GPU, through the library for pages",
  flags: [...shapeFlags, "formats", "folder", "chromium", "patience", "browser-flags"],
  run: measureInBrowser,
};

/** The GPU by Vulkan, also on systems where a browser would rather not; every index is checked, as for any page. */
const gpuArguments = [
  "--enable-unsafe-webgpu",
  "--enable-features=Vulkan,WebGPUDeveloperFeatures",
  "--use-angle=vulkan",
  "--use-vulkan=native",
  "--ignore-gpu-blocklist",
];
const quietArguments = [
  "--headless",
  "--no-sandbox",
  "--no-first-run",
  "--disable-dev-shm-usage",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--enable-logging=stderr",
];

async function measureInBrowser(flags: Flags): Promise<boolean> {
  const { shape, tokens, prefill, context, cache, figures } = shapeOptions(flags);
  if (flags.chromium === undefined) throw new Error("expected --chromium FILE, the browser to start");
  mkdirSync(cache, { recursive: true });
  const folder = flags.folder ?? makeCheckpoint(shape, "bf16", cache, console.log);
  console.log(flags.folder ?? shape.title);
  const site = { files: siteFiles(), folders: { "/model/": folder }, isolated: true };
  const { promise: ended, resolve: end } = Promise.withResolvers<boolean>();
  const server = createServer((request, response) => {
    if (request.method !== "POST") return void serveSite(site, request, response);
    void text(request).then((line) => {
      response.end();
      if (request.url === "/line") console.log(line);
      else if (request.url === "/figures") {
        recordFigures(figures, JSON.parse(line) as Figures); // what our own page sends
      } else end(request.url === "/done");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // of a server that listens
  const query = new URLSearchParams({
    formats: flags.formats,
    tokens: String(tokens),
    prefill: String(prefill),
    context: String(context),
    files: readdirSync(folder).join(","),
  });
  const profile = mkdtempSync(join(tmpdir(), "ciuic-browser-"));
  const browser = startBrowser(flags, profile, `http://127.0.0.1:${port}/?${query}`);
  const late = setTimeout(() => end(false), Number(flags.patience) * 1000);
  browser.once("exit", () => end(false));
  const well = await ended;
  if (!well) console.log("the browser did not get to the end");
  clearTimeout(late);
  browser.kill("SIGKILL");
  server.close();
  server.closeAllConnections();
  rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  return well;
}

function startBrowser(flags: Flags, profile: string, url: string): ChildProcess {
  const more = (flags["browser-flags"] ?? "").split(" ").filter((flag) => flag !== "");
  const args = [...quietArguments, ...gpuArguments, ...more, `--user-data-dir=${profile}`, url];
  return spawn(flags.chromium!, args, { stdio: ["ignore", "ignore", "inherit"] }); // asked for above
}

/** browser-page.ts and the library's worker, which lie bundled beside this code. */
function siteFiles(): ReadonlyMap<string, Uint8Array> {
  const html = `<!doctype html><link rel="icon" href="data:,"><script type="module" src="browser-page.js"></script>`;
  const scripts = ["/browser-page.js", "/browser/worker.js"];
  return new Map([
    ["/index.html", new TextEncoder().encode(html)],
    ...scripts.map((path) => [path, readFileSync(`${beside}site${path}`)] as const),
  ]);
}

/**
 * wllama, llama.cpp compiled to WebAssembly, in headless Chromium: it runs nowhere else. Times are those that it reports
 * of itself, so that neither the browser's start nor messages count. The run queue of Chromium's threads is not seen.
 */
import { createReadStream, readdirSync, readFileSync, statSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import type { Runner, Spec } from "./candidate.ts";

interface Timings {
  readonly prompt_n: number;
  readonly prompt_ms: number;
  readonly predicted_n: number;
  readonly predicted_ms: number;
}

const library = fileURLToPath(new URL("../node_modules/@wllama/wllama/esm/", import.meta.url));

/** Runs in the page. */
const script = `
import { Wllama } from "/wllama/index.js";
const quiet = { debug() {}, log() {}, warn() {}, error: console.error };
window.open_model = async (threads) => {
  const engine = new Wllama({ default: "/wllama/wasm/wllama.wasm" }, { logger: quiet, suppressNativeLog: true });
  engine.setCompat(null);
  const blob = await (await fetch("/model.gguf")).blob();
  await engine.loadModel([blob], { n_gpu_layers: 0, n_threads: threads, n_ctx: 2048, n_batch: 512, n_parallel: 1 });
  window.engine = engine;
  return navigator.userAgent.replace(/.*Chrome/, "Chrome");
};
window.complete = async (prompt, tokens, cache) => {
  const options = { prompt, max_tokens: tokens, temperature: 0, ignore_eos: true, cache_prompt: cache };
  return (await window.engine.createCompletion(options)).timings;
};
window.ready = true;
`;

export async function openWllama({ file, threads }: Extract<Spec, { engine: "wllama" }>): Promise<Runner> {
  const server = createServer((request, response) => answer(request.url ?? "/", response, file));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // of a TCP server
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  const page = await browser.newPage();
  page.setDefaultTimeout(600_000);
  await page.goto(`http://127.0.0.1:${port}/`);
  await page.waitForFunction("window.ready");
  const info = String(await page.evaluate(`open_model(${threads})`));
  const complete = async (prompt: string, tokens: number, cache: boolean): Promise<Timings> =>
    // What `createCompletion` of wllama adds to its answer.
    (await page.evaluate(`complete(${JSON.stringify(prompt)}, ${tokens}, ${cache})`)) as Timings;
  return {
    info: `wllama in ${info}`,
    context: async (tokens) => void (await complete(letters(tokens), 1, true)),
    decode: async (context, count) => {
      // The first token comes of the prompt; its time is not in `predicted_ms`.
      const { predicted_ms, predicted_n } = await complete(letters(context), count + 1, true);
      if (predicted_n !== count + 1) throw new Error(`wllama made ${predicted_n} tokens: expected ${count + 1}`);
      return { ms: predicted_ms };
    },
    prefill: async (count) => {
      const { prompt_ms, prompt_n } = await complete(letters(count), 1, false);
      if (prompt_n !== count) throw new Error(`wllama read ${prompt_n} tokens: expected ${count}`);
      return { ms: prompt_ms };
    },
    peakMemory: async () => largestDescendant(process.pid),
    close: async () => {
      await browser.close();
      server.close();
    },
  };
}

function answer(url: string, response: ServerResponse, file: string): void {
  response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
  response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
  const send = (type: string, path: string) => {
    response.setHeader("Content-Type", type);
    response.setHeader("Content-Length", statSync(path).size);
    createReadStream(path).pipe(response);
  };
  if (url === "/model.gguf") send("application/octet-stream", file);
  else if (/^\/wllama\/[\w/-]+\.js$/.test(url)) send("text/javascript", library + url.slice(8));
  else if (/^\/wllama\/[\w/-]+\.wasm$/.test(url)) send("application/wasm", library + url.slice(8));
  else {
    response.setHeader("Content-Type", "text/html");
    response.end(url === "/" ? `<!doctype html><script type="module">${script}</script>` : "");
  }
}

/** Letters that the tokenizer of the made models takes one by one. */
function letters(count: number): string {
  return Array.from({ length: count }, (_, i) => "cdefghijklmnop"[(i * 7 + (i >> 3)) % 14]).join("");
}

/** The most memory that any process below this one has had: the page's. */
function largestDescendant(root: number): number {
  const parents = new Map<number, { parent: number; peak: number }>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const status = readFileSync(`/proc/${entry}/status`, "utf8");
      const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? 0);
      parents.set(Number(entry), { parent: field("PPid"), peak: field("VmHWM") * 1024 });
    } catch {
      // It has ended since.
    }
  }
  const below = (id: number): boolean => id === root || (parents.has(id) && below(parents.get(id)!.parent));
  return Math.max(0, ...[...parents].map(([id, { peak }]) => (id !== root && below(id) ? peak : 0)));
}

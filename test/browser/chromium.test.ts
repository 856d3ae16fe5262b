/** The library in a real browser: the tokens of Node on every backend, and storage that is interrupted, damaged, full. */
import { fileURLToPath } from "node:url";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { BrowserLoadOptions, loadModel as loadInPage } from "../../src/browser.ts";
import { loadModel } from "../../src/runtime/load-model.ts";
import { findChromium, type SiteOptions, startChromium, startSite, type TestSite } from "./chromium.ts";

declare const ciuic: { readonly loadModel: typeof loadInPage };

const executable = findChromium();
const folder = fileURLToPath(new URL("../../models/tiny-deepseek", import.meta.url));
const question = [{ role: "user" as const, content: "What is 27 + 15?" }];
const shard = "/models/tiny-deepseek/model-00002-of-00002.safetensors";
const modelBytes = 23_605_361;

describe.skipIf(executable === null)("in Chromium", () => {
  let browser: Browser;
  let context: BrowserContext;
  let site: TestSite;
  let expected: readonly number[];

  beforeAll(async () => {
    browser = await startChromium(executable!);
    const model = await loadModel(folder, { backend: "js" });
    const { result } = await model.chat(question, { temperature: 0, thinking: true }).collect();
    expected = result.tokens;
    await model.close();
  }, 120_000);
  afterAll(() => browser?.close());
  beforeEach(async () => {
    // Its own storage.
    context = await browser.newContext();
  });
  afterEach(async () => {
    await context.close();
    site?.close();
  });

  async function openPage(options?: SiteOptions, path?: string): Promise<Page> {
    site = await startSite(options);
    return visit(path);
  }

  async function visit(path = "/test.html"): Promise<Page> {
    const page = await context.newPage();
    await page.goto(site.url + path);
    await page.waitForFunction(() => "ciuic" in globalThis);
    return page;
  }

  /** Loads the model, asks the question, and tells what came of it. */
  function ask(page: Page, options: Pick<BrowserLoadOptions, "backend" | "threads" | "storage" | "quantize"> = {}) {
    const run = async (given: { options: typeof options; question: typeof question }) => {
      const model = await ciuic.loadModel("/models/tiny-deepseek", given.options);
      const { result } = await model.chat(given.question, { temperature: 0, thinking: true }).collect();
      const { backend, storage } = model;
      await model.close();
      return { tokens: result.tokens, backend, storage };
    };
    return page.evaluate(run, { options, question });
  }

  /** Loads until so many bytes are there, then gives up; tells with what. */
  function interrupt(page: Page, bytes: number): Promise<string> {
    return page.evaluate(async (most) => {
      const controller = new AbortController();
      const options: BrowserLoadOptions = {
        signal: controller.signal,
        onProgress: ({ phase, done }) => {
          if (phase === "download" && done >= most) controller.abort();
        },
      };
      return ciuic.loadModel("/models/tiny-deepseek", options).then(
        () => "loaded",
        (error: unknown) => (error instanceof Error ? error.name : String(error)),
      );
    }, bytes);
  }

  it("threads, one thread and JavaScript give the tokens of Node; the next load downloads nothing", async () => {
    const page = await openPage();
    const threads = await ask(page, { threads: 2 });
    expect(threads.backend).toMatchObject({ label: "WebAssembly with threads", threads: 2 });
    expect(threads.backend.summary).toMatch(/WebAssembly, (relaxed )?SIMD, 2 threads/);
    expect(threads.backend.refused.map(({ label }) => label)).toEqual(["WebGPU"]);
    expect(threads.tokens).toEqual(expected);
    expect(threads.storage).toEqual({ kind: "opfs", why: null, total: modelBytes, kept: 0, repaired: 0 });

    site.log.length = 0;
    const javascript = await ask(page, { backend: "js" });
    expect(javascript.tokens).toEqual(expected);
    expect(javascript.storage).toEqual({ kind: "opfs", why: null, total: modelBytes, kept: modelBytes, repaired: 0 });
    expect(site.log.filter((line) => line.startsWith(shard))).toEqual([`${shard} bytes=0-0`]);
  });

  it("WebGPU, on the browser's software driver, gives the tokens of Node", async () => {
    const page = await openPage();
    const { backend, tokens } = await ask(page, { backend: "webgpu" });
    expect(backend.label).toBe("WebGPU");
    expect(tokens).toEqual(expected);
  }, 240_000);

  it("without isolation it runs on one thread and says why", async () => {
    const page = await openPage({ isolated: false });
    const { backend, tokens, storage } = await ask(page, { storage: "none" });
    expect(backend.label).toBe("WebAssembly on one thread");
    expect(backend.refused.find(({ label }) => label === "WebAssembly with threads")?.reason).toMatch(
      /not cross-origin isolated.*Cross-Origin-Opener-Policy/,
    );
    expect(tokens).toEqual(expected);
    expect(storage).toMatchObject({ kind: "none", why: null });
  });

  it("without a bundler, and with threads that start from a file where a policy forbids blobs", async () => {
    const policy = "default-src 'self'; script-src 'self' 'unsafe-eval'; worker-src 'self'";
    const page = await openPage({ headers: { "Content-Security-Policy": policy } }, "/unbundled.html");
    const { backend, tokens } = await ask(page, { threads: 2 });
    expect(backend.label).toBe("WebAssembly with threads");
    expect(tokens).toEqual(expected);
  });

  it("a policy without generated code is an error that says what is missing", async () => {
    const page = await openPage({ headers: { "Content-Security-Policy": "script-src 'self' 'wasm-unsafe-eval'" } });
    await expect(ask(page)).rejects.toThrow(/content security policy: generated code may not run\n.*'unsafe-eval'/);
  });

  it("an interrupted download goes on in another tab, and damage is repaired", async () => {
    const page = await openPage();
    const arrived = modelBytes - 13_897_576 + 5 * 2 ** 20;
    site.stall = { path: shard, bytes: 5.5 * 2 ** 20 };
    expect(await interrupt(page, arrived)).toBe("AbortError");
    await page.close();
    site.stall = null;
    site.log.length = 0;
    const [second, third] = [await visit(), await visit()];
    // Of two tabs one downloads.
    const both = await Promise.all([ask(second, { backend: "js" }), ask(third, { backend: "js" })]);
    const [{ storage, tokens }, late] = both.sort((a, b) => a.storage.kept - b.storage.kept);
    expect(late.storage.kept).toBe(modelBytes);
    expect(storage.kept).toBe(arrived);
    const resumed = site.log.filter((line) => line.startsWith(shard) && !line.endsWith("bytes=0-0"));
    expect(resumed).toEqual([`${shard} bytes=${5 * 2 ** 20}-`]);
    expect(tokens).toEqual(expected);

    await second.evaluate(async () => {
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("ciuic");
      for await (const each of root.values()) {
        const file = await (each as FileSystemDirectoryHandle).getFileHandle("model-00002-of-00002.safetensors"); // so kept
        const writable = await file.createWritable({ keepExistingData: true });
        await writable.write({ type: "write", position: 7_000_000, data: new Uint8Array(1000) });
        await writable.close();
      }
    });
    const repaired = await ask(second, { backend: "js" });
    expect(repaired.storage).toMatchObject({ kept: modelBytes, repaired: 2 ** 20 });
    expect(repaired.tokens).toEqual(expected);
  });

  it("without room it says what fits", async () => {
    const page = await openPage();
    const session = await context.newCDPSession(page);
    await session.send("Storage.overrideQuotaForOrigin", { origin: site.url, quotaSize: 15e6 });
    await expect(ask(page)).rejects.toThrow(
      /storage: no room for the model: [\d.]+ MB are still to be stored, and .*\n(.*\n)*.*00001-of-00002\.safetensors: 9\.4 MB, (stored|fits)\n.*00002-of-00002\.safetensors: [\d.]+ MB( of 13\.9 MB)?, (missing|does not fit)\n/,
    );
  });

  it("answers end when they are stopped, and errors keep their kind", async () => {
    const page = await openPage({ isolated: false });
    const seen = await page.evaluate(async () => {
      const model = await ciuic.loadModel("/models/tiny-deepseek", { contextLength: 256 });
      const story = [{ role: "user" as const, content: "Tell me a story about a fox." }];
      const controller = new AbortController();
      let parts = 0;
      const answer = model.chat(story, { signal: controller.signal, ignoreEos: true });
      for await (const _ of answer) if (++parts === 5) controller.abort();
      const { finishReason, usage } = await answer.result;
      const after = await model.generate("Once", { maxTokens: 3, temperature: 0 }).result;
      const error = await model.generate("word ".repeat(500)).result.catch((each: unknown) => each);
      await model.close();
      const closed = await model.generate("a").result.catch((each: unknown) => String(each));
      const kind = error instanceof Error && "kind" in error ? error.kind : null;
      return { finishReason, tokens: usage.completionTokens, after: after.tokens.length, kind, closed };
    });
    expect(seen).toMatchObject({ finishReason: "abort", after: 3, kind: "input" });
    expect(seen.tokens).toBeLessThan(100);
    expect(seen.closed).toMatch(/closed/);
  });
});

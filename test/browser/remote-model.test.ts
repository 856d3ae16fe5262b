/** A model behind messages: the same tokens as in one place, and every request ends, whatever happens. */
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Capabilities } from "../../src/browser/backend-choice.ts";
import { loadFirst, ModelServer, type Surroundings } from "../../src/browser/model-server.ts";
import type { BrowserProgress, FromWorker, LoadSettings, ToWorker } from "../../src/browser/protocol.ts";
import { loadInWorker, type RemoteModel, type WorkerPort } from "../../src/browser/remote-model.ts";
import { InputError, UnsupportedError } from "../../src/ir/errors.ts";
import { loadModel } from "../../src/runtime/load-model.ts";
import { memoryFolder } from "../../src/runtime/weights/byte-source.ts";
import { openNodeFolder } from "../../src/runtime/weights/node-folder.ts";

const folder = fileURLToPath(new URL("../../models/tiny-deepseek", import.meta.url));
const capabilities: Capabilities = {
  webgpu: "none here",
  softwareGpu: false,
  wasm: null,
  isolation: null,
  blobWorkers: true,
  cores: 1,
};
const surroundings: Surroundings = {
  capabilities: async () => capabilities,
  threadUrl: "",
  openFolder: async (_, { files }) => ({
    folder: files === undefined ? await openNodeFolder(folder) : memoryFolder("empty", new Map()),
    storage: () => ({ kind: "opfs", why: null, total: 1, kept: 0, repaired: 0 }),
  }),
};

type TestWorker = WorkerPort & { terminated: boolean };

/** A server behind messages that are cloned and come later, as between a page and a worker. */
function worker(around: Surroundings = surroundings): TestWorker {
  const later = (deliver: () => void) => void setTimeout(deliver, 0);
  const port: TestWorker = {
    terminated: false,
    onmessage: null,
    onerror: null,
    onmessageerror: null,
    terminate: () => {
      port.terminated = true;
    },
    postMessage: (message) => {
      const data = structuredClone(message);
      later(() => server.receive(data));
    },
  };
  const server = new ModelServer((message: FromWorker) => {
    const data = structuredClone(message);
    later(() => port.terminated || port.onmessage?.({ data } as MessageEvent<FromWorker>)); // what is read of it
  }, around);
  return port;
}

const load = (settings: LoadSettings = {}, port = worker()) => loadInWorker(port, "http://x/", settings, {});

describe("a loaded model", () => {
  let model: RemoteModel;
  const progress: BrowserProgress[] = [];

  beforeAll(async () => {
    const settings: LoadSettings = { backend: "js", contextLength: 256, maxSequences: 2 };
    model = await loadInWorker(worker(), "http://x/", settings, { onProgress: (each) => progress.push(each) });
  }, 120_000);
  afterAll(() => model.close());

  it("says what it is", () => {
    expect(model.backend).toMatchObject({ label: "JavaScript", backend: "js", refused: [] });
    expect(model.config.num_hidden_layers).toBe(6);
    expect(model.memory.weights).toBeGreaterThan(1e6);
    const { kernels, passes, report } = model.program;
    expect(kernels).toHaveLength(report.kernels);
    expect(kernels.reduce((sum, { launches }) => sum + launches, 0)).toBe(report.launches);
    expect(kernels.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(report.bytes);
    expect(passes.map(({ name }) => name)).toContain("simplify");
    expect(progress.map(({ phase }) => phase)).toEqual(expect.arrayContaining(["compile", "weights"]));
  });

  it("gives the tokens of the model itself, in parts and in all", async () => {
    const here = await loadModel(folder, { backend: "js", contextLength: 256 });
    const messages = [{ role: "user", content: "What is 27 + 15?" }] as const;
    const options = { temperature: 0, thinking: true };
    const expected = await here.chat(messages, options).collect();
    await here.close();
    const { text, reasoning, result } = await model.chat(messages, options).collect();
    expect([text, reasoning, result.tokens]).toEqual([expected.text, expected.reasoning, expected.result.tokens]);
    expect(text).toContain("42");
    const prompt = new Int32Array([0, 397, 431]);
    const [one, two] = await Promise.all([
      model.generate(prompt, { maxTokens: 4, temperature: 0 }),
      model.logits(prompt),
    ]);
    expect((await one.result).tokens).toHaveLength(4);
    expect(two).toHaveLength(3 * 4096);
  });

  it("shows its kernels", async () => {
    expect(await model.kernel(0)).toMatchObject({ ir: expect.stringMatching(/^kernel /), source: expect.anything() });
    expect(await model.kernel(1e6)).toBeNull();
  });

  it("stops when told: by a signal, by abort, by leaving the loop", async () => {
    const story = [{ role: "user", content: "Tell me a story about a fox." }] as const;
    const controller = new AbortController();
    const bySignal = model.chat(story, { signal: controller.signal });
    const byAbort = model.chat(story);
    for await (const _ of byAbort) break;
    controller.abort();
    expect((await bySignal.result).finishReason).toBe("abort");
    expect((await byAbort.result).finishReason).toBe("abort");
    const already = model.chat(story, { signal: AbortSignal.abort() });
    expect((await already.result).finishReason).toBe("abort");
  });

  it("gives errors with their kind, before and during a request", async () => {
    await expect(model.generate([1e9]).result).rejects.toThrow(InputError);
    await expect(model.chat([{ role: "user", content: "a" }], { temperature: -1 }).collect()).rejects.toThrow(
      /temperature/,
    );
    const unsendable = { temperature: 0, stop: (() => {}) as unknown as string }; // what no message can hold
    await expect(model.generate("a", unsendable).result).rejects.toThrow(/cannot be sent/);
  });
});

describe("loading", () => {
  it("falls back where a backend does not take the model, and says so", async () => {
    const choices = [
      { label: "Threads", backend: "wasm", threads: 2 },
      { label: "JavaScript", backend: "js" },
    ];
    const without = (backend: string, error: Error): typeof loadModel => {
      return async (source, options) => {
        if (options?.backend === backend) throw error;
        return loadModel(source, { ...options, contextLength: 64 });
      };
    };
    const here = await openNodeFolder(folder);
    const full = new UnsupportedError("wasm memory", "the engine gives no memory");
    const { model, choice, failed } = await loadFirst(here, choices, {}, without("wasm", full));
    await model.close();
    expect(choice.label).toBe("JavaScript");
    expect(failed).toEqual([{ label: "Threads", reason: "wasm memory: the engine gives no memory" }]);
    // Not the backend's fault, or nothing left to try: the error itself.
    const other = new UnsupportedError("config.json rope_scaling", "unknown");
    await expect(loadFirst(here, choices, {}, without("wasm", other))).rejects.toBe(other);
    await expect(loadFirst(here, choices.slice(0, 1), {}, without("wasm", full))).rejects.toBe(full);
  });

  it("runs where the machine has one core on one thread", async () => {
    const model = await load({ contextLength: 64 });
    expect(model.backend.label).toBe("WebAssembly on one thread");
    expect(model.backend.refused.map(({ label }) => label)).toEqual(["WebGPU", "WebAssembly with threads"]);
    await model.close();
  });

  it("prunes as it is told, and refuses what is no pruning", async () => {
    const experts = Array.from({ length: 16 }, (_, i) => i);
    const settings: LoadSettings = { backend: "js", contextLength: 64 };
    const whole = await load(settings);
    const layers = whole.config.feed_forward.flatMap(({ kind }, i) => (kind === "moe" ? [i] : []));
    await whole.close();
    const kept = new Map(layers.map((layer) => [layer, experts.filter((i) => i % 4 !== 3)]));
    const pruned = await load({ ...settings, prune: { experts: Object.fromEntries(kept) } });
    expect(pruned.memory.weights).toBeLessThan(0.9 * whole.memory.weights);
    await pruned.close();
    await expect(load({ ...settings, prune: { sparsity: "9:4" } as never })).rejects.toThrow(/sparsity/);
  });

  it("fails with the error of the worker, and ends it", async () => {
    const port = worker();
    await expect(load({ files: [] }, port)).rejects.toThrow(/config\.json/);
    expect(port.terminated).toBe(true);
    await expect(load({ backend: "webgpu" })).rejects.toThrow(UnsupportedError);
  });

  it("can be given up", async () => {
    const controller = new AbortController();
    const port = worker({
      ...surroundings,
      openFolder: (_, __, { signal }) =>
        new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    });
    const loading = loadInWorker(port, "http://x/", {}, { signal: controller.signal });
    controller.abort(new Error("enough"));
    await expect(loading).rejects.toThrow("enough");
    expect(port.terminated).toBe(true);
  });

  it("a worker that dies fails everything, now and later", async () => {
    const port = worker();
    const model = await load({ backend: "js", contextLength: 64 }, port);
    const answer = model.generate([0], { maxTokens: 50 });
    port.onerror?.({ message: "out of memory" } as ErrorEvent); // what is read of it
    await expect(answer.result).rejects.toThrow(/worker: out of memory/);
    await expect(model.generate([0]).result).rejects.toThrow(/worker: out of memory/);
    expect(port.terminated).toBe(true);
    await model.close();
  });

  it("a worker takes one model, and nothing before it", async () => {
    const answers: FromWorker[] = [];
    const server = new ModelServer((message) => answers.push(message), surroundings);
    const ask = (message: ToWorker) => server.receive(message);
    ask({ kind: "generate", id: 1, prompt: "a", options: {} });
    ask({ kind: "load", id: 2, url: "", settings: { files: [] } });
    ask({ kind: "load", id: 3, url: "", settings: {} });
    await expect.poll(() => answers.filter(({ kind }) => kind === "failed").map(({ id }) => id)).toEqual([1, 3, 2]);
  });
});

/** Which backend runs in this browser: the first of a list that nothing speaks against, and what spoke against those before. */
import { missingWasm } from "../compile.ts";
import { UnsupportedError } from "../ir/errors.ts";
import { mayShareMemory } from "../runtime/default-threads.ts";
import { isSoftwareGpu } from "../runtime/probe/gpu-adapter.ts";
import { type Refusal, runnableTargets } from "../runtime/probe/rank-targets.ts";

/** What decides. Texts say why something is not there, null that it is. */
export interface Capabilities {
  readonly webgpu: string | null;
  /** WebGPU is there, but the processor does its work: slower than WebAssembly, so only for who asks for it. */
  readonly softwareGpu: boolean;
  readonly wasm: string | null;
  /** Shared memory between threads. */
  readonly isolation: string | null;
  /** How threads may start: from a blob, or only from a file of the site (see `DeviceOptions.threadUrl`). */
  readonly blobWorkers: boolean;
  readonly cores: number;
  /** Bytes of a buffer that a kernel of the GPU sees at once. */
  readonly binding?: number | null;
  /** Bytes of this machine's memory, where the browser says so little of it that it is a limit. */
  readonly memory?: number | null;
}

export interface BackendChoice {
  readonly label: string;
  readonly backend: string;
  /** Left out where the backend has no threads. */
  readonly threads?: number;
}

export type { Refusal } from "../runtime/probe/rank-targets.ts";

interface Rung {
  readonly label: string;
  readonly backend: string;
  readonly threads: (wanted: number | undefined, capabilities: Capabilities) => number | null;
  readonly missing: (capabilities: Capabilities, threads: number) => string | null;
}

/** From the fastest to what runs everywhere. A new backend is one more entry, and a capability that speaks against it. */
const ladder: readonly Rung[] = [
  { label: "WebGPU", backend: "webgpu", threads: () => null, missing: ({ webgpu }) => webgpu },
  {
    label: "WebAssembly with threads",
    backend: "wasm",
    threads: (wanted, { cores }) => wanted ?? cores,
    missing: ({ wasm, isolation }, threads) =>
      wasm ?? isolation ?? (threads > 1 ? null : "one thread was asked for, or is best for this model on this machine"),
  },
  { label: "WebAssembly on one thread", backend: "wasm", threads: () => 1, missing: ({ wasm }) => wasm },
  { label: "JavaScript", backend: "js", threads: () => null, missing: () => null },
];

export interface Wanted {
  /** A backend by name; left out, the best there is. */
  readonly backend?: string | undefined;
  readonly threads?: number | undefined;
}

export interface Choices {
  /** What can run, best first. Empty where the backend asked for cannot. */
  readonly possible: readonly BackendChoice[];
  readonly refused: readonly Refusal[];
}

/** @throws UnsupportedError for a backend that does not exist, or none of which can run here */
export function chooseBackends({ backend, threads }: Wanted, capabilities: Capabilities): Choices {
  const rows = ladder.map((rung) => {
    const count = rung.threads(threads, capabilities);
    const missing = rung.missing(capabilities, count ?? 1);
    const software = rung.backend === "webgpu" && capabilities.softwareGpu;
    return { label: rung.label, backend: rung.backend, threads: count, missing, software };
  });
  const { possible, refused } = runnableTargets(rows, backend);
  const choices = possible.map(({ label, backend: name, threads: count }) => ({
    label,
    backend: name,
    ...(count === null ? {} : { threads: count }),
  }));
  return { possible: choices, refused };
}

/** Looks at the browser; to be called in the worker that will compute. @throws UnsupportedError where nothing can run */
export async function findCapabilities(): Promise<Capabilities> {
  checkEvaluation();
  return {
    ...(await findWebgpu()),
    wasm: missingWasm(),
    isolation: missingIsolation(),
    blobWorkers: await canStartFromBlob(),
    cores: navigator.hardwareConcurrency || 1,
    memory: machineMemory(),
  };
}

/** Also WebAssembly needs it: weight expressions are computed by JavaScript. */
function checkEvaluation(): void {
  try {
    new Function("");
  } catch (cause) {
    throw new UnsupportedError("content security policy", "generated code may not run", {
      hint: "The headers of the worker's file need script-src with 'unsafe-eval'.",
      cause,
    });
  }
}

/** Browsers say no more than this many GiB, whatever there is, so that machines cannot be told apart. */
const mostTold = 8;

/** Some browsers tell the memory, rounded. */
function machineMemory(): number | null {
  const { deviceMemory } = navigator as { readonly deviceMemory?: number }; // not in every browser
  return deviceMemory !== undefined && deviceMemory < mostTold ? deviceMemory * 2 ** 30 : null;
}

async function findWebgpu(): Promise<Pick<Capabilities, "webgpu" | "softwareGpu" | "binding">> {
  if (!("gpu" in navigator)) return { webgpu: "this browser has no WebGPU", softwareGpu: false };
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  if (adapter === null) return { webgpu: "the browser offers no GPU", softwareGpu: false };
  const binding = adapter.limits.maxStorageBufferBindingSize;
  return { webgpu: null, softwareGpu: isSoftwareGpu(adapter.info), binding };
}

function missingIsolation(): string | null {
  if (mayShareMemory()) return null;
  return "the page is not cross-origin isolated, so threads cannot share memory (headers Cross-Origin-Opener-Policy and Cross-Origin-Embedder-Policy)";
}

/** A content security policy may forbid it, which only shows when one is started. */
function canStartFromBlob(): Promise<boolean> {
  const url = URL.createObjectURL(new Blob(["postMessage(0)"], { type: "text/javascript" }));
  return new Promise<boolean>((resolve) => {
    try {
      const worker = new Worker(url);
      const answer = (can: boolean) => {
        worker.terminate();
        resolve(can);
      };
      worker.onmessage = () => answer(true);
      worker.onerror = () => answer(false);
    } catch {
      resolve(false);
    }
  }).finally(() => URL.revokeObjectURL(url));
}

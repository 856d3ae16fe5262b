/**
 * The optional packages: which each engine needs, how they are imported when asked for, and what is said when that
 * fails, with the one command that mends it.
 */
import { UnsupportedError } from "../../ir/errors.ts";
import type { Tf } from "./tf.ts";

/** The one version that this is written for; all parts must be of the same. */
export const tfVersion = "4.22.0";

export type ImportPackage = (name: string) => Promise<unknown>;

export type EngineKind = "cpu" | "wasm" | "webgpu" | "tensorflow" | "tensorflow-gpu";

const coreName = "@tensorflow/tfjs-core";

const packages: Record<EngineKind, readonly string[]> = {
  cpu: [coreName, "@tensorflow/tfjs-backend-cpu"],
  wasm: [coreName, "@tensorflow/tfjs-backend-wasm"],
  webgpu: [coreName, "@tensorflow/tfjs-backend-webgpu"],
  tensorflow: ["@tensorflow/tfjs-node"],
  "tensorflow-gpu": ["@tensorflow/tfjs-node-gpu"],
};

// Bundlers leave names in variables alone.
const importByName: ImportPackage = (name) => import(name);

export interface LoadedPackages {
  readonly tf: Tf;
  /** The package of the backend itself. */
  readonly backend: Readonly<Record<string, unknown>>;
}

/** Imports TensorFlow.js with a backend. @throws UnsupportedError that says what is missing and how to get it */
export async function importTensorFlow(kind: EngineKind, importPackage = importByName): Promise<LoadedPackages> {
  const names = packages[kind];
  const isNative = names[0] !== coreName;
  if (isNative) await restoreUtil();
  const before = isNative ? await currentBackend(importPackage) : () => {};
  const modules: Readonly<Record<string, unknown>>[] = [];
  for (const name of names) {
    try {
      modules.push(exportsOf(await importPackage(name)));
    } catch (cause) {
      throw explain(kind, name, cause);
    }
  }
  before();
  // The packages are of the version above, whose exports the interface describes.
  return { tf: modules[0] as unknown as Tf, backend: modules.at(-1)! };
}

/** A script's exports are its default export, and by name only those that Node finds in its text. */
function exportsOf(module: unknown): Readonly<Record<string, unknown>> {
  const found = module as Readonly<Record<string, unknown>>; // of a module
  const { default: main } = found;
  return typeof main === "object" && main !== null ? (main as Readonly<Record<string, unknown>>) : found;
}

/** tfjs-node makes its backend the current one when it is imported: gives a function that takes that back. */
async function currentBackend(importPackage: ImportPackage): Promise<() => void> {
  const core = await importPackage(coreName).catch(() => null);
  if (core === null) return () => {};
  const engine = (exportsOf(core) as unknown as Tf).engine(); // as above
  const { backendName, backendInstance } = engine;
  return () => Object.assign(engine, { backendName, backendInstance });
}

/** tfjs-node 4.22.0 calls a function of `node:util` that Node 23 took away. */
async function restoreUtil(): Promise<void> {
  const name = "node:util";
  const { default: util } = (await import(name)) as { default: { isNullOrUndefined?: (value: unknown) => boolean } };
  util.isNullOrUndefined ??= (value) => value === undefined || value === null;
}

function explain(kind: EngineKind, name: string, cause: unknown): UnsupportedError {
  const { what, hint } = failureOf(kind, name, codeOf(cause), firstOf(cause));
  return new UnsupportedError(kind.startsWith("tensorflow") ? kind : `tfjs-${kind}`, what, { hint, cause });
}

/** What an error says first: advice and lists of files follow. Node says in several lines what is wrong with an addon. */
function firstOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const lines = cause.message.split("\n");
  return codeOf(cause) === "ERR_DLOPEN_FAILED" ? lines.join(" ").replace(/\. Please .*/, "") : lines[0]!;
}

function codeOf(error: unknown): unknown {
  return typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
}

/** The failures of the packages of version 4.22.0, told apart by code and text. */
function failureOf(
  kind: EngineKind,
  name: string,
  code: unknown,
  message: string,
): { readonly what: string; readonly hint: string } {
  const missing = code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND";
  if (missing && message.includes(`'${name}'`)) {
    const all = packages[kind].map((each) => `${each}@${tfVersion}`).join(" ");
    return { what: `the package ${name} is not installed`, hint: `Install it: npm install ${all}` };
  }
  if (message.includes("native addon module")) {
    return {
      what: `${name} is installed without its native addon, which its install script fetches or builds`,
      hint: `Run the script: npm rebuild ${name}`,
    };
  }
  // The script leaves files alone that are there.
  const anew = `npm rm ${name} && npm install ${name}@${tfVersion}`;
  if (code === "ERR_DLOPEN_FAILED" && message.includes("libtensorflow")) {
    const gone = message.includes("cannot open shared object file") && !message.includes("framework");
    return {
      what: `the TensorFlow library that ${name} runs on ${gone ? "is missing" : "is not whole"}: ${message}`,
      hint: gone ? `Let its install script fetch it: npm rebuild ${name}` : `Install it anew: ${anew}`,
    };
  }
  if (code === "ERR_DLOPEN_FAILED") {
    return {
      what: `the native addon of ${name} is not one that this Node can load here: ${message}`,
      hint: `Install it anew with this Node: ${anew}`,
    };
  }
  return { what: `${name} cannot be loaded: ${message}`, hint: `Reinstall it: npm install ${name}@${tfVersion}` };
}

/** The GPU package computes on the CPU, saying nothing, where its TensorFlow finds no GPU. */
export function checkGpu(backend: object): void {
  if ("isUsingGpuDevice" in backend && backend.isUsingGpuDevice === true) return;
  throw new UnsupportedError("tensorflow-gpu", "TensorFlow runs, but finds no GPU that it can use", {
    hint: "See what the driver finds: nvidia-smi. TensorFlow's own log says which CUDA library it misses; on the CPU: --backend tensorflow",
  });
}

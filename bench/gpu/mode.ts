/** What a mode of this benchmark is, the flags of all of them, and the GPU that most of them open. */
import { parseArgs } from "node:util";
import { openNodeGpu } from "../../src/runtime/node-gpu.ts";
import { publishedLayers, type Shape, shapeName, shapeOf } from "../cpu/make/shapes.ts";

export const flags = {
  goldens: { type: "string" },
  only: { type: "string" },
  shape: { type: "string", default: "qwen" },
  layers: { type: "string" },
  formats: { type: "string", default: "f32,int8,int4" },
  tokens: { type: "string", default: "64" },
  prefill: { type: "string", default: "512" },
  context: { type: "string", default: "128" },
  checked: { type: "boolean", default: false },
  profile: { type: "boolean", default: false },
  sequences: { type: "string" },
  folder: { type: "string" },
  cache: { type: "string" },
  rate: { type: "string" },
  gpus: { type: "string", default: "0,1" },
  lanes: { type: "string", default: "2" },
  bits: { type: "string", default: "4,8" },
  "of-tokens": { type: "string", default: "512,64,16,1" },
  "matrix-units": { type: "boolean", default: false },
  figures: { type: "string" },
  patience: { type: "string", default: "60" },
  toggles: { type: "string" },
  chromium: { type: "string" },
  "browser-flags": { type: "string" },
} as const;

type FlagName = keyof typeof flags;

/** Any mode takes all flags, since `all` hands its own to several. @throws for one that there is not */
export function parseFlags(args: readonly string[]) {
  return parseArgs({ args: [...args], options: flags }).values;
}

export type Flags = ReturnType<typeof parseFlags>;

export interface Mode {
  readonly name: string;
  readonly does: string;
  /** The flags that it looks at; null where it reads its arguments itself. */
  readonly flags: readonly FlagName[] | null;
  /** Whether all went well. */
  readonly run: (flags: Flags, args: readonly string[]) => boolean | Promise<boolean>;
}

/** What is beside this code: golden models in a bundle. */
export const beside = new URL("../", import.meta.url).pathname;

/** Of the modes that measure a shape. */
export const shapeFlags = ["shape", "layers", "tokens", "prefill", "context", "cache", "figures"] as const;

export interface ShapeOptions {
  readonly shape: Shape;
  /** Tokens decoded for a measurement. */
  readonly tokens: number;
  /** Tokens of the prompt that is measured. */
  readonly prefill: number;
  /** Tokens in the cache where decoding starts. */
  readonly context: number;
  /** Folder of the models made. */
  readonly cache: string;
  /** Where figures are left for `all`. */
  readonly figures: string | undefined;
}

export function shapeOptions({ shape, layers, tokens, prefill, context, cache, figures }: Flags): ShapeOptions {
  const name = shapeName(shape);
  return {
    shape: shapeOf(name, Number(layers ?? publishedLayers(name))),
    tokens: Number(tokens),
    prefill: Number(prefill),
    context: Number(context),
    cache: cache ?? `${beside}models`,
    figures,
  };
}

export const numbers = (text: string): number[] => (text === "" ? [] : text.split(",").map(Number));

export const gpuFlags = ["checked", "toggles"] as const;

/** Every index of a kernel is proved to be in bounds before it is emitted, so that Dawn need not check again. */
export function dawnFlags({ checked, toggles }: Flags): readonly string[] {
  const unchecked = `${checked ? "" : ",disable_robustness"}${toggles ? `,${toggles}` : ""}`;
  return [
    "backend=vulkan",
    // Dawn refuses f16 on NVIDIA's older drivers, and keeps times coarse, unless told otherwise.
    `enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia,use_vulkan_memory_model${unchecked}`,
    "disable-dawn-features=timestamp_quantization",
  ];
}

export interface OpenGpu {
  readonly gpu: GPU;
  /** What the adapter calls itself. */
  readonly name: string;
}

/** Opens the GPU and says what it is. @throws Error where there is none */
export async function openBenchGpu(flags: Flags): Promise<OpenGpu> {
  const gpu = await openNodeGpu(dawnFlags(flags));
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null)
    throw new Error(`no GPU adapter was found; VK_DRIVER_FILES=${process.env.VK_DRIVER_FILES ?? ""}`);
  const { vendor, architecture, description, device } = adapter.info;
  console.log(`adapter: ${[vendor, architecture, device, description].filter((text) => text !== "").join(", ")}`);
  console.log(`features: ${[...adapter.features].sort().join(" ")}`);
  const { maxBufferSize, maxStorageBufferBindingSize, maxComputeInvocationsPerWorkgroup } = adapter.limits;
  console.log(
    `limits: buffer ${maxBufferSize}, binding ${maxStorageBufferBindingSize}, ${maxComputeInvocationsPerWorkgroup} invocations`,
  );
  return { gpu, name: `${description} ${device}` };
}

/** The benchmark of the GPU: `goldens` compares what it computes, `decode` and `choice` measure how fast, `mesh` how fast on several GPUs, `llama` and `transformers` how fast others are, `all` those beside `decode`. README.md lists the flags. */
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openNodeGpu } from "../../src/runtime/node-gpu.ts";
import { measureChoice } from "../choice.ts";
import { publishedLayers, shapeName, shapeOf } from "../cpu/make/shapes.ts";
import { measureAll } from "./all.ts";
import { measureDecode } from "./decode.ts";
import { compareGoldens } from "./goldens.ts";
import { measureLlama } from "./llama.ts";
import { checkMeshGoldens, measureMesh } from "./mesh.ts";
import { measureProducts } from "./products.ts";
import { measureReadBack } from "./read-back.ts";
import { measureTransformers } from "./transformers.ts";

if (process.argv[2] === "choice") {
  // Opens the GPU as `loadModel` does.
  process.exit((await measureChoice(process.argv.slice(3))) ? 0 : 1);
}

if (process.argv[2] === "all") {
  const figures = `${tmpdir()}/ciuic-figures-${process.pid}`;
  process.exit(measureAll(fileURLToPath(import.meta.url), process.argv.slice(3), figures) ? 0 : 1);
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
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
    figures: { type: "string" },
    patience: { type: "string", default: "60" },
    toggles: { type: "string" },
  },
});

/** Of V2-Lite's 27: what is made and loaded in a minute. */
const meshLayers = 12;

const beside = new URL("../", import.meta.url).pathname;
const mode = positionals[0];
const name = shapeName(values.shape);
const common = {
  shape: shapeOf(name, Number(values.layers ?? publishedLayers(name))),
  tokens: Number(values.tokens),
  prefill: Number(values.prefill),
  context: Number(values.context),
  cache: values.cache ?? `${beside}models`,
  figures: values.figures,
};

if (mode === "transformers") {
  process.exit(measureTransformers({ ...common, patience: Number(values.patience) }) ? 0 : 1);
}

/** Every index of a kernel is proved to be in bounds before it is emitted, so that Dawn need not check again. */
const unchecked = `${values.checked ? "" : ",disable_robustness"}${values.toggles ? `,${values.toggles}` : ""}`;
/** Dawn refuses f16 on NVIDIA's older drivers, and keeps times coarse, unless told otherwise. */
const dawnFlags = [
  "backend=vulkan",
  `enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia,use_vulkan_memory_model${unchecked}`,
  "disable-dawn-features=timestamp_quantization",
];

const gpu = await openNodeGpu(dawnFlags);
const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
if (adapter === null) {
  console.error(`no GPU adapter was found; VK_DRIVER_FILES=${process.env.VK_DRIVER_FILES ?? ""}`);
  process.exit(1);
}
const { vendor, architecture, description, device } = adapter.info;
console.log(`adapter: ${[vendor, architecture, device, description].filter((text) => text !== "").join(", ")}`);
console.log(`features: ${[...adapter.features].sort().join(" ")}`);
const { maxBufferSize, maxStorageBufferBindingSize, maxComputeInvocationsPerWorkgroup } = adapter.limits;
console.log(
  `limits: buffer ${maxBufferSize}, binding ${maxStorageBufferBindingSize}, ${maxComputeInvocationsPerWorkgroup} invocations`,
);

if (mode === "goldens") {
  const wrong = await compareGoldens(gpu, values.goldens ?? `${beside}goldens`, values.only?.split(",") ?? null);
  process.exitCode = wrong === 0 ? 0 : 1;
} else if (mode === "decode") {
  await measureDecode(gpu, {
    ...common,
    formats: values.formats.split(","),
    profile: values.profile,
    sequences: Number(values.sequences ?? 1),
    folder: values.folder ?? null,
    gigabytesPerSecond: values.rate === undefined ? ratesOf(`${description} ${device}`) : [Number(values.rate)],
  });
} else if (mode === "mesh") {
  const gpus = values.gpus === "" ? [] : values.gpus.split(",").map(Number);
  if (values.only !== undefined) {
    const names = values.only.split(",");
    const wrong = await checkMeshGoldens(values.goldens ?? `${beside}goldens`, names, gpus, dawnFlags);
    process.exitCode = wrong === 0 ? 0 : 1;
  } else {
    await measureReadBack(gpu);
    await measureMesh(gpu, {
      ...common,
      shape: shapeOf("v2lite", Number(values.layers ?? meshLayers)),
      formats: values.formats.split(","),
      sequences: Number(values.sequences ?? 8),
      lanes: values.lanes.split(",").map(Number),
      gpus,
      gpuFlags: dawnFlags,
    });
  }
} else if (mode === "products") {
  const numbers = (text: string) => text.split(",").map(Number);
  await measureProducts(gpu, { bits: numbers(values.bits), tokens: numbers(values["of-tokens"]) });
} else if (mode === "llama") {
  await measureLlama({ ...common, formats: ["q4_0", "q8_0"] });
} else {
  console.error("expected: goldens, decode, products, mesh, choice, llama, transformers or all");
  process.exitCode = 2;
}

/** GB/s at which a shader reads memory on this GPU: measured on an H200; an H100's is between these. */
function ratesOf(name: string): readonly number[] {
  if (name.includes("H200")) return [4460];
  return name.includes("H100") ? [2000, 3000] : [];
}

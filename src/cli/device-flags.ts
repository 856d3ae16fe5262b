/** The options about what computes, which all commands that run a model share. */
import type { LoadOptions } from "../runtime/load-model.ts";
import type { OptionTable, OptionValues } from "./options.ts";

export const deviceOptions = {
  backend: {
    kind: "text",
    value: "NAME",
    doc: "What computes: wasm, js, webgpu (a GPU; under Node with the package webgpu), tensorflow or tensorflow-gpu (TensorFlow graphs, with TensorFlow.js' packages), tfjs-cpu, tfjs-wasm, tfjs-webgpu, tensorflow-ops or tensorflow-gpu-ops (op by op), or interpreter, which is slow and the definition of every op. Default: what should be fastest (ciuic probe).",
  },
  threads: {
    kind: "whole",
    value: "N",
    doc: "Threads of wasm. Default: as many as should be fastest; one for very small models.",
  },
  "matrix-units": {
    kind: "flag",
    doc: "On a GPU that has matrix units: use them for several tokens. An experiment.",
  },
  "package-folder": {
    kind: "text",
    value: "FOLDER",
    doc: "Where TensorFlow.js' packages are, if not beside ciuic: the folder that has them in its node_modules.",
  },
} as const satisfies OptionTable;

/** The same as options of `loadModel`. */
export function deviceFlags(values: OptionValues<typeof deviceOptions>): DeviceFlags {
  const { backend, threads, "matrix-units": matrixUnits, "package-folder": packageFolder } = values;
  return { backend, threads, matrixUnits, packageFolder };
}

type DeviceFlags = Pick<LoadOptions, "backend" | "threads" | "matrixUnits" | "packageFolder">;

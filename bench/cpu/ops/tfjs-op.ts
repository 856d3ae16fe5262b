/** tfjs on its WebAssembly backend, which has SIMD but no threads under Node. */
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { type OpRunner, type OpSpec, someNumbers } from "./op-runner.ts";

/** What is used of the packages. */
interface TfTensor {
  data(): Promise<Float32Array>;
  dispose(): void;
}
interface Tf {
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  tensor2d(data: Float32Array, shape: readonly [number, number]): TfTensor;
  matMul(a: TfTensor, b: TfTensor): TfTensor;
}

export async function openTfjsOp({ k, n, m, copies }: OpSpec): Promise<OpRunner> {
  const require = createRequire(new URL("../package.json", import.meta.url));
  const tf = require("@tensorflow/tfjs-core") as Tf; // its exports
  const path = require.resolve("@tensorflow/tfjs-backend-wasm");
  const wasm = require(path) as { setWasmPaths(folder: string): void }; // its exports
  wasm.setWasmPaths(`${dirname(path)}/`);
  if (!(await tf.setBackend("wasm"))) throw new Error("tfjs has no WebAssembly backend here");
  await tf.ready();
  const data = someNumbers(k * n);
  const weights = Array.from({ length: copies }, () => tf.tensor2d(data, [k, n]));
  const x = tf.tensor2d(someNumbers(m * k), [m, k]);
  return {
    info: "tfjs wasm",
    run: async () => {
      const results = weights.map((w) => tf.matMul(x, w));
      const value = (await results[0]!.data())[0]!;
      for (const result of results) result.dispose();
      return value;
    },
    close: async () => {},
  };
}

/**
 * ONNX Runtime, native and WebAssembly: MatMulNBits with activations in 8 bits (accuracy level 4) and 4- or 8-bit weights
 * in groups of 32; DynamicQuantizeMatMul, whose 8-bit weights have one scale; MatMul in f32.
 */
import { createRequire } from "node:module";
import { type OnnxNode, type OnnxTensor, onnxModel } from "./onnx-model.ts";
import { type OpRunner, type OpSpec, someNumbers } from "./op-runner.ts";

/** What is used of either package. */
interface Onnx {
  readonly env: { wasm?: { numThreads?: number }; logLevel?: string };
  readonly Tensor: new (type: "float32", data: Float32Array, dims: readonly number[]) => object;
  readonly InferenceSession: {
    create(
      model: Uint8Array,
      options: object,
    ): Promise<{
      run(feeds: Record<string, object>): Promise<Record<string, { data: Float32Array }>>;
      release(): Promise<void>;
    }>;
  };
}

export async function openOnnxOp(spec: OpSpec): Promise<OpRunner> {
  const { library, k, n, m, copies, threads } = spec;
  const onnx = await load(library);
  onnx.env.logLevel = "error";
  if (onnx.env.wasm !== undefined) onnx.env.wasm.numThreads = threads;
  const { tensors, node } = opOf(spec);
  const all: OnnxTensor[] = [];
  const nodes: OnnxNode[] = [];
  for (let i = 0; i < copies; i++) {
    all.push(...tensors.map((tensor) => ({ ...tensor, name: `${tensor.name}${i}`, data: different(tensor.data, i) })));
    const inputs = ["x", ...tensors.map(({ name }) => `${name}${i}`)];
    nodes.push({ ...node, inputs, output: `y${i}` });
  }
  const outputs = nodes.map(({ output }) => ({ name: output, dims: [m, n] }));
  const model = onnxModel(nodes, all, { name: "x", dims: [m, k] }, outputs);
  const session = await onnx.InferenceSession.create(model, {
    intraOpNumThreads: threads,
    executionProviders: [library === "ort-web" ? "wasm" : "cpu"],
  });
  const x = new onnx.Tensor("float32", someNumbers(m * k), [m, k]);
  return {
    info: library,
    run: async () => (await session.run({ x })).y0!.data[0]!,
    close: () => session.release(),
  };
}

/** The runtime keeps equal weights once, which then come from a cache: numbers of each copy are turned by some rows. */
function different(data: Uint8Array, copy: number): Uint8Array {
  const turned = new Uint8Array(data.length);
  const by = (copy * 4096) % data.length;
  turned.set(data.subarray(by));
  turned.set(data.subarray(0, by), data.length - by);
  return turned;
}

async function load(library: OpSpec["library"]): Promise<Onnx> {
  const require = createRequire(new URL("../package.json", import.meta.url));
  if (library !== "ort-web") return require("onnxruntime-node") as Onnx; // its exports
  const path = require.resolve("onnxruntime-web").replace(/ort[\w.]*$/, "ort.node.min.mjs");
  return (await import(path)) as Onnx; // the same
}

type Op = { readonly tensors: readonly OnnxTensor[]; readonly node: Pick<OnnxNode, "op" | "domain" | "attributes"> };

function opOf({ library, weights, k, n }: OpSpec): Op {
  const bytesOf = (data: Float32Array) => new Uint8Array(data.buffer);
  if (weights === "f32") {
    const data = bytesOf(someNumbers(k * n));
    return {
      tensors: [{ name: "w", dims: [k, n], type: "f32", data }],
      node: { op: "MatMul", domain: "", attributes: {} },
    };
  }
  const codes = (count: number) => Uint8Array.from(someNumbers(count), (value) => (value + 1) * 127);
  if (library === "ort-dynamic") {
    return {
      tensors: [
        { name: "w", dims: [k, n], type: "i8", data: codes(k * n) },
        { name: "s", dims: [1], type: "f32", data: bytesOf(Float32Array.of(0.01)) },
      ],
      node: { op: "DynamicQuantizeMatMul", domain: "com.microsoft", attributes: {} },
    };
  }
  const bits = weights === "int4" ? 4 : 8;
  const blocks = k / 32;
  return {
    tensors: [
      { name: "w", dims: [n, blocks, 4 * bits], type: "u8", data: codes(n * blocks * 4 * bits) },
      { name: "s", dims: [n * blocks], type: "f32", data: bytesOf(new Float32Array(n * blocks).fill(0.01)) },
    ],
    node: {
      op: "MatMulNBits",
      domain: "com.microsoft",
      attributes: { K: k, N: n, bits, block_size: 32, accuracy_level: 4 },
    },
  };
}

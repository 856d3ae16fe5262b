/** Our kernel, through the whole compiler: a function that is called `copies` times, as those of layers are, each with a weight of its own. */
import { compile, openDevice } from "../../../src/compile.ts";
import { maths } from "../../../src/ir/build.ts";
import { Builder, makeModule } from "../../../src/ir/graph.ts";
import { type TensorData, tensorFrom } from "../../../src/ir/tensor.ts";
import { tensorType } from "../../../src/ir/types.ts";
import { WeightStore } from "../../../src/runtime/weights/weight-store.ts";
import { type OpRunner, type OpSpec, someNumbers } from "./op-runner.ts";

export async function openOwnOp({ weights, k, n, m, copies, threads }: OpSpec): Promise<OpRunner> {
  const device = openDevice("wasm", { threads });
  const builder = new Builder();
  const x = builder.param("x", "f32", [m, k]);
  const out = maths(builder).contract("n i, o i -> n o", x, builder.weight("w{layer}", "f32", [n, k]));
  const product = { name: "product", params: [x], outs: [out] };
  const params = Array.from({ length: copies }, (_, i) => builder.param(`x${i}`, "f32", [m, k]));
  const outs = params.map((each, i) => builder.call(product, [each], i)[0]!);
  const module = makeModule("op", [product, { name: "main", params, outs }], "main");
  const options = weights === "f32" ? {} : { quantize: { weights, activations: "int8", method: "range" } as const };
  const { plan, instantiate } = compile(module, device, options);
  const store = new WeightStore(async () => tensorFrom(tensorType("f32", [n, k]), someNumbers(n * k)), device);
  // Every copy holds the same numbers, made once, in memory of its own.
  const made: TensorData[] = [];
  for (const expr of plan.funcs.get(product.name)!.weights) made.push(await store.evaluate(expr, 0));
  const types = plan.funcs.get(product.name)!.weights.map(({ type }) => type);
  const held = params.map(() => made.map((data, j) => device.hold(types[j]!, data)));
  const instance = instantiate({ weight: (_func, index, layer) => held[layer!]![index]! });
  const input = someNumbers(m * k);
  for (const param of instance.params) param.set(input);
  return {
    info: device.summary,
    run: async () => {
      await instance.run();
      return Number(instance.results[0]![0]);
    },
    close: async () => {
      await device.close();
    },
  };
}

/** Our kernel, through the whole compiler: a module of `copies` contractions with inputs of their own. */
import { compile, openDevice } from "../../../src/compile.ts";
import { maths } from "../../../src/ir/build.ts";
import { Builder, makeModule } from "../../../src/ir/graph.ts";
import { type TensorData, tensorFrom } from "../../../src/ir/tensor.ts";
import { sameType, tensorType } from "../../../src/ir/types.ts";
import { WeightStore } from "../../../src/runtime/weight-store.ts";
import { type OpRunner, type OpSpec, someNumbers } from "./op-runner.ts";

export async function openOwnOp({ weights, k, n, m, copies, threads }: OpSpec): Promise<OpRunner> {
  const device = openDevice("wasm", { threads });
  const builder = new Builder();
  const params = Array.from({ length: copies }, (_, i) => builder.param(`x${i}`, "f32", [m, k]));
  const outs = params.map((x, i) =>
    maths(builder).contract("n i, o i -> n o", x, builder.weight(`w${i}`, "f32", [n, k])),
  );
  const module = makeModule("op", [{ name: "main", params, outs }], "main");
  const options = weights === "f32" ? {} : { quantize: { weights, activations: "int8", method: "range" } as const };
  const { plan, instantiate } = compile(module, device, options);
  const store = new WeightStore(async () => tensorFrom(tensorType("f32", [n, k]), someNumbers(n * k)), device);
  // Every copy holds the same numbers, made once.
  const made = plan.funcs.get(plan.entry)!.weights;
  const first = await store.evaluate(made[0]!, null);
  const held: TensorData[] = [];
  for (const { type } of made) {
    held.push(
      sameType(type, made[0]!.type) ? device.hold(type, first) : await store.evaluate(made[held.length]!, null),
    );
  }
  const instance = instantiate({ weight: (_, index) => held[index]! });
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

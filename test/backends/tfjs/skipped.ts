/** What no engine of TensorFlow.js can do. */
import { type Module, topoOrder } from "../../../src/ir/graph.ts";
import { opCases } from "../cases.ts";

/** All of TensorFlow's f32 and i32 ops have kernels, hardly any of u32: `legalize` refuses it. */
export const noUnsigned = {
  reason: "TensorFlow has no arithmetic of u32, so targets of tensor level do not store it",
  cases: opCases.map(({ name }) => name).filter((name) => name.split(" ").includes("u32")),
};

export function hasUnsigned(module: Module): boolean {
  const nodes = [...module.funcs.values()].flatMap(({ params, outs }) => [...params, ...topoOrder(outs)]);
  return nodes.some(({ type }) => type.dtype === "u32");
}

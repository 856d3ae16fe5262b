/** Operands brought into range, for random programs whose values must stay finite. */
import type { Maths } from "../../src/ir/build.ts";
import type { Node } from "../../src/ir/graph.ts";
import type { ScalarOp } from "../../src/ir/scalar.ts";
import type { Program } from "./growing.ts";

/** Keeps a value within -8..8 where the program must stay finite. */
export function tame(program: Program, m: Maths, x: Node): Node {
  return program.finite && ["f32", "i32", "u32"].includes(x.type.dtype) ? m.max(m.min(x, 8), -8) : x;
}

/** Operands inside the op's domain where the program must stay finite. */
export function domain(program: Program, m: Maths, op: ScalarOp, ins: Node[]): Node[] {
  if (!program.finite || ins.at(-1)!.type.dtype !== "f32") return ins;
  const above1 = (x: Node) => m.add(m.abs(x), 1);
  switch (op) {
    case "log":
    case "sqrt":
    case "rsqrt":
      return ins.map(above1);
    case "div":
    case "rem":
      return [ins[0]!, above1(ins[1]!)];
    case "pow":
      return ins.map((x) => above1(m.min(tame(program, m, x), 3)));
    case "exp":
    case "mul":
      return ins.map((x) => tame(program, m, x));
    default:
      return ins;
  }
}

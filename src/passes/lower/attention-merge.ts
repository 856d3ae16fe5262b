/** Lowering of what puts parts of attention together: an invocation for each element of the result. */
import type { Node } from "../../ir/graph.ts";
import { type Expr, int, num, op } from "../../ir/kernel/kernel.ts";
import { assign, store } from "../../ir/kernel/stmt.ts";
import { lowest } from "./attention-rows.ts";
import { flatten, range } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

/** So many parts are written one after another, so that all are on their way at once. */
const mostUnrolled = 16;

export function lowerMergeParts(w: KernelWriter, anchor: Node): void {
  const [x] = anchor.ins as [Node]; // it takes one operand
  const [n, h, parts] = x.type.shape as [number, number, number]; // of rank 4
  const e = anchor.type.shape[2]!;
  const eachPart = (body: (part: Expr) => void) => {
    if (parts > mostUnrolled) w.loop("part", parts, body);
    else for (const part of range(parts)) body(int(part));
  };
  const element = (token: Expr, head: Expr, j: Expr) => {
    const at = (part: Expr, column: Expr) => w.value(x, [token, head, part, column]);
    const most = w.variable("most", lowest);
    eachPart((part) => w.emit(assign(most.name, op("max", most, at(part, int(e))))));
    const [total, sum] = ["total", "sum"].map((name) => w.variable(name, num("f32", 0)));
    eachPart((part) => {
      const shrink = w.bind("shrink", op("exp", op("sub", at(part, int(e)), most)));
      w.emit(assign(total!.name, op("add", total!, op("mul", shrink, at(part, int(e + 1))))));
      w.emit(assign(sum!.name, op("add", sum!, op("mul", shrink, at(part, j)))));
    });
    const divisor = op("max", total!, num("f32", 1));
    w.emit(store(w.out, flatten([token, head, j], anchor.type.shape), op("div", sum!, divisor)));
  };
  const ofHead = (token: Expr) => (head: Expr) => w.loop("j", e, (j) => element(token, head, j), "grid");
  w.loop("n", n, (token) => w.loop("h", h, ofHead(token), "grid"), "grid");
}

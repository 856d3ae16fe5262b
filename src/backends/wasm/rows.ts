/** The rows of a program: the addresses of its weights by function and layer, in the order that the driver reads them. */
import type { FuncPlan, Plan } from "../../ir/plan.ts";
import type { ProgramMemory } from "../backend.ts";
import type { Allotment } from "./allotment.ts";
import { rowLength } from "./driver.ts";

/** Writes a function's row and those of what it calls (see `driver.ts`); gives its address. */
export function writeRows(
  memory: Allotment,
  plan: Plan,
  func: FuncPlan,
  layer: number | null,
  given: ProgramMemory,
): number {
  const where = () => `@${func.name}${layer === null ? "" : ` of layer ${layer}`}`;
  const weights = func.weights.map((_, i) => memory.device.addressOf(given.weight(func.name, i, layer), where));
  const callees = func.steps.flatMap((step) =>
    step.step === "call" ? [writeRows(memory, plan, plan.funcs.get(step.func)!, step.layer, given)] : [],
  );
  const { bytes } = memory.device.address;
  const at = memory.allocate(bytes * rowLength(func), () => `the table of ${where()}`);
  const row = [...weights, ...callees];
  const { buffer } = memory.device.memory;
  if (bytes === 4) new Int32Array(buffer, at, row.length).set(row);
  else new BigInt64Array(buffer, at, row.length).set(row.map(BigInt));
  return at;
}

/** Devices that run whole steps as TensorFlow graphs on a host of sessions. */
import { InternalError } from "../../ir/errors.ts";
import type { Plan } from "../../ir/plan.ts";
import type { Target } from "../../ir/target.ts";
import type { TensorType } from "../../ir/types.ts";
import type { Device, Program } from "../backend.ts";
import { printGraph } from "./graph.ts";
import { formOf } from "./graph-forms.ts";
import type { GraphHost } from "./graph-host.ts";
import { instantiateGraph } from "./graph-instance.ts";
import { GraphMemory } from "./graph-memory.ts";
import { buildProgram, type Variable } from "./graph-program.ts";
import { GraphSessions } from "./graph-sessions.ts";

export function openGraphDevice(target: Target, host: GraphHost): Device {
  const memory = new GraphMemory();
  const sessions = new GraphSessions(host, memory);
  let count = 0;
  return {
    target,
    summary: host.summary,
    queues: true,
    allocate: (type, use = "shared") => memory.allocate(type, use === "resident"),
    hold: (_, data) => memory.hold(data),
    fromFiles: (expr, stored) => memory.fromFiles(expr, stored),
    free: (data) => memory.free(data),
    load: (plan): Program => {
      checkPlan(plan);
      return {
        get sources() {
          return emitGraph(plan);
        },
        instantiate: (given) => instantiateGraph({ plan, memory, sessions, name: `step${count++}` }, given),
      };
    },
    close: () => host.close(),
  };
}

function checkPlan(plan: Plan): void {
  if (plan.tensors !== undefined) return;
  throw new InternalError(`plan @${plan.name}`, "it has kernels, and TensorFlow runs tensor ops");
}

/** The graph as text, with the caches where a model's are: in variables. */
export function emitGraph(plan: Plan): readonly string[] {
  const entry = plan.funcs.get(plan.entry)!;
  const donated = (index: number): Variable | null => {
    const { name, type } = entry.params[index]!;
    return entry.donated.includes(index) ? { name, form: formOf(type), spareRow: type.shape.length > 0 } : null;
  };
  const made = new Map<string, Variable>();
  const variable = (weight: string, layer: number | null, type: TensorType): Variable => {
    const name = layer === null ? weight : `${weight}.${layer}`;
    const known = made.get(name) ?? { name, form: formOf(type), spareRow: false };
    made.set(name, known);
    return known;
  };
  const program = buildProgram(plan, "", {
    weight: (func, index, layer) => {
      const { type } = plan.funcs.get(func)!.weights[index]!;
      return variable(`${func}.${index}`, layer, type);
    },
    unpacked: (func, indices, layer, { type }) => variable(`${func}.${indices.join("x")}`, layer, type),
    param: donated,
    result: (index) => {
      const param = entry.donated[index] ?? null;
      return param === null ? null : donated(param);
    },
  });
  return [printGraph(program.nodes)];
}

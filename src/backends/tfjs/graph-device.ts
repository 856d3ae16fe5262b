/** Devices that run whole steps as TensorFlow graphs on a host of sessions. */
import { InternalError, invariant } from "../../ir/errors.ts";
import type { Plan } from "../../ir/plan.ts";
import type { Target } from "../../ir/target.ts";
import { storageLength, type TensorData } from "../../ir/tensor.ts";
import type { TensorType } from "../../ir/types.ts";
import type { Device, Instance, Program, ProgramMemory } from "../backend.ts";
import { printGraph } from "./graph.ts";
import { fromHost } from "./graph-bits.ts";
import { formOf } from "./graph-forms.ts";
import type { GraphHost } from "./graph-host.ts";
import { GraphMemory } from "./graph-memory.ts";
import { buildProgram, type GraphProgram, type Variable } from "./graph-program.ts";
import { GraphSessions } from "./graph-sessions.ts";

export function openGraphDevice(target: Target, host: GraphHost): Device {
  const memory = new GraphMemory();
  const sessions = new GraphSessions(host, memory);
  let count = 0;
  return {
    target,
    summary: host.summary,
    allocate: (type, use = "shared") => memory.allocate(type, use === "resident"),
    hold: (_, data) => memory.hold(data),
    free: (data) => memory.free(data),
    load: (plan): Program => {
      checkPlan(plan);
      return {
        get sources() {
          return emitGraph(plan);
        },
        instantiate: (given) => instantiate({ plan, memory, sessions, name: `step${count++}` }, given),
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
  const program = buildProgram(plan, "", {
    weight: (func, index, layer) => {
      const { type } = plan.funcs.get(func)!.weights[index]!;
      return { name: `${func}.${index}${layer === null ? "" : `.${layer}`}`, form: formOf(type), spareRow: false };
    },
    param: donated,
    result: (index) => {
      const param = entry.donated[index] ?? null;
      return param === null ? null : donated(param);
    },
  });
  return [printGraph(program.nodes)];
}

interface Parts {
  readonly plan: Plan;
  readonly memory: GraphMemory;
  readonly sessions: GraphSessions;
  readonly name: string;
}

function instantiate({ plan, memory, sessions, name }: Parts, given: ProgramMemory): Instance {
  const entry = plan.funcs.get(plan.entry)!;
  const own: TensorData[] = [];
  const allocate = (type: TensorType): TensorData => {
    const data = memory.allocate(type, false);
    own.push(data);
    return data;
  };
  const params = entry.params.map((param) => {
    const data = given.params?.get(param.name) ?? allocate(param.type);
    invariant(data.length === storageLength(param.type), () => `memory of ${param.name} has the wrong length`);
    return data;
  });
  const results = entry.results.map(({ type }, i) => {
    const param = entry.donated[i] ?? null;
    return param === null ? (given.results?.get(i) ?? allocate(type)) : params[param]!;
  });
  const program = bind(plan, memory, { name, params, results, given });
  sessions.add(name, program);
  return {
    params,
    results,
    run: async (signal) => {
      signal?.throwIfAborted();
      const fetched = await sessions.run(name, params);
      for (const each of program.fetched) fromHost(each.type, fetched[each.name]!, results[each.index]!);
    },
    release: () => {
      sessions.remove(name);
      for (const data of own) memory.free(data);
    },
  };
}

interface Bound {
  readonly name: string;
  readonly params: readonly TensorData[];
  readonly results: readonly TensorData[];
  readonly given: ProgramMemory;
}

function bind(plan: Plan, memory: GraphMemory, { name, params, results, given }: Bound): GraphProgram {
  return buildProgram(plan, `${name}/`, {
    weight: (func, index, layer) =>
      memory.weight(plan.funcs.get(func)!.weights[index]!.type, given.weight(func, index, layer)),
    param: (index) => memory.cache(params[index]!),
    result: (index) => memory.cache(results[index]!),
  });
}

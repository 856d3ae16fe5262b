/** A program on a device of TensorFlow graphs: what is fed to it and what it gives, once or again and again. */
import { invariant } from "../../ir/errors.ts";
import type { Plan } from "../../ir/plan.ts";
import { storageLength, type TensorData } from "../../ir/tensor.ts";
import type { TensorType } from "../../ir/types.ts";
import type { Instance, ProgramMemory } from "../backend.ts";
import { fromHost, type HostTensor, toHost } from "./graph-bits.ts";
import type { GraphMemory, HostValue } from "./graph-memory.ts";
import { buildProgram, type GraphProgram } from "./graph-program.ts";
import type { Fetched, GraphSessions } from "./graph-sessions.ts";

export interface GraphParts {
  readonly plan: Plan;
  readonly memory: GraphMemory;
  readonly sessions: GraphSessions;
  readonly name: string;
}

export function instantiateGraph({ plan, memory, sessions, name }: GraphParts, given: ProgramMemory): Instance {
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
  const hostValue = (func: string, index: number, layer: number | null): HostValue => ({
    type: plan.funcs.get(func)!.weights[index]!.type,
    data: given.weight(func, index, layer),
  });
  const program = buildProgram(plan, `${name}/`, {
    weight: (func, index, layer) => memory.weight(hostValue(func, index, layer)),
    unpacked: (func, indices, layer, node) =>
      memory.computed(
        node,
        indices.map((index) => hostValue(func, index, layer)),
      ),
    param: (index) => memory.cache(params[index]!),
    result: (index) => memory.cache(results[index]!),
  });
  sessions.add(name, program);
  return {
    params,
    results,
    run: async (signal) => {
      signal?.throwIfAborted();
      const fetched = await sessions.run(name, () => feedsOf(program, params));
      for (const each of program.fetched) fromHost(each.type, fetched[each.name]!, results[each.index]!);
    },
    queue: queueOf(program, sessions, { name, params, results }),
    release: () => {
      sessions.remove(name);
      for (const data of own) memory.free(data);
    },
  };
}

/** Copies: the arrays are shared with the thread that runs the graph, and may be written again before it reads them. */
function feedsOf({ fed }: GraphProgram, params: readonly TensorData[]): Record<string, HostTensor> {
  return Object.fromEntries(fed.map((each) => [each.name, toHost(each.type, params[each.index]!.slice())]));
}

/** Runs that follow each other without the arrays: what is left in a parameter's memory is kept as it was fetched. */
function queueOf(
  program: GraphProgram,
  sessions: GraphSessions,
  { name, params, results }: { readonly name: string } & Pick<Instance, "params" | "results">,
): NonNullable<Instance["queue"]> {
  const left = new Map<string, HostTensor>();
  const feedback = program.fetched.flatMap((output) => {
    const input = program.fed.find(({ index }) => params[index] === results[output.index]);
    return input === undefined ? [] : [{ output: output.name, input: input.name }];
  });
  const keep = (inputs: Readonly<Record<string, HostTensor>>, fetched: Fetched) => {
    for (const { output, input } of feedback) left.set(input, { ...inputs[input]!, data: fetched[output]! });
  };
  return async ({ times, write, read }) => {
    // The arrays may change before the turn of these runs comes.
    const written = new Map(
      program.fed.flatMap(({ name: input, index, type }) => {
        const data = params[index]!;
        return write.includes(data) ? [[input, toHost(type, data.slice())] as const] : [];
      }),
    );
    let inputs: Readonly<Record<string, HostTensor>> = {};
    const fetched = await sessions.run(
      name,
      () => {
        for (const [input, tensor] of written) left.set(input, tensor);
        inputs = { ...feedsOf(program, params), ...Object.fromEntries(left) };
        return inputs;
      },
      { times, feedback },
      (all) => keep(inputs, all),
    );
    const wanted = program.fetched.find(({ index }) => results[index] === read);
    const copy = read.slice();
    if (wanted !== undefined && times > 0) fromHost(wanted.type, fetched[wanted.name]!, copy);
    return copy;
  };
}

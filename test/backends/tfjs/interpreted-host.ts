/** A host of TensorFlow sessions that decodes the bytes of a model and runs its graph in plain loops. */
import type { HostTensor } from "../../../src/backends/tfjs/graph-bits.ts";
import { type GraphHost, once } from "../../../src/backends/tfjs/graph-host.ts";
import { type GraphData, make } from "./graph-values.ts";
import { readSavedModel } from "./read-graph.ts";
import { GraphSession } from "./run-graph.ts";

export function interpretedHost(seed = 1, moves = true): GraphHost {
  const sessions = new Map<number, GraphSession>();
  let opened = 0;
  const sessionOf = (id: number): GraphSession => {
    const session = sessions.get(id);
    if (session === undefined) throw new Error(`there is no session ${id}`);
    return session;
  };
  const fed = ({ type, shape, data }: HostTensor): GraphData => make(type, shape, [...data]);
  // What crosses is float, int32 or bool, whose arrays these are.
  const fetched = ({ data }: GraphData) => data as HostTensor["data"];
  const each = <A, B>(record: Readonly<Record<string, A>>, change: (value: A) => B): Record<string, B> =>
    Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value)]));
  return {
    summary: "TensorFlow graphs in plain loops",
    moves,
    open: async (model) => {
      sessions.set(++opened, new GraphSession(readSavedModel(model), seed));
      return opened;
    },
    run: async (id, signature, given, { times, feedback } = once) => {
      const inputs = each(given, fed);
      let outputs: Record<string, GraphData> = {};
      for (let i = 0; i < times; i++) {
        if (i > 0) for (const { output, input } of feedback) inputs[input] = outputs[output]!;
        outputs = sessionOf(id).run(signature, inputs);
      }
      return each(outputs, fetched);
    },
    move: async (from, save, to, restore, names) => {
      const all = sessionOf(from).run(save, {});
      sessionOf(to).run(restore, Object.fromEntries(names.map((name) => [name, all[name]!])));
    },
    drop: async (id) => {
      sessionOf(id);
      sessions.delete(id);
    },
    close: async () => sessions.clear(),
  };
}

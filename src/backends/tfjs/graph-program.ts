/**
 * A plan of tensor ops as one TensorFlow graph: layers inlined, weights and caches read from variables of the session,
 * everything else fed and fetched. What updates variables is tied to what is fetched, for TensorFlow runs nothing else.
 */
import { invariant } from "../../ir/errors.ts";
import type { Node } from "../../ir/graph.ts";
import type { Plan } from "../../ir/plan.ts";
import type { TensorType } from "../../ir/types.ts";
import { GraphBuilder, type GraphTensor, infoOf, nodeOf, type TensorForm, typeAttr } from "./graph.ts";
import { crossingForm, packed, unpacked } from "./graph-bits.ts";
import { type GraphEngine, type GraphValue, graphEngine, initialState, type VariableState } from "./graph-engine.ts";
import { formOf } from "./graph-forms.ts";
import type { Part } from "./row.ts";
import type { GraphNode, Signature, TensorInfo } from "./saved-model.ts";
import { walkFunc } from "./walk.ts";

/** Memory of the session. */
export interface Variable {
  /** The same in all graphs of the session. */
  readonly name: string;
  /** Of the value; the variable has a row more where it has a spare one, for rows that an update drops. */
  readonly form: TensorForm;
  readonly spareRow: boolean;
}

/** The form of the variable itself. */
export function variableForm({ form, spareRow }: Variable): TensorForm {
  return spareRow ? { ...form, shape: form.shape.with(0, form.shape[0]! + 1) } : form;
}

/** Which memory a program's values are. */
export interface GraphBinding {
  readonly weight: (func: string, index: number, layer: number | null) => Variable;
  /** The variable of codes of weights times their scales, which are weight expressions of the function. */
  readonly unpacked: (func: string, indices: readonly number[], layer: number | null, node: Node) => Variable;
  /** The variable of a parameter that stays in the session; null for one that is fed. */
  readonly param: (index: number) => Variable | null;
  /** The variable that a result is left in; null for one that is fetched. */
  readonly result: (index: number) => Variable | null;
}

/** A value that is fed or fetched: parameter or result number `index`. */
export interface Crossing {
  readonly name: string;
  readonly index: number;
  readonly type: TensorType;
}

export interface GraphProgram {
  readonly nodes: readonly GraphNode[];
  readonly signature: Signature;
  readonly variables: readonly Variable[];
  readonly fed: readonly Crossing[];
  readonly fetched: readonly Crossing[];
}

/** The name of the output of a program that has no other. */
export const doneName = "done";

export function buildProgram(plan: Plan, prefix: string, binding: GraphBinding): GraphProgram {
  const graph = new GraphBuilder(prefix);
  const engine = graphEngine(graph);
  const entry = plan.funcs.get(plan.entry);
  invariant(entry !== undefined, () => `plan @${plan.name} has no entry`);
  const states = new Map<Variable, VariableState>();
  const stateOf = (variable: Variable, fixed: boolean): VariableState => {
    const known = states.get(variable);
    if (known !== undefined) return known;
    const handle = graph.variable(variable.name, variableForm(variable));
    const state = initialState(handle, variable.form, { fixed, spareRow: variable.spareRow });
    states.set(variable, state);
    return state;
  };
  const inputs: Record<string, TensorInfo> = {};
  const fed: Crossing[] = [];
  const params = entry.params.map(({ type }, index): GraphValue => {
    const variable = binding.param(index);
    if (variable !== null) return stateOf(variable, false);
    const name = `param${index}`;
    const placeholder = graph.placeholder(crossingForm(formOf(type)));
    inputs[name] = infoOf(placeholder);
    fed.push({ name, index, type });
    return unpacked(graph, placeholder, formOf(type));
  });
  const constants = new Map<Node, Part<GraphValue>>();
  const results = walkFunc(
    engine,
    plan,
    { func: plan.entry, layer: null, params },
    {
      weight: (func, index, layer) => stateOf(binding.weight(func, index, layer), true),
      unpacked: (func, indices, layer, node) => stateOf(binding.unpacked(func, indices, layer, node), true),
      constant: (node, make) => {
        const part = constants.get(node) ?? make();
        constants.set(node, part);
        return part;
      },
    },
  );
  const updates: string[] = [];
  const outputs: { readonly crossing: Crossing; readonly value: GraphTensor }[] = [];
  for (const [index, { type }] of entry.results.entries()) {
    const variable = binding.result(index);
    if (variable === null) {
      outputs.push({
        crossing: { name: `result${index}`, index, type },
        value: packed(graph, engine.read(results[index]!)),
      });
    } else updates.push(...leave(graph, engine, results[index]!, stateOf(variable, false)));
  }
  const signature = { inputs, outputs: fetchAfter(graph, outputs, updates) };
  const nodes = reached(graph.nodes, signature);
  const names = new Set(nodes.map(({ name }) => name));
  return {
    nodes,
    signature,
    variables: [...states].flatMap(([variable, { handle }]) => (names.has(handle.name) ? [variable] : [])),
    fed,
    fetched: outputs.map(({ crossing }) => crossing),
  };
}

/** The nodes that a signature needs, and what it feeds. */
function reached(nodes: readonly GraphNode[], { inputs, outputs }: Signature): readonly GraphNode[] {
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const wanted = new Set<string>();
  const stack = [...Object.values(inputs), ...Object.values(outputs)].map(({ name }) => name);
  while (stack.length > 0) {
    const name = stack.pop()!.replace(/^\^|:\d+$/g, "");
    if (wanted.has(name)) continue;
    wanted.add(name);
    stack.push(...byName.get(name)!.inputs);
  }
  return nodes.filter(({ name }) => wanted.has(name));
}

/** Leaves a value in a variable. Gives the nodes that must have run for it to be there. */
function leave(graph: GraphBuilder, engine: GraphEngine, value: GraphValue, start: VariableState): readonly string[] {
  if ("handle" in value && value.handle.name === start.handle.name) return value.after === null ? [] : [value.after];
  const tensor = engine.read(value);
  const whole = start.spareRow
    ? engine.read(engine.concat([tensor, engine.slice(tensor, zerosOf(tensor), oneRow(tensor))], 0))
    : tensor;
  const done = graph.one(
    "AssignVariableOp",
    [start.handle, whole],
    { dtype: typeAttr(start.type) },
    start,
    start.readers,
  );
  return [nodeOf(done)];
}

function zerosOf({ shape }: TensorForm): number[] {
  return shape.map(() => 0);
}

/** What the spare row holds means nothing: the first row will do. */
function oneRow({ shape }: TensorForm): number[] {
  return shape.with(0, 1) as number[]; // a copy, which is ours
}

/** Outputs that are ready when all updates have run too. */
function fetchAfter(
  graph: GraphBuilder,
  outputs: readonly { readonly crossing: Crossing; readonly value: GraphTensor }[],
  updates: readonly string[],
): Record<string, TensorInfo> {
  const all =
    outputs.length > 0
      ? outputs.map(({ crossing, value }) => [crossing.name, value] as const)
      : [[doneName, graph.int(1)] as const];
  return Object.fromEntries(
    all.map(([name, value], i) => {
      const after = i === 0 ? [...new Set(updates)] : [];
      const attrs = { T: typeAttr(value.type) };
      return [name, infoOf(graph.one("Identity", [value], attrs, value, after))];
    }),
  );
}

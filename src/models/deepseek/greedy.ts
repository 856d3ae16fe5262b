/**
 * Several tokens to a run: a module whose entry runs the model's step again and again, each time on the tokens that had the
 * largest logits before. So nothing but token ids leaves the device, and no step waits for the host.
 */

import { type Maths, maths } from "../../ir/build.ts";
import { invariant } from "../../ir/errors.ts";
import { Builder, type Func, getFunc, type Module, makeModule, type Node } from "../../ir/graph.ts";
import type { Bucket } from "./bucket.ts";
import type { ModelConfig } from "./config.ts";
import { type BuildOptions, buildModel } from "./model.ts";

/**
 * The module whose entry is `greedy(tokens i32[b], positions i32[b], blockTable i32[b, m], ...caches)
 * -> tokens i32[count, b], ...caches'`: `count` tokens for each of b sequences, whose newest token is given with its
 * position. The table has places for all of them. A sequence at position -1 is padding, as in `buildModel`.
 */
export function buildGreedy(config: ModelConfig, bucket: Bucket, count: number, options: BuildOptions = {}): Module {
  const { tokens: b, sequences, outputs, blockSize } = bucket;
  invariant(b === sequences && b === outputs, () => "greedy: expected one token to a sequence");
  const model = buildModel(config, bucket, options);
  const step = getFunc(model, model.entry);
  const builder = new Builder();
  const m = maths(builder);
  const tokens = builder.param("tokens", "i32", [b]);
  const positions = builder.param("positions", "i32", [b]);
  const blockTable = builder.param("blockTable", "i32", [b, bucket.blocks]);
  const caches = step.params.slice(6).map(({ attrs: { name, dtype, shape } }) => builder.param(name, dtype, shape));
  const each = m.iota("i32", [b], 0); // the sequence of each token, and the tokens whose logits are wanted
  const chosen: Node[] = [];
  let [token, position, state]: [Node, Node, readonly Node[]] = [tokens, positions, caches];
  for (let i = 0; i < count; i++) {
    const slots = slotsOf(m, position, blockTable, blockSize);
    const [logits, ...updated] = builder.call(step, [token, position, each, slots, blockTable, each, ...state]);
    token = m.named(`token.${i}`, m.argMax(logits!)); // [b]
    chosen.push(m.reshape(token, [1, b]));
    position = m.select(m.lt(position, 0), position, m.add(position, 1));
    state = updated;
  }
  const greedy: Func = {
    name: "greedy",
    params: [tokens, positions, blockTable, ...caches],
    outs: [m.named("tokens", m.concat(0, ...chosen)), ...state],
  };
  return makeModule(model.name, [...model.funcs.values(), greedy], greedy.name);
}

/** The cache row of each position, -1 for padding. [b] */
function slotsOf(m: Maths, positions: Node, blockTable: Node, blockSize: number): Node {
  const block = m.takeAlong(blockTable, m.expandLast(m.div(positions, blockSize))); // [b, 1]
  const first = m.mul(m.reshape(block, positions.type.shape), blockSize);
  return m.select(m.lt(positions, 0), positions, m.add(first, m.rem(positions, blockSize)));
}

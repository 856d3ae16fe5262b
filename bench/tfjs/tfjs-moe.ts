/** Mixture of experts on tfjs: only the chosen experts are computed, each once for all of its tokens. */
import * as tf from "@tensorflow/tfjs-core";
import { type Routing, routeTokens } from "./route-tokens.ts";
import { activate, linear, linearGroup, spread, swiglu } from "./tfjs-ops.ts";
import type { FeedForwardWeights } from "./tfjs-weights.ts";

type MoeWeights = Extract<FeedForwardWeights, { kind: "moe" }>;

/** x [n, hidden], normalised -> [n, hidden]. */
export function mixExperts(x: tf.Tensor2D, weights: MoeWeights): tf.Tensor2D {
  // The one read-back of a layer: which experts run is JavaScript's to know.
  const logits = tf.matMul(x, weights.gate, false, true).dataSync<"float32">();
  const routing = routeTokens(weights.config, weights.bias, logits);
  const shared = swiglu(x, weights.shared);
  const chosen = x.shape[0] === 1 ? oneToken(x, weights, routing) : manyTokens(x, weights, routing);
  return tf.addN([shared, ...chosen]);
}

/** Gates and ups of the chosen experts are stacked, so that the elementwise ops run once. */
function oneToken(x: tf.Tensor2D, weights: MoeWeights, routing: Routing): tf.Tensor2D[] {
  const experts = Array.from(routing.experts, (e) => weights.experts[e]!);
  const pairs = experts.map(({ gateUp }) => linearGroup(x, gateUp));
  const gate = tf.concat(
    pairs.map(([g]) => g!),
    0,
  );
  const up = tf.concat(
    pairs.map(([, u]) => u!),
    0,
  );
  const size = gate.shape[1];
  const inner = tf.mul<tf.Tensor2D>(activate(gate, up), spread(tf.tensor1d(routing.weights), size)); // [k, moe_intermediate_size]
  return experts.map(({ down }, i) => linear(tf.slice(inner, [i, 0], [1, size]), down));
}

/** Rows are moved by slices (views) and concats along the first dimension (block copies): tf.gather walks coordinates. */
function manyTokens(x: tf.Tensor2D, weights: MoeWeights, { experts, weights: scales }: Routing): tf.Tensor2D[] {
  const [n, hidden] = x.shape;
  const k = experts.length / n;
  const rowsOf: number[][] = weights.experts.map(() => []);
  experts.forEach((e, i) => {
    rowsOf[e]!.push(i);
  });
  const tokens = Array.from({ length: n }, (_, t) => tf.slice(x, [t, 0], [1, hidden]));
  const results = new Array<tf.Tensor2D>(experts.length);
  rowsOf.forEach((picks, e) => {
    if (picks.length === 0) return;
    const { gateUp, down } = weights.experts[e]!;
    const rows = tf.concat(
      picks.map((i) => tokens[Math.floor(i / k)]!),
      0,
    );
    const [gate, up] = linearGroup(rows, gateUp);
    const scale = tf.tensor1d(picks.map((i) => scales[i]!));
    const y = linear(tf.mul<tf.Tensor2D>(activate(gate!, up!), spread(scale, gate!.shape[1])), down);
    picks.forEach((i, row) => {
      results[i] = tf.slice(y, [row, 0], [1, hidden]);
    });
  });
  return Array.from({ length: k }, (_, j) =>
    tf.concat(
      Array.from({ length: n }, (_, t) => results[t * k + j]!),
      0,
    ),
  );
}

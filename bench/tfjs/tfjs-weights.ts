/**
 * Weights of a DeepSeek-V3 checkpoint as the tfjs step wants them: tensors made once, with everything folded in that
 * depends on weights alone (norm gains, the softmax scale, rope's pair swap, MLA's absorbed products).
 */
import * as tf from "@tensorflow/tfjs-core";
import type { MlaAttention } from "../../src/models/deepseek/attention-config.ts";
import type { ModelConfig } from "../../src/models/deepseek/config.ts";
import type { MoeFeedForward } from "../../src/models/deepseek/feed-forward-config.ts";

export interface HostWeight {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}
export type WeightReader = (name: string) => HostWeight;

/** Host matrix [rows, columns] of a linear layer: y = x M^T. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float32Array;
}

/** A linear layer in the layout that the chosen linear op reads. */
export type LinearLayout = "conv1x1" | "transposeB" | "preTransposed";
export interface Linear {
  readonly layout: LinearLayout;
  /** conv1x1: [1, 1, in, out]; transposeB: [out, in]; preTransposed: [in, out]. */
  readonly w: tf.Tensor;
  readonly out: number;
}

/**
 * Linear layers with one input. For one token a single op and slices (views) are fastest; for more, slices of columns
 * copy element by element, and one op per part is.
 */
export interface LinearGroup {
  readonly together: Linear;
  readonly apart: readonly Linear[];
}

export interface AttentionWeights {
  /** hidden -> q_lora_rank, kv_lora_rank, rope, rope with its pairs turned. */
  readonly down: LinearGroup;
  /** Absorbed, for one token: q_lora_rank -> h * kv_lora_rank + h * rope + h * turned rope. */
  readonly queryAbsorbed: Linear;
  /** [h, v_head_dim, kv_lora_rank + rope], its rope columns zero. */
  readonly valueAbsorbed: tf.Tensor3D;
  /** Materialised: [h, d, q_lora_rank] each. */
  readonly queryNope: tf.Tensor3D;
  readonly queryRope: tf.Tensor3D;
  readonly queryTurned: tf.Tensor3D;
  /** [h, d, kv_lora_rank] each. */
  readonly keyNope: tf.Tensor3D;
  readonly value: tf.Tensor3D;
  readonly output: Linear;
}

/** down(silu(gate x) * up x). */
export interface SwigluWeights {
  readonly gateUp: LinearGroup;
  readonly down: Linear;
}

export type FeedForwardWeights =
  | { readonly kind: "dense"; readonly mlp: SwigluWeights }
  | {
      readonly kind: "moe";
      readonly config: MoeFeedForward;
      /** [experts, hidden]. */
      readonly gate: tf.Tensor2D;
      readonly bias: Float32Array;
      readonly experts: readonly SwigluWeights[];
      readonly shared: SwigluWeights;
    };

export interface LayerWeights {
  readonly attention: AttentionWeights;
  readonly feedForward: FeedForwardWeights;
}

/** Reads matrices and gains by checkpoint name. */
export class WeightFolder {
  readonly #read: WeightReader;
  readonly #layout: LinearLayout;

  constructor(read: WeightReader, layout: LinearLayout) {
    this.#read = read;
    this.#layout = layout;
  }

  matrix(name: string): Matrix {
    const { shape, data } = this.#read(`${name}.weight`);
    return { rows: shape[0]!, columns: shape[1]!, data };
  }

  values(name: string): Float32Array {
    return this.#read(name).data;
  }

  /**
   * The matrix that reads x / sqrt(sum(x^2) + size eps) in place of the RMS norm of x: columns times gain * sqrt(size).
   */
  afterNorm(matrix: Matrix, norm: string): Matrix {
    const gain = this.values(`${norm}.weight`);
    const root = Math.sqrt(gain.length);
    return { ...matrix, data: matrix.data.map((v, i) => v * gain[i % matrix.columns]! * root) };
  }

  linear(matrix: Matrix): Linear {
    const { rows, columns, data } = matrix;
    const layout = this.#layout;
    if (layout === "transposeB") return { layout, w: tf.tensor2d(data, [rows, columns]), out: rows };
    const turned = transpose(matrix).data;
    const w = layout === "conv1x1" ? tf.tensor4d(turned, [1, 1, columns, rows]) : tf.tensor2d(turned, [columns, rows]);
    return { layout, w, out: rows };
  }

  group(parts: readonly Matrix[]): LinearGroup {
    return { together: this.linear(stack(parts)), apart: parts.map((part) => this.linear(part)) };
  }

  swiglu(prefix: string, norm: string): SwigluWeights {
    const [gate, up] = [this.matrix(`${prefix}.gate_proj`), this.matrix(`${prefix}.up_proj`)];
    return {
      gateUp: this.group([this.afterNorm(gate, norm), this.afterNorm(up, norm)]),
      down: this.linear(this.matrix(`${prefix}.down_proj`)),
    };
  }
}

/** Everything of layer `layer`. */
export function foldLayer(folder: WeightFolder, config: ModelConfig, mla: MlaAttention, layer: number): LayerWeights {
  const prefix = `model.layers.${layer}`;
  const feedForward = config.feed_forward[layer]!;
  const norm = `${prefix}.post_attention_layernorm`;
  return {
    attention: foldAttention(folder, mla, prefix),
    feedForward:
      feedForward.kind === "dense"
        ? { kind: "dense", mlp: folder.swiglu(`${prefix}.mlp`, norm) }
        : foldMoe(folder, feedForward, `${prefix}.mlp`, norm),
  };
}

function foldMoe(folder: WeightFolder, moe: MoeFeedForward, prefix: string, norm: string): FeedForwardWeights {
  const gate = folder.afterNorm(folder.matrix(`${prefix}.gate`), norm);
  return {
    kind: "moe",
    config: moe,
    gate: tf.tensor2d(gate.data, [gate.rows, gate.columns]),
    bias: folder.values(`${prefix}.gate.e_score_correction_bias`),
    experts: Array.from({ length: moe.n_routed_experts }, (_, e) => folder.swiglu(`${prefix}.experts.${e}`, norm)),
    shared: folder.swiglu(`${prefix}.shared_experts`, norm),
  };
}

function foldAttention(folder: WeightFolder, mla: MlaAttention, layer: string): AttentionWeights {
  const { num_attention_heads: h, kv_lora_rank: r, qk_nope_head_dim: nope, qk_rope_head_dim: p } = mla;
  const { v_head_dim: vd, softmax_scale } = mla;
  const prefix = `${layer}.self_attn`;
  const qA = folder.matrix(`${prefix}.q_a_proj`);
  const kvA = folder.matrix(`${prefix}.kv_a_proj_with_mqa`); // [r + p, hidden]
  const kRope = rows(kvA, r, p);
  const down = [qA, rows(kvA, 0, r), kRope, turnPairs(kRope)];
  const qB = folder.afterNorm(folder.matrix(`${prefix}.q_b_proj`), `${prefix}.q_a_layernorm`);
  const scaled: Matrix = { ...qB, data: qB.data.map((v) => v * softmax_scale) }; // [h (nope + p), q_lora_rank]
  const kvB = folder.afterNorm(folder.matrix(`${prefix}.kv_b_proj`), `${prefix}.kv_a_layernorm`); // [h (nope + vd), r]
  const each = (f: (i: number) => Matrix) => Array.from({ length: h }, (_, i) => f(i));
  const queryNope = each((i) => rows(scaled, i * (nope + p), nope));
  const queryRope = each((i) => rows(scaled, i * (nope + p) + nope, p));
  const queryTurned = queryRope.map(turnPairs);
  const keyNope = each((i) => rows(kvB, i * (nope + vd), nope));
  const value = each((i) => rows(kvB, i * (nope + vd) + nope, vd));
  // (q W_q) . (c W_k) = (q W_q W_k^T) . c: the product is made here.
  const absorbed = queryNope.map((q, i) => multiply(transpose(keyNope[i]!), q)); // [r, q_lora_rank]
  return {
    down: folder.group(down.map((part) => folder.afterNorm(part, `${layer}.input_layernorm`))),
    queryAbsorbed: folder.linear(stack([...absorbed, ...queryRope, ...queryTurned])),
    valueAbsorbed: tensor3d(value.map((v) => padColumns(v, p))),
    queryNope: tensor3d(queryNope),
    queryRope: tensor3d(queryRope),
    queryTurned: tensor3d(queryTurned),
    keyNope: tensor3d(keyNope),
    value: tensor3d(value),
    output: folder.linear(folder.matrix(`${prefix}.o_proj`)),
  };
}

/** Rows (2i, 2i + 1) become (-row 2i + 1, row 2i): with it, rope of a projection is y * cos + turned y * sin. */
function turnPairs({ rows: count, columns, data }: Matrix): Matrix {
  const turned = new Float32Array(data.length);
  for (let row = 0; row < count; row += 2) {
    for (let c = 0; c < columns; c++) {
      turned[row * columns + c] = -data[(row + 1) * columns + c]!;
      turned[(row + 1) * columns + c] = data[row * columns + c]!;
    }
  }
  return { rows: count, columns, data: turned };
}

function rows(matrix: Matrix, start: number, count: number): Matrix {
  const { columns, data } = matrix;
  return { rows: count, columns, data: data.slice(start * columns, (start + count) * columns) };
}

/** Matrices under each other. */
function stack(parts: readonly Matrix[]): Matrix {
  const { columns } = parts[0]!;
  const count = parts.reduce((sum, part) => sum + part.rows, 0);
  const data = new Float32Array(count * columns);
  let at = 0;
  for (const part of parts) {
    data.set(part.data, at);
    at += part.data.length;
  }
  return { rows: count, columns, data };
}

function transpose({ rows: count, columns, data }: Matrix): Matrix {
  const out = new Float32Array(data.length);
  for (let r = 0; r < count; r++) for (let c = 0; c < columns; c++) out[c * count + r] = data[r * columns + c]!;
  return { rows: columns, columns: count, data: out };
}

function multiply(a: Matrix, b: Matrix): Matrix {
  const data = new Float32Array(a.rows * b.columns);
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < b.columns; j++) {
      let sum = 0;
      for (let k = 0; k < a.columns; k++) sum += a.data[i * a.columns + k]! * b.data[k * b.columns + j]!;
      data[i * b.columns + j] = sum;
    }
  }
  return { rows: a.rows, columns: b.columns, data };
}

function padColumns({ rows: count, columns, data }: Matrix, extra: number): Matrix {
  const out = new Float32Array(count * (columns + extra));
  for (let r = 0; r < count; r++) out.set(data.subarray(r * columns, (r + 1) * columns), r * (columns + extra));
  return { rows: count, columns: columns + extra, data: out };
}

function tensor3d(parts: readonly Matrix[]): tf.Tensor3D {
  const { rows: count, columns } = parts[0]!;
  return tf.tensor3d(stack(parts).data, [parts.length, count, columns]);
}

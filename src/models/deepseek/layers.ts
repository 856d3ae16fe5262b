/**
 * What the parts of the model are built from: weights as nodes, linear layers, norms, the gated network.
 *
 * Letters: n tokens, i channels in, o channels out, f inner channels.
 */
import { type Maths, maths } from "../../ir/build.ts";
import { InternalError, UnsupportedError } from "../../ir/errors.ts";
import { Builder, type Node } from "../../ir/graph.ts";
import type { DType, Shape } from "../../ir/types.ts";
import type { ModelConfig } from "./config.ts";
import { type CheckpointHeaders, namesOf, scaleShape, scaleSuffix, type WeightSpec, weightSpecs } from "./weights.ts";

/** What every part of the model is given. */
export interface ModelBuilder {
  readonly config: ModelConfig;
  readonly builder: Builder;
  readonly m: Maths;
  /** The weight with a name as in `weightSpecs`, in the dtype in which it is stored. */
  readonly weight: (name: string) => Node;
  /** Whether the config has the weight. */
  readonly hasWeight: (name: string) => boolean;
  /** A weight matrix; FP8 ones are multiplied by their scales, which gives f32. */
  readonly matrix: (name: string) => Node;
}

/** The dtype in which a weight is stored, by its name in `weightSpecs`, e.g. `model.layers.{layer}.mlp.gate.weight`. */
export type WeightDType = (name: string) => DType;

const storedAs = { float32: "f32", float16: "f16", bfloat16: "bf16" } as const;

/** What the config says of the stored dtype. Checkpoints keep the correction bias of the gate in f32. */
function configDType(config: ModelConfig, spec: WeightSpec): DType {
  if (spec.name.endsWith(".e_score_correction_bias")) return "f32";
  return spec.quantized ? "f8e4m3" : storedAs[config.dtype];
}

/** Dtypes as a checkpoint has them. The layers of one kind share one function, so they must store a weight alike. */
export function checkpointDTypes(config: ModelConfig, headers: CheckpointHeaders): WeightDType {
  const found = new Map<string, DType>();
  for (const spec of weightSpecs(config)) {
    for (const name of namesOf(spec)) {
      const dtype = headers.get(name)?.dtype;
      if (dtype === undefined) continue; // checkWeights reports what is missing
      const first = found.get(spec.name) ?? dtype;
      if (dtype !== first) {
        const hint = "Convert the checkpoint so that each weight has one dtype in all layers and experts.";
        throw new UnsupportedError(`weight ${name}`, `expected ${first} as in the layers before, got ${dtype}`, {
          hint,
        });
      }
      found.set(spec.name, first);
    }
  }
  return (name) => found.get(name) ?? "f32";
}

export function modelBuilder(config: ModelConfig, weightDType?: WeightDType): ModelBuilder {
  const builder = new Builder();
  const m = maths(builder);
  const specs = new Map(weightSpecs(config).map((spec) => [spec.name, spec]));
  const specOf = (name: string): WeightSpec => {
    const spec = specs.get(name);
    if (spec === undefined)
      throw new InternalError(`weight ${name}`, `the ${config.model_type} config has no such weight`);
    return spec;
  };
  /** Experts are stacked along a new first axis. */
  const stacked = (spec: WeightSpec, suffix: string, dtype: DType, shape: Shape) =>
    builder.weight(
      spec.name.replace("{expert}", "{0}") + suffix,
      dtype,
      spec.experts === null ? shape : [spec.experts, ...shape],
    );
  const weight = (name: string) => {
    const spec = specOf(name);
    return stacked(spec, "", weightDType?.(name) ?? configDType(config, spec), spec.shape);
  };
  const matrix = (name: string) => {
    const w = weight(name);
    const spec = specOf(name);
    if (w.type.dtype !== "f8e4m3") return w;
    if (!spec.quantized || config.quantization === null) {
      throw new UnsupportedError(`weight ${name}`, "expected f32, f16 or bf16, got f8e4m3 without scales");
    }
    const { weight_block_size: block } = config.quantization;
    return m.dequantizeBlocks(w, stacked(spec, scaleSuffix, "f32", scaleShape(spec.shape, block)), block);
  };
  return { config, builder, m, weight, hasWeight: (name) => specs.has(name), matrix };
}

/** x W^T, plus the bias where the config has one. x [n, i] -> [n, o]; `name` is the layer's, without `.weight`. */
export function linear({ m, matrix, weight, hasWeight }: ModelBuilder, name: string, x: Node): Node {
  const y = m.contract("n i, o i -> n o", x, matrix(`${name}.weight`)); // [n, o]
  return hasWeight(`${name}.bias`) ? m.add(y, m.cast(weight(`${name}.bias`), "f32")) : y;
}

/** RMS norm of the last axis; `name` is the norm's, without `.weight`. */
export function norm({ m, weight, config }: ModelBuilder, name: string, x: Node, eps = config.rms_norm_eps): Node {
  return m.rmsNorm(x, weight(`${name}.weight`), eps);
}

/** down(silu(gate x) * up x). x [n, i] -> [n, i]; `name` names the network, e.g. `model.layers.{layer}.mlp`. */
export function swiglu(model: ModelBuilder, name: string, x: Node): Node {
  const { m } = model;
  const gate = m.named("gate", linear(model, `${name}.gate_proj`, x)); // [n, f]
  const up = m.named("up", linear(model, `${name}.up_proj`, x)); // [n, f]
  const act = m.named("act", m.mul(m.silu(gate), up));
  return linear(model, `${name}.down_proj`, act); // [n, i]
}

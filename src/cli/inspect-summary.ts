/** The summary at the end of `ciuic inspect`: what each pass did, and what a step costs. */
import type { Compiled } from "../compile.ts";
import type { Module } from "../ir/graph.ts";
import { maxElements } from "../ir/kernel/runnable.ts";
import { byteSize, type TensorType, tensorType } from "../ir/types.ts";
import { type Bucket, cacheSpecs } from "../models/deepseek/bucket.ts";
import type { ModelConfig } from "../models/deepseek/config.ts";
import { modelBuilder } from "../models/deepseek/layers.ts";
import { countOf, namesOf, scaleShape, weightSpecs } from "../models/deepseek/weights.ts";
import { countOps, type PassRecord } from "../passes/record-passes.ts";
import { showBytes as bytes, showCount as count } from "../plan/show.ts";
import { compiledWeightBytes } from "../runtime/weights/weight-store.ts";

export interface Inspected {
  readonly config: ModelConfig;
  readonly headers: ReadonlyMap<string, TensorType> | null;
  readonly bucket: Bucket;
  readonly built: Module;
  readonly passes: readonly PassRecord[];
  readonly compiled: Compiled;
  readonly buildMs: number;
}

/** Lines of `//` comments, so that the output as a whole remains readable as IR. */
export function inspectSummary({ config, headers, bucket, built, passes, compiled, buildMs }: Inspected): string {
  const { report, plan, target } = compiled;
  const parameters = weightSpecs(config).reduce(
    (sum, spec) => sum + countOf(spec) * spec.shape.reduce((a, b) => a * b, 1),
    0,
  );
  const caches = cacheSpecs(config, bucket).reduce(
    (sum, { dtype, shape }) => sum + byteSize(tensorType(dtype, shape)),
    0,
  );
  const total = buildMs + report.ms.passes + report.ms.lower + report.ms.plan;
  const widest = Math.max(...passes.map(({ name }) => name.length), 5);
  const rows = [
    `${config.model_type}: ${config.num_hidden_layers} layers, ${count(parameters)} parameters, for ${target.name}`,
    `step of ${bucket.tokens} tokens of ${bucket.sequences} sequences of at most ${bucket.blocks * bucket.blockSize} tokens`,
    "",
    `${"built".padEnd(widest)}  ${String(countOps(built)).padStart(5)} ops  ${ms(buildMs)}`,
    ...passes.map(
      (pass) => `${pass.name.padEnd(widest)}  ${String(pass.opsAfter).padStart(5)} ops  ${ms(pass.ms)}${change(pass)}`,
    ),
    "",
    `kernels   ${report.kernels}, emitted once each`,
    `launches  ${report.launches} a step`,
    `touched   ${bytes(report.bytes)} a step: all buffers of all launches`,
    `arena     ${bytes(report.arenaBytes)}`,
    `caches    ${bytes(caches)}`,
    `weights   ${bytes(storedBytes(config, headers))} as stored${headers === null ? " (by the config)" : ""}, ${bytes(compiledWeightBytes(plan))} compiled`,
    `compiled  in ${ms(total)}: build ${ms(buildMs)}, passes ${ms(report.ms.passes)}, lower ${ms(report.ms.lower)}, plan ${ms(report.ms.plan)}`,
  ];
  const huge = plan.kernels.flatMap(({ bufs }) =>
    bufs.filter(({ size }) => size > maxElements).map(({ name }) => name),
  );
  if (huge.length > 0) {
    rows.push(
      `limits    too large to run here: ${[...new Set(huge)].join(", ")} have more elements than kernels can index`,
    );
  }
  return rows
    .map((row) => `// ${row}`.trimEnd())
    .join("\n")
    .concat("\n");
}

function change({ opsBefore, opsAfter }: PassRecord): string {
  return opsBefore === opsAfter ? "" : `  from ${opsBefore}`;
}

/** Bytes of the tensors that the model needs: as the checkpoint has them, or as the config says it would. */
function storedBytes(config: ModelConfig, headers: ReadonlyMap<string, TensorType> | null): number {
  const { weight } = modelBuilder(config);
  let sum = 0;
  for (const spec of weightSpecs(config)) {
    if (headers !== null) {
      const stored = [...namesOf(spec)].flatMap((name) => [headers.get(name), headers.get(`${name}_scale_inv`)]);
      for (const type of stored) if (type !== undefined) sum += byteSize(type);
      continue;
    }
    const { dtype } = weight(spec.name).type;
    const each = byteSize(tensorType(dtype, spec.shape));
    const { quantization } = config;
    const blocks =
      spec.quantized && quantization !== null ? scaleShape(spec.shape, quantization.weight_block_size) : null;
    sum += countOf(spec) * (each + (blocks === null ? 0 : byteSize(tensorType("f32", blocks))));
  }
  return sum;
}

function ms(time: number): string {
  return `${time.toFixed(time < 10 ? 1 : 0)} ms`;
}

/**
 * A step that feeds the next: runs `step` on one token of every sequence, chooses their next tokens, and leaves tokens,
 * positions and slots for the step after in the memory of its own inputs. Run so many times in a row, it decodes without
 * anything leaving the device but the ids.
 *
 * Letters as in model.ts; n tokens are outputs all, and one of a sequence each.
 */
import { type Maths, maths } from "../../ir/build.ts";
import { Builder, type Func, type Module, makeModule, type Node } from "../../ir/graph.ts";
import { countTokens } from "../sampling/penalties.ts";
import { type SamplerKind, samplerColumns, sampleTokens } from "../sampling/sample.ts";
import { type Bucket, cacheSpecs } from "./bucket.ts";
import type { ModelConfig } from "./config.ts";
import { type BuildOptions, buildModel } from "./model.ts";

export interface DecodeBucket extends Bucket {
  /** Most steps in a row: rows of `ids` and `uniforms`. */
  readonly steps: number;
  readonly kind: SamplerKind;
}

/**
 * The module whose entry is `decode(tokens i32[n], positions i32[n], sequence i32[n], slots i32[n], blockTable i32[b, m],
 * outputs i32[n], start i32[1], uniforms f32[steps, n], options f32[n, c], ids i32[steps, n], counts f32[n * v, 1], ...caches)
 * -> ...caches', ids', slots', tokens', counts', positions'`, each result in the memory of its input; `counts`, what each
 * sequence has seen of the vocabulary, is there only where tokens are penalised.
 * `start` is the position of the first token in the first step: row `positions[0] - start` of `ids` is written and of
 * `uniforms` read. An id of -1 says that the logits were no numbers.
 */
export function buildDecode(config: ModelConfig, bucket: DecodeBucket, options: BuildOptions = {}): Module {
  const model = buildModel(config, { ...bucket, outputs: bucket.tokens }, options);
  const step = model.funcs.get(model.entry)!;
  return makeModule(model.name, [...model.funcs.values(), buildLoop(config, bucket, step)], "decode");
}

function buildLoop(config: ModelConfig, bucket: DecodeBucket, step: Func): Func {
  const { tokens: n, sequences: b, blocks, blockSize, steps, kind } = bucket;
  const builder = new Builder();
  const m = maths(builder);
  const tokens = builder.param("tokens", "i32", [n]);
  const positions = builder.param("positions", "i32", [n]);
  const sequence = builder.param("sequence", "i32", [n]);
  const slots = builder.param("slots", "i32", [n]);
  const blockTable = builder.param("blockTable", "i32", [b, blocks]);
  const outputs = builder.param("outputs", "i32", [n]);
  const start = builder.param("start", "i32", [1]);
  const uniforms = builder.param("uniforms", "f32", [steps, n]);
  const choice = builder.param("options", "f32", [n, samplerColumns.length]);
  const ids = builder.param("ids", "i32", [steps, n]);
  const counts = kind.penalties ? builder.param("counts", "f32", [n * config.vocab_size, 1]) : undefined;
  const caches = cacheSpecs(config, bucket).map(({ name, dtype, shape }) => builder.param(name, dtype, shape));

  const [logits, ...newCaches] = builder.call(step, [
    tokens,
    positions,
    sequence,
    slots,
    blockTable,
    outputs,
    ...caches,
  ]);
  const row = m.named("row", m.sub(m.slice(positions, 0, 0, 1), start)); // [1]
  const uniform = m.reshape(m.gather(uniforms, row), [n]);
  const seen = counts && { counts: m.reshape(counts, [n, config.vocab_size]) };
  const next = sampleTokens(m, kind, { logits: logits!, uniform, options: choice, ...seen }); // [n]
  // Rows that only fill up the bucket stay so.
  const position = m.named("position", m.select(m.lt(positions, 0), -1, m.add(positions, 1))); // [n]
  const slot = slotsAt(m, blockTable, sequence, position, blockSize);
  const all = m.iota("i32", [n], 0);
  const token = m.max(next, 0);
  const counted = m.select(m.lt(positions, 0), -1, next); // [n]
  return {
    name: "decode",
    params: [
      ...[tokens, positions, sequence, slots, blockTable, outputs, start, uniforms, choice, ids],
      ...(counts === undefined ? [] : [counts]),
      ...caches,
    ],
    outs: [
      ...newCaches,
      m.named("ids.out", m.updateRows(ids, m.reshape(next, [1, n]), row)),
      m.named("slots.out", m.updateRows(slots, slot, all)),
      m.named("tokens.out", m.updateRows(tokens, token, all)),
      ...(counts === undefined ? [] : [m.named("counts.out", countTokens(m, counts, counted))]),
      // Last, since the others read where the step was.
      m.named("positions.out", m.updateRows(positions, position, all)),
    ],
  };
}

/** The cache rows of positions by the block table, -1 for none: i32 [n]. */
function slotsAt(m: Maths, blockTable: Node, sequence: Node, position: Node, blockSize: number): Node {
  const [b, blocks] = blockTable.type.shape as [number, number]; // of rank 2
  const entry = m.add(m.mul(sequence, blocks), m.div(position, blockSize));
  const block = m.gather(m.reshape(blockTable, [b * blocks]), entry); // [n]
  return m.select(m.lt(position, 0), -1, m.add(m.mul(block, blockSize), m.rem(position, blockSize)));
}

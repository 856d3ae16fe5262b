/** A mesh decoding ahead: its ranks pass tokens on to each other, step after step, and tell them when a chunk of steps is done. */
import { InternalError } from "../../ir/errors.ts";
import type { SamplerKind } from "../../models/sampling/sample.ts";
import { samplerKind, samplerRow, uniformOf } from "../engine/ahead.ts";
import { type StepSize, stepSizeOf } from "../engine/bucket-ladder.ts";
import { type AheadRow, type AheadRun, type AheadRunner, copyOf, type RaggedBatch } from "../steps/step.ts";
import type { MeshState } from "./mesh-state.ts";
import type { CacheSpace } from "./messages.ts";

export class MeshAhead implements AheadRunner {
  readonly #mesh: MeshState;
  readonly #space: CacheSpace;
  readonly #prepare: (size: StepSize, sampler: SamplerKind) => Promise<void>;

  constructor(mesh: MeshState, space: CacheSpace, prepare: (size: StepSize, sampler: SamplerKind) => Promise<void>) {
    this.#mesh = mesh;
    this.#space = space;
    this.#prepare = prepare;
  }

  get maxSteps(): number {
    return this.#mesh.stepsAhead;
  }

  async start(given: RaggedBatch, rows: readonly AheadRow[]): Promise<AheadRun> {
    const batch = copyOf(given);
    const kind = samplerKind(rows);
    await this.#prepare(stepSizeOf(batch), kind);
    const options = Float32Array.from(rows.flatMap(({ sampling }) => samplerRow(sampling)));
    let before = 0;
    return {
      queue: (steps) => {
        const first = before;
        before += steps;
        return this.#decode({ batch, kind, options }, rows, first, steps);
      },
    };
  }

  async #decode(
    run: { readonly batch: RaggedBatch; readonly kind: SamplerKind; readonly options: Float32Array },
    rows: readonly AheadRow[],
    before: number,
    steps: number,
  ): Promise<Int32Array> {
    const mesh = this.#mesh;
    const step = mesh.steps;
    mesh.steps += steps;
    const uniforms = Float32Array.from({ length: steps * rows.length }, (_, i) => {
      const { sampling, position } = rows[i % rows.length]!;
      return uniformOf(sampling, position + before + Math.floor(i / rows.length));
    });
    const what = steps === 1 ? `step ${step}` : `steps ${step} to ${step + steps - 1}`;
    const command = { kind: "decode", space: this.#space, step, run, before, uniforms } as const;
    const answers = await mesh.ranks.command(command, what, steps * mesh.deadlines.stepMs);
    const ranks = answers.flatMap((answer) => (answer.kind === "decoded" ? [answer] : []));
    mesh.times = ranks.map(({ ms, exchangeMs }) => ({ ms: ms / steps, exchangeMs: exchangeMs / steps }));
    for (const { ids } of ranks) if (ids !== null) return ids;
    throw new InternalError(what, "no rank has tokens");
  }
}

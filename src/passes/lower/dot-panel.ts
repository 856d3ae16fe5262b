/**
 * A panel: the codes and scales of a tile's rows as many tokens meet them, all groups of them, taken apart once into
 * scratch. Tiles of tokens then only load and multiply.
 */
import { type Expr, iadd, imul, int, load, loadBytes } from "../../ir/kernel/kernel.ts";
import { store } from "../../ir/kernel/stmt.ts";
import { dotGroup } from "../../ir/ops/dot.ts";
import { range } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

/** What a kernel reads of a group of its weights: in place, or from a panel. */
export interface WeightReads {
  /** The vectors of bytes of a chunk of block `u` of the tile. */
  readonly bytes: (g: Expr, u: number, chunk: number) => readonly Expr[];
  /** Four scales, or minimums (`which` is 1). */
  readonly scales: (which: number, g: Expr, u: number, four: number) => Expr;
}

export interface PanelSizes {
  readonly groups: number;
  readonly blocks: number;
  /** Fours of rows in a block. */
  readonly fours: number;
  /** 1 for scales, 2 where there are minimums too. */
  readonly params: number;
  /** Vectors that a chunk is taken apart into; undefined where codes are read as they lie. */
  readonly unpack: { readonly vectors: number; readonly dtype: "i8" | "u8" } | undefined;
}

/** Of the scratch that a kernel may have. */
const most = 1 / 4;

/** Chunks of a group: of four codes each. */
const chunks = dotGroup / 4;

/** Makes a function that writes the panel and returns how it is read; undefined where it would not fit. */
export function panelFor(w: KernelWriter, sizes: PanelSizes): ((from: WeightReads) => WeightReads) | undefined {
  const { groups, blocks, fours, params, unpack } = sizes;
  const vectors = unpack?.vectors ?? 0;
  const perGroup = { codes: 16 * chunks * blocks * vectors, scales: 4 * blocks * fours };
  const bytes = groups * (perGroup.codes + 4 * perGroup.scales * params);
  if (bytes > most * w.target.scratchBytes) return undefined;
  const codes = unpack && w.scratch("panel", unpack.dtype, groups * perGroup.codes);
  const scales = range(params).map((i) =>
    w.scratch(i === 0 ? "panel_scales" : "panel_minimums", "f32", groups * perGroup.scales),
  );
  const codesAt = (g: Expr, u: number, chunk: number, i: number) =>
    iadd(imul(g, int(perGroup.codes)), int(16 * ((chunk * blocks + u) * vectors + i)));
  const scalesAt = (g: Expr, u: number, four: number) =>
    iadd(imul(g, int(perGroup.scales)), int(4 * (u * fours + four)));
  return (from) => {
    w.loop("g", groups, (g) => {
      for (const u of range(blocks)) {
        for (const chunk of codes === undefined ? [] : range(chunks)) {
          for (const [i, made] of from.bytes(g, u, chunk).entries())
            w.emit(store(codes!, codesAt(g, u, chunk, i), made));
        }
        for (const [which, buf] of scales.entries()) {
          for (const four of range(fours)) w.emit(store(buf, scalesAt(g, u, four), from.scales(which, g, u, four)));
        }
      }
    });
    return {
      bytes:
        codes === undefined
          ? from.bytes
          : (g, u, chunk) => range(vectors).map((i) => loadBytes(codes, codesAt(g, u, chunk, i), 16)),
      scales: (which, g, u, four) => load(scales[which]!, scalesAt(g, u, four), 4),
    };
  };
}

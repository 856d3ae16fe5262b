/**
 * Which memory the values between a rank's pieces have. Pieces and exchanges run in their order, so a value can lie where
 * another did that nothing reads any more: many layers need no more than one does.
 */
import type { Pieces } from "../../compile-ranks.ts";
import { storageLength } from "../../ir/tensor.ts";
import type { TensorType } from "../../ir/types.ts";

export interface ValuePlaces {
  /** What lies in each place: values of one dtype and length follow each other there. */
  readonly types: readonly TensorType[];
  /** By value. Parameters of the program, which live from step to step, have places to themselves. */
  readonly placeOf: readonly number[];
}

/**
 * `donated`: by piece, for each of its results the number of the parameter in whose memory the piece leaves it, or null.
 * Where that parameter is still to be read the result has a place of its own, to which the parameter is copied first.
 */
export function placeValues(program: Pieces, donated: (piece: number) => readonly (number | null)[]): ValuePlaces {
  const { values, params, pieces } = program;
  const ends = lastReads(program);
  const types: TensorType[] = [];
  const placeOf: number[] = [];
  const free = new Map<string, number[]>();
  /** When what lies in a place is read last. */
  const live = new Map<number, number>();
  const put = (value: number, place: number, end: number): void => {
    placeOf[value] = place;
    live.set(place, end);
  };
  const newPlace = (value: number) => types.push(values[value]!) - 1;
  for (const { value } of params) put(value, newPlace(value), Number.POSITIVE_INFINITY);
  for (const [at, { params, results, exchanges }] of pieces.entries()) {
    const find = (value: number, place = free.get(kindOf(values[value]!))?.pop()) =>
      put(value, place ?? newPlace(value), Math.max(ends[value]!, at, live.get(place ?? -1) ?? at));
    for (const [i, value] of results.entries()) {
      const param = params[donated(at)[i] ?? -1];
      find(value, param !== undefined && ends[param]! <= at ? placeOf[param] : undefined);
    }
    for (const { result } of exchanges) if (result !== null) find(result);
    for (const [place, end] of live) {
      if (end >= at + 1) continue;
      live.delete(place);
      const kind = kindOf(types[place]!);
      free.set(kind, [...(free.get(kind) ?? []), place]);
    }
  }
  return { types, placeOf };
}

/** By value: the last piece that reads it, and a half more where that is an exchange after the piece. */
function lastReads({ values, results, pieces }: Pieces): readonly number[] {
  const ends = values.map(() => -1);
  for (const [at, { params, exchanges }] of pieces.entries()) {
    for (const value of params) ends[value] = at;
    for (const { operand } of exchanges) if (operand !== null) ends[operand] = at + 0.5;
  }
  for (const value of results) ends[value] = Number.POSITIVE_INFINITY;
  return ends;
}

function kindOf(type: TensorType): string {
  return `${type.dtype} ${storageLength(type)}`;
}

/** Values between pieces share memory only where no two of them are needed at the same time. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Pieces } from "../../../src/compile-ranks.ts";
import { Builder } from "../../../src/ir/graph.ts";
import { tensorType } from "../../../src/ir/types.ts";
import { placeValues } from "../../../src/runtime/mesh/value-places.ts";

const node = new Builder().param("x", "f32", [1]);

interface Made {
  readonly program: Pieces;
  readonly donated: readonly (readonly (number | null)[])[];
}

/** Programs of pieces that read any earlier values, with results of two lengths, some left where a parameter lay. */
const programs: fc.Arbitrary<Made> = fc
  .record({
    params: fc.integer({ min: 1, max: 3 }),
    pieces: fc.array(
      fc.record({
        reads: fc.array(fc.nat(), { maxLength: 3 }),
        makes: fc.array(fc.record({ long: fc.boolean(), donates: fc.boolean() }), { minLength: 1, maxLength: 3 }),
        exchanges: fc.array(fc.nat(), { maxLength: 2 }),
      }),
      { minLength: 1, maxLength: 8 },
    ),
    results: fc.array(fc.nat(), { minLength: 1, maxLength: 3 }),
  })
  .map(({ params: count, pieces: wanted, results: chosen }) => {
    const lengths: number[] = Array.from({ length: count }, () => 4);
    const donated: (number | null)[][] = [];
    const pieces = wanted.map(({ reads, makes, exchanges }) => {
      const params = [...new Set(reads.map((i) => i % lengths.length))];
      const left = params.map((value, i) => ({ i, length: lengths[value]! }));
      const own: (number | null)[] = [];
      const results = makes.map(({ long, donates }) => {
        const place = donates ? left.shift() : undefined;
        own.push(place?.i ?? null);
        return lengths.push(place?.length ?? (long ? 8 : 4)) - 1;
      });
      donated.push(own);
      const known = lengths.length;
      return {
        module: null,
        params,
        results,
        exchanges: exchanges.map((i) => {
          const operand = i % known;
          return { node, operand, result: lengths.push(lengths[operand]!) - 1 };
        }),
      };
    });
    const program = {
      values: lengths.map((length) => tensorType("f32", [length])),
      params: Array.from({ length: count }, (_, value) => ({ name: `p${value}`, value })),
      results: chosen.map((i) => i % lengths.length),
      pieces,
    };
    return { program, donated };
  });

test("a value stays as it is until it is read for the last time", () => {
  let shared = 0;
  fc.assert(
    fc.property(programs, ({ program, donated }) => {
      const { types, placeOf } = placeValues(program, (at) => donated[at]!);
      // Runs the program on the names of values.
      const memory: (number | undefined)[] = [];
      const write = (value: number) => {
        expect(types[placeOf[value]!]!.shape).toEqual(program.values[value]!.shape);
        memory[placeOf[value]!] = value;
      };
      const read = (value: number) => expect(memory[placeOf[value]!]).toBe(value);
      for (const { value } of program.params) write(value);
      for (const [at, { params, results, exchanges }] of program.pieces.entries()) {
        params.forEach(read);
        // A piece may write any result before it has read its parameters to the end, but for those it was given for it.
        for (const [i, value] of results.entries()) {
          const param = params[donated[at]![i] ?? -1];
          const readers = params.filter((each) => placeOf[each] === placeOf[value]);
          expect(readers.filter((each) => each !== param)).toEqual([]);
        }
        results.forEach(write);
        for (const { operand } of exchanges) if (operand !== null) read(operand);
        for (const { operand, result } of exchanges) {
          expect(exchanges.map((each) => placeOf[each.operand ?? -1])).not.toContain(placeOf[result!]);
          expect(operand).not.toBe(result);
          write(result!);
        }
      }
      program.results.forEach(read);
      // What lives from step to step is nobody else's, but for what a piece leaves there.
      const inPlace = program.pieces.flatMap(({ results }, at) => results.filter((_, i) => donated[at]![i] !== null));
      for (const [value, place] of placeOf.entries()) {
        const held = program.params.some((each) => each.value !== value && placeOf[each.value] === place);
        if (held) expect(inPlace).toContain(value);
      }
      if (types.length < program.values.length) shared++;
    }),
    { numRuns: 500 },
  );
  expect(shared).toBeGreaterThan(100);
});

test("layers after each other need no more memory than two of them", () => {
  const layers = 20;
  const program: Pieces = {
    values: Array.from({ length: 2 * layers + 1 }, () => tensorType("f32", [16])),
    params: [{ name: "x", value: 0 }],
    results: [2 * layers],
    pieces: Array.from({ length: layers }, (_, i) => ({
      module: null,
      params: [2 * i],
      results: [2 * i + 1],
      exchanges: [{ node, operand: 2 * i + 1, result: 2 * i + 2 }],
    })),
  };
  // The parameter, one layer's input, its output before the exchange and after it.
  expect(placeValues(program, () => [null]).types.length).toBeLessThanOrEqual(4);
});

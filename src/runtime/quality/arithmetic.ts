/** The arithmetic test: of two hundred sums and differences below 50, how many does a model get right? */
import type { Model } from "../model.ts";
import { uniformAt } from "../sampling/random.ts";

export interface Exercise {
  readonly question: string;
  /** As the answer ends: "= 42". */
  readonly answer: string;
}

/** Sums and differences in turn, operands and results from 0 to 49; the same ones for the same seed. */
export function arithmeticExercises(count = 200, seed = 1): Exercise[] {
  let drawn = 0;
  const below = (limit: number) => Math.floor(uniformAt(seed, drawn++) * limit);
  return Array.from({ length: count }, (_, i) => {
    const larger = 1 + below(49);
    const part = below(larger + 1);
    const [a, sign, b, c] = i % 2 === 0 ? [larger - part, "+", part, larger] : [larger, "-", part, larger - part];
    return { question: `What is ${a} ${sign} ${b}?`, answer: `= ${c}` };
  });
}

/** The share of exercises whose greedy answer has the right number. */
export async function arithmeticShare(
  model: Model,
  exercises: readonly Exercise[] = arithmeticExercises(),
): Promise<number> {
  const right = await Promise.all(
    exercises.map(async ({ question, answer }) => {
      const options = { temperature: 0, maxTokens: 32 };
      const { text } = await model.chat([{ role: "user", content: question }], options).collect();
      return new RegExp(`${answer}(?!\\d)`).test(text);
    }),
  );
  return right.filter(Boolean).length / exercises.length;
}

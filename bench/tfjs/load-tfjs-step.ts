/**
 * The tfjs step on tfjs's ES2017 modules, which a bundler would take, instead of the ES5 scripts that Node takes by
 * default: decoding is 1.05 to 1.25 times faster. A resolve hook chooses them; so this module is imported, never the step.
 */
import { createRequire, registerHooks } from "node:module";

const builds: ReadonlyMap<string, string> = new Map(
  ["core", "backend-cpu"].map((part) => [
    `@tensorflow/tfjs-${part}`,
    new URL(`node_modules/@tensorflow/tfjs-${part}/dist/tf-${part}.fesm.js`, import.meta.url).href,
  ]),
);
registerHooks({
  resolve: (specifier, context, next) => next(builds.get(specifier) ?? specifier, context),
});
// In Node the modules ask for `util` by a global require.
Object.assign(globalThis, { require: createRequire(import.meta.url) });

export const { createTfjsModel, fastestVariant } = await import("./tfjs-step.ts");
export const tf = await import("@tensorflow/tfjs-core");

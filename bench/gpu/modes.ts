/** The modes of this benchmark: what `main.ts` can be told to do. */
import { allMode } from "./all.ts";
import { browserMode } from "./browser.ts";
import { choiceMode } from "./choice.ts";
import { decodeMode } from "./decode.ts";
import { goldensMode } from "./goldens.ts";
import { llamaMode } from "./llama.ts";
import { meshMode } from "./mesh.ts";
import type { Mode } from "./mode.ts";
import { productsMode } from "./products.ts";
import { transformersMode } from "./transformers.ts";
import { unitsMode } from "./units.ts";

export const modes: readonly Mode[] = [
  goldensMode,
  decodeMode,
  productsMode,
  unitsMode,
  meshMode,
  choiceMode,
  browserMode,
  llamaMode,
  transformersMode,
  allMode,
];

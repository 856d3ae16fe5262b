/** A recipe that a mesh can follow. */
import { InputError, showValue, UnsupportedError } from "../../ir/errors.ts";
import { isRecipe, type Recipe, recipeOf } from "../../recipe.ts";
import type { DeployOptions } from "./deploy-options.ts";

/**
 * A recipe's choices as options; those of the call go before them.
 *
 * @throws InputError for what is no path, UnsupportedError for recipes that prune, choose fusion or hardware
 */
export function deployable(
  model: string | Recipe<string>,
  options: DeployOptions,
): { readonly path: string; readonly options: DeployOptions } {
  const path: unknown = isRecipe(model) ? model.source : model; // as programs that no compiler has checked may have it
  if (typeof path !== "string" || path === "") {
    throw new InputError("shardAndDeploy", `expected the path of a model's folder, got ${showValue(path)}`);
  }
  const { choices } = recipeOf(model);
  const refused = (["prune", "fuse", "hardware"] as const).filter((each) => choices[each] !== undefined);
  if (refused.length > 0) {
    throw new UnsupportedError(
      "shardAndDeploy",
      `takes recipes that quantise, and this one has ${refused.join(" and ")}`,
      {
        hint: refused.includes("prune")
          ? "A model that is divided has all of its weights; loadModel(prune(folder, ...)) runs a pruned one on one device."
          : "What each device computes with are the options backend and compile.",
      },
    );
  }
  const { quantize } = choices;
  return { path, options: quantize === undefined ? options : { quantize, ...options } };
}

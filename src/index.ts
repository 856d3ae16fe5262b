/** The public API of ciuic. */
export type { Compiled, CompileOptions, CompileReport, Executable, QuantizeOptions } from "./compile.ts";
export { compile, compileToPlan, type RecipeOptions } from "./compile-recipe.ts";
export { type Maths, maths } from "./ir/build.ts";
export { CompilerError, InputError, InternalError, IrError, UnsupportedError } from "./ir/errors.ts";
export { Builder, type Func, type Module, makeModule, type Node, named } from "./ir/graph.ts";
export { interpret } from "./ir/interpret.ts";
export { printKernel } from "./ir/kernel/print.ts";
export { parseModule } from "./ir/parse.ts";
export { type Plan, printPlan } from "./ir/plan.ts";
export { printModule } from "./ir/print.ts";
export { type Tensor, tensorFrom, tensorOf, valuesOf } from "./ir/tensor.ts";
export type { DType, Shape, TensorType } from "./ir/types.ts";
export { verifyModule } from "./ir/verify.ts";
export { type ModelConfig, parseModelConfigText } from "./models/deepseek/config.ts";
export { buildModel } from "./models/deepseek/model.ts";
export { type DeviceSpec, devices, type LinkSpec, links } from "./plan/hardware.ts";
export { type BackendLimits, type MemoryTable, memoryTable } from "./plan/memory-table.ts";
export { type Plan as DeploymentPlan, type PlanRequest, planDeployment } from "./plan/plan.ts";
export { sizesOfConfig, sizesOfHeaders, type WeightSizes } from "./plan/weight-groups.ts";
export {
  fuse,
  type HardwareWish,
  optimizeFor,
  prune,
  type QuantizeWish,
  quantize,
  type Recipe,
  type RecipeStep,
} from "./recipe.ts";
export type { GeneratedPart, GenerateOptions, GenerationResult } from "./runtime/engine/generate.ts";
export type { Generation } from "./runtime/engine/generation.ts";
export { type LoadOptions, type LoadProgress, loadModel } from "./runtime/load-model.ts";
export { type DeployOptions, shardAndDeploy } from "./runtime/mesh/shard-and-deploy.ts";
export type { ChatOptions, Model } from "./runtime/model.ts";
export type { BackendProbe, Figures } from "./runtime/probe/backend-probe.ts";
export { chooseTarget } from "./runtime/probe/choose-target.ts";
export { type ProbeOptions, type ProbeReport, probe } from "./runtime/probe/probe.ts";
export type { TargetCandidate, TargetChoice, WantedTarget } from "./runtime/probe/target-choice.ts";
export { type ComparedScores, compareWindows, type Scores, scoreWindows } from "./runtime/quality/evaluate.ts";
export type { InputScales } from "./runtime/quality/input-scales.ts";
export { type BenchOptions, type BenchReport, benchModel } from "./runtime/report/bench-model.ts";
export {
  type OptimizationSummary,
  optimizationSummary,
  type SummaryOptions,
} from "./runtime/report/optimization-summary.ts";
export { showSummary } from "./runtime/report/summary-text.ts";
export type { ChatMessage } from "./runtime/text/chat-template.ts";
export type { Tokenizer } from "./runtime/text/tokenizer.ts";
export type { ByteSource, ModelFolder } from "./runtime/weights/byte-source.ts";
export { type Pruning, parsePruning, showPruning } from "./runtime/weights/pruning-file.ts";

/**
 * The parts of @huggingface/jinja that are used, with types: its own declarations import files without extensions, which
 * TypeScript does not resolve in ES modules, so that everything imported from it is untyped.
 */
import * as library from "@huggingface/jinja";

/** A value of the template language. */
export interface RuntimeValue {
  /** "StringValue", "ArrayValue", "ObjectValue", "NamespaceValue", "FunctionValue", … */
  readonly type: string;
  /** A string, number, boolean, null, an array or a Map of runtime values, or a function. */
  readonly value: unknown;
}

/** A statement or expression; its other fields depend on the type. */
export interface SyntaxNode {
  readonly type: string;
}

export interface Environment {
  /** Declares a variable, its value converted from JavaScript's. */
  set(name: string, value: unknown): unknown;
}

export interface Interpreter {
  run(program: SyntaxNode): RuntimeValue;
  /** Evaluates a statement or expression; it calls itself for all parts. */
  evaluate(statement: SyntaxNode | undefined, environment: Environment): RuntimeValue;
}

export const Environment: new () => Environment = library.Environment;
export const Interpreter: new (environment: Environment) => Interpreter = library.Interpreter;
export const tokenize: (
  source: string,
  options: { trim_blocks: boolean; lstrip_blocks: boolean },
) => readonly unknown[] = library.tokenize;
export const parse: (tokens: readonly unknown[]) => SyntaxNode = library.parse;
